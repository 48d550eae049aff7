# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every module that runs greyd on a host (``_node.GREYD_OPTIONS``)."""

from __future__ import annotations


class ModuleDocFragment:
    """Which greyd, for which node, as whom."""

    DOCUMENTATION = r"""
options:
  greyd:
    description: The greyd program.
    type: path
    required: true
  config:
    description: The node's file.
    type: path
    required: true
  user:
    description:
      - The user of the service, as whom greyd runs, so that what it makes is that user's.
      - Empty for the one who connects.
    type: str
    default: ""
"""
