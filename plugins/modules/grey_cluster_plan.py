#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: which etcd groups begin anew, and which hosts join one that exists."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_cluster_plan
short_description: Decide which etcd groups begin anew, and which hosts join one that exists
version_added: 0.2.0
description:
  - Decides from what the hosts remember of their members, for the federation store and for the engine of each cluster.
  - A group begins only when all of its hosts were asked and none of them remembers it. Otherwise nobody can say whether it
    exists, and the module refuses.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes.read_only
options:
  groups:
    description: The groups.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The group's name.
        type: str
        required: true
      token:
        description: What tells it from every other group.
        type: str
        required: true
      members:
        description: All its hosts in the inventory, with the address and port that they talk with each other at.
        type: dict
        required: true
  markers:
    description:
      - By host, and then by group, what the marker there says, or null when there is none.
      - Hosts that could not be asked must not be in it.
    type: dict
    required: true
  rhythms:
    description:
      - By host, and then by group, what M(grey.distributed.grey_preflight) returned of hosts without data as C(rhythms).
      - A group begins with a heartbeat of about the longest round trip between its hosts, 100 ms at least.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Decide who begins and who joins
  grey.distributed.grey_cluster_plan:
    groups:
      - name: engine-aws-east
        token: global-grey-aws-east
        members: {aws-east-1: "192.0.2.11:2390", aws-east-2: "192.0.2.12:2390"}
    markers:
      aws-east-1: {engine-aws-east: member}
      aws-east-2: {engine-aws-east: null}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
begins:
  description: The groups that do not exist yet, with what all their hosts begin with.
  returned: success
  type: dict
  sample: {}
unmeasured:
  description: The groups of several hosts that begin with a heartbeat of 100 ms because no round trip between them is known.
  returned: success
  type: list
  elements: str
  sample: []
joins:
  description: By host, the groups it joins, each with a host whose member can take it in.
  returned: success
  type: dict
  sample: {aws-east-2: {engine-aws-east: aws-east-1}}
living:
  description: By group that exists, a host with a member of it.
  returned: success
  type: dict
  sample: {engine-aws-east: aws-east-1}
"""

import dataclasses
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _cluster_plan
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:  # noqa: ARG001 (nothing is changed in either mode)
    """Do what the module is for."""
    groups = [_cluster_plan.Group(**group) for group in params["groups"]]
    rhythms = {
        host: {group: _cluster_plan.Rhythm(**said) for group, said in by_group.items()}
        for host, by_group in params["rhythms"].items()
    }
    plan = _cluster_plan.decide(groups, params["markers"], rhythms)
    warnings = [
        f"{name}: wanted to measure the round trip between its hosts before it begins, found no answer at their "
        f"peer ports ({', '.join(plan.begins[name]['members'].values())}); it begins with a heartbeat of "
        f"{plan.begins[name]['heartbeat']}. Open the ports, or set "
        f"grey_{'federation_store' if name == 'federation-store' else 'engine'}_heartbeat_ms"
        for name in plan.unmeasured
    ]
    return Outcome({**dataclasses.asdict(plan), **({"warnings": warnings} if warnings else {})})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "groups": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    # Tells etcd clusters apart, opens nothing.
                    "token": {"type": "str", "required": True, "no_log": False},
                    "members": {"type": "dict", "required": True},
                },
            },
            "markers": {"type": "dict", "required": True},
            "rhythms": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
