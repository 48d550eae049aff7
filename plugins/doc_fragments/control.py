# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every module that asks a federation through grey-ctl (``_node.CONTROL_OPTIONS``)."""

from __future__ import annotations


class ModuleDocFragment:
    """Which federation, and with what."""

    DOCUMENTATION = r"""
options:
  grey_ctl:
    description: The grey-ctl program.
    type: path
    default: grey-ctl
  config:
    description: The file of grey-ctl that names the federation and the operator's certificate.
    type: path
    required: true
  federation:
    description: The federation's name.
    type: str
    required: true
"""
