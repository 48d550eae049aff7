#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the health of the federation store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_federation_store
short_description: Wait until the federation store is healthy
version_added: 0.1.0
description:
  - Asks all members over mutual TLS until a majority answers, has a leader, and the host's own member is part of it.
  - From then on the host remembers that its member is one, so that it never starts with empty data again.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
attributes:
  check_mode:
    support: partial
    details: Check mode asks nobody, because before the first run there is nobody to ask.
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
    description: Whom greyd runs as, so that what it makes is that user's; empty for the one who connects.
    type: str
    default: ""
  wait:
    description: How many seconds to wait for a healthy majority.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Wait for the federation store
  grey.distributed.grey_federation_store:
    greyd: /opt/grey/current/bin/greyd
    config: /etc/grey/grey.yaml
    user: grey
    wait: 30
"""

RETURN = r"""
healthy:
  description: Whether a majority is healthy; null in check mode.
  returned: success
  type: bool
  sample: true
members:
  description: What each member answered.
  returned: always
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _node
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    return _node.store_health(
        params["greyd"], params["config"], wait_seconds=params["wait"], check=check, user=params["user"]
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "greyd": {"type": "path", "required": True},
            "config": {"type": "path", "required": True},
            "user": {"type": "str", "default": ""},
            "wait": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
