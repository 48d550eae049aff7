#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: a node's empty data store and identity."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_node
short_description: Make a node's empty data store and its identity, once
version_added: 0.1.0
description:
  - Runs C(greyd init), which does nothing on a host that has both, finishes an interrupted first try, and refuses a host
    whose identity is there but whose data is gone, or whose data belongs to another node.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
  - grey.distributed.greyd
options:
  state:
    description:
      - V(present) makes what is missing.
      - V(readable) only requires that O(greyd), of whatever release, can read O(config) and the federation file that it names, and
        changes nothing.
    type: str
    choices: [present, readable]
    default: present
"""

EXAMPLES = r"""
- name: Make the data store
  grey.distributed.grey_node:
    greyd: /opt/grey/current/bin/greyd
    config: /etc/grey/grey.yaml
    user: grey

- name: See whether an older release can read the present configuration
  grey.distributed.grey_node:
    state: readable
    greyd: /opt/grey/releases/0.2.0-1a2b3c4d/bin/greyd
    config: /etc/grey/grey.yaml
    user: grey
"""

RETURN = r"""
data_id:
  description: The identity of the data; null in check mode when there is none yet.
  returned: success, with O(state=present)
  type: str
  sample: 5f0c3a52d1e84c7d
refused:
  description: Whether the state on the host was refused.
  returned: when the state on the host was refused
  type: bool
  sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _node
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    if params["state"] == "readable":
        return _node.readable(params["greyd"], params["config"], user=params["user"])
    return _node.init(params["greyd"], params["config"], check=check, user=params["user"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "readable"], "default": "present"},
            **_node.GREYD_OPTIONS,
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
