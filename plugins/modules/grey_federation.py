#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: wait until a federation is as it should be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_federation
short_description: Wait until a federation serves, or prove that it does
version_added: 0.2.0
description:
  - Goes on once the federation is in a state, or fails with what is missing; M(grey.distributed.grey_federation_info) only
    looks.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes.read_only
  - grey.distributed.control
options:
  state:
    description:
      - V(online) waits for a primary, and until the O(clusters) are online and ready to serve.
      - V(verified) writes a canary through the primary, waits until every cluster shows it, and removes it. Check mode writes
        nothing.
    type: str
    choices: [online, verified]
    default: online
  clusters:
    description: With O(state=online), the clusters that must be online.
    type: list
    elements: str
    default: []
  wait:
    description: How many seconds to wait; with O(state=verified), how long a cluster may take to show the write.
    type: float
    default: 30
  table:
    description: Whether to return the status table that people read, too.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Wait for a primary and for two clusters
  grey.distributed.grey_federation:
    config: /srv/grey/controller/ctl.yaml
    federation: global-grey
    clusters: [aws-east, gcp-west]
    wait: 60
  delegate_to: localhost
  run_once: true

- name: Write through the primary and read on every other cluster
  grey.distributed.grey_federation:
    state: verified
    config: /srv/grey/controller/ctl.yaml
    federation: global-grey
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
status:
  description: The status document of the control plane.
  returned: O(state=online)
  type: dict
  sample: {federation: global-grey, epoch: 1, primary: aws-east}
clusters:
  description: A row per cluster with the milliseconds until it showed the write; empty in check mode.
  returned: O(state=verified)
  type: list
  elements: dict
table:
  description: The status table, when asked for, else an empty text; empty in check mode of O(state=verified).
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _node
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    control = _node.Control(params["grey_ctl"], params["config"], params["federation"])
    values: dict[str, Any]
    if params["state"] == "online":
        values = {"status": control.status(online=params["clusters"], wait_seconds=params["wait"])}
    elif check:
        return Outcome({"clusters": [], "table": ""})
    else:
        values = {"clusters": control.verify(wait_seconds=params["wait"])}
    return Outcome({**values, "table": control.table() if params["table"] else ""})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **_node.CONTROL_OPTIONS,
            "state": {"type": "str", "choices": ["online", "verified"], "default": "online"},
            "clusters": {"type": "list", "elements": "str", "default": []},
            "wait": {"type": "float", "default": 30},
            "table": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
