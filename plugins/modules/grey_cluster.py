#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the members of a cluster's engine, or of the federation store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_cluster
short_description: Members of a cluster's engine or of the federation store
version_added: 0.2.0
description:
  - Waits until the host's member is part of a healthy majority, takes new members in, lets them vote and removes members.
  - A new member is taken in as a learner, which does not count for the majority, and votes once it has caught up.
  - Never more than one change at a time, and never below a majority of members that can be reached. C(greyd) refuses it.
  - It asks the member on the host where it runs. Delegate it to a host whose member is well.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
  - grey.distributed.greyd
attributes:
  check_mode:
    support: partial
    details: With O(state=healthy), check mode asks nobody, because before the first run there is nobody to ask.
options:
  state:
    description:
      - V(healthy) waits until a majority is healthy and the host's own member is part of it. From then on the host
        remembers that it is one, so that it never starts with empty data again.
      - V(admitted) takes the host O(name) in, which has no data yet, and returns what it has to begin with.
      - V(voting) lets the learner O(name) vote, once it has caught up.
      - V(absent) removes the O(members), one after the other; members that are gone already count as removed.
      - V(forgotten) moves the data of the host's former member aside, so that the host can join anew.
      - V(spared) changes nothing. It refuses unless a majority answers while the member O(name) restarts.
    type: str
    choices: [healthy, admitted, voting, absent, forgotten, spared]
    default: healthy
  group:
    description: Whose members, those of the cluster's engine or those of the federation store.
    type: str
    choices: [engine, federation-store]
    required: true
  members:
    description:
      - Members by name, with the address and port that they talk with each other at.
      - With O(state=admitted) all that there should be; the module refuses when the group has others.
      - With O(state=absent) those to remove.
    type: dict
    default: {}
  name:
    description: The member to take in, to let vote, or to restart.
    type: str
  only_lost:
    description: With O(state=absent), whether members that answer stay.
    type: bool
    default: false
  token:
    description: What tells this group from every other one. Needed with O(state=admitted).
    type: str
  wait:
    description: How many seconds to wait for a healthy majority, or for a learner that catches up.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Wait for the federation store
  grey.distributed.grey_cluster:
    group: federation-store
    greyd: /opt/grey/current/bin/greyd
    config: /etc/grey/grey.yaml
    user: grey

- name: Take a host into the engine of its cluster
  grey.distributed.grey_cluster:
    state: admitted
    group: engine
    name: aws-east-4
    members: {aws-east-1: "192.0.2.11:2390", aws-east-2: "192.0.2.12:2390", aws-east-4: "192.0.2.14:2390"}
    token: global-grey-aws-east
    greyd: /opt/grey/current/bin/greyd
    config: /etc/grey/grey.yaml
    user: grey
  delegate_to: aws-east-1

- name: Remove a dead member
  grey.distributed.grey_cluster:
    state: absent
    group: engine
    members: {aws-east-3: "192.0.2.13:2390"}
    greyd: /opt/grey/current/bin/greyd
    config: /etc/grey/grey.yaml
    user: grey
  delegate_to: aws-east-1
"""

RETURN = r"""
healthy:
  description: Whether a majority is healthy; null in check mode.
  returned: with O(state=healthy)
  type: bool
  sample: true
members:
  description: What each member answered.
  returned: with O(state=healthy)
  type: list
  elements: dict
kept:
  description: The members that answer and were not removed for it.
  returned: with O(state=absent)
  type: list
  elements: str
  sample: []
moved:
  description: The files and folders that were moved aside.
  returned: with O(state=forgotten)
  type: list
  elements: str
  sample: []
bootstrap:
  description: The content of the new member's bootstrap file.
  returned: with O(state=admitted)
  type: dict
  sample: {state: existing, token: global-grey-aws-east, members: {aws-east-1: "192.0.2.11:2390"}}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _node
from ansible_collections.grey.distributed.plugins.module_utils._cluster import GROUPS, Cluster
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError, Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    cluster = Cluster(params["greyd"], params["config"], params["group"], user=params["user"], check=check)
    name, members = params["name"], params["members"]
    if params["state"] == "healthy":
        return cluster.healthy(params["wait"])
    if params["state"] == "absent":
        return cluster.remove(members, only_lost=params["only_lost"])
    if params["state"] == "forgotten":
        return cluster.forget()
    if params["state"] == "spared":
        return cluster.spare(name)
    if params["state"] == "voting":
        return cluster.promote(name, params["wait"])
    if name not in members:
        raise GreyError(f"members: wanted {name} among them, found {', '.join(members) or 'none'}")
    return cluster.admit(members, name, params["token"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["healthy", "admitted", "voting", "absent", "forgotten", "spared"],
                "default": "healthy",
            },
            "group": {"type": "str", "choices": list(GROUPS), "required": True},
            "members": {"type": "dict", "default": {}},
            "name": {"type": "str"},
            "only_lost": {"type": "bool", "default": False},
            "token": {"type": "str", "no_log": False},  # tells etcd clusters apart, opens nothing
            **_node.GREYD_OPTIONS,
            "wait": {"type": "float", "default": 60},
        },
        required_if=[
            ("state", "admitted", ("name", "token", "members")),
            ("state", "voting", ("name",)),
            ("state", "spared", ("name",)),
            ("state", "absent", ("members",)),
        ],
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
