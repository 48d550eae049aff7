#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: a write seen by every cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_federation_verify
short_description: Write through the primary and read on every other cluster
version_added: 0.1.0
description:
  - Runs C(grey-ctl federation verify), which writes a canary, waits until every cluster shows it, and removes it.
  - Check mode writes nothing.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes.read_only
  - grey.distributed.control
options:
  wait:
    description: How many seconds a cluster may take to show the write.
    type: float
    default: 30
  table:
    description: Whether to return the status table that people read, too.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Verify the federation
  grey.distributed.grey_federation_verify:
    config: /srv/grey/controller/ctl.yaml
    federation: global-grey
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
clusters:
  description: A row per cluster with the milliseconds until it showed the write; empty in check mode.
  returned: success
  type: list
  elements: dict
table:
  description: The status table, when asked for, else an empty text; empty in check mode.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _node
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    if check:
        return Outcome({"clusters": [], "table": ""})
    control = _node.Control(params["grey_ctl"], params["config"], params["federation"])
    rows = control.verify(wait_seconds=params["wait"])
    return Outcome({"clusters": rows, "table": control.table() if params["table"] else ""})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **_node.CONTROL_OPTIONS,
            "wait": {"type": "float", "default": 30},
            "table": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
