# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which etcd groups begin anew, and which hosts join one that exists. Pure.

A group (the federation store, the engine of a cluster) may begin only once: hosts that would begin it a
second time, beside a member that merely cannot be asked now, would make a second history of the same data. So
all hosts must have been asked: one that is silent may be the only one that a group had before it grew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMBER = "member"


@dataclass(frozen=True)
class Group:
    """A group of etcd members: all its hosts in the inventory, and where they talk with each other.

    ``token`` tells it from every other group.
    """

    name: str
    token: str
    members: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """``begins``: groups that do not exist yet, with the bootstrap content for all their hosts.

    ``joins``: by host, the groups it joins, each with a host that can be asked to take it in. ``living``: by
    group that exists, a host with a member of it.
    """

    begins: dict[str, dict[str, Any]] = field(default_factory=dict)
    joins: dict[str, dict[str, str]] = field(default_factory=dict)
    living: dict[str, str] = field(default_factory=dict)


def decide(groups: list[Group], markers: Mapping[str, Mapping[str, str | None]]) -> Plan:
    """Decide for every group, from what the markers of the hosts that can be reached say.

    ``markers`` has for each host that was asked, and each group, the state in its marker or None; a host that
    is not in it could not be asked. Fails when it cannot be told whether a group exists.
    """
    plan = Plan()
    faults = []
    for group in groups:
        asked = {host: markers[host].get(group.name) for host in group.members if host in markers}
        living = [host for host, state in asked.items() if state == MEMBER]
        fresh = [host for host, state in asked.items() if state != MEMBER]
        if living:
            plan.living[group.name] = living[0]
            for host in fresh:
                plan.joins.setdefault(host, {})[group.name] = living[0]
        elif len(asked) == len(group.members):
            plan.begins[group.name] = {"state": "new", "token": group.token, "members": dict(group.members)}
        elif fresh:
            silent = sorted(set(group.members) - set(asked))
            faults.append(
                f"{group.name}: wanted to know whether it exists before {', '.join(fresh)} begin it or join "
                f"it, found no answer from {', '.join(silent)}; run it for all hosts (without --limit) when "
                "they can be reached, or take those that are gone for good out of the inventory"
            )
    if faults:
        raise GreyError("nothing was started\n" + "\n".join(faults))
    return plan
