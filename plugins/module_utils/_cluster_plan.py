# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which etcd groups begin anew, and which hosts join one that exists. Pure.

A group (the federation store, the engine of a cluster) may begin only once: hosts that would begin it a
second time, beside a member that merely cannot be asked now, would make a second history of the same data. So
all hosts must have been asked: one that is silent may be the only one that a group had before it grew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEMBER = "member"
LEAST_HEARTBEAT_MS = 100
MOST_HEARTBEAT_MS = 5000
_STEP_MS = 50


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
    group that exists, a host with a member of it. ``unmeasured``: groups of several hosts that begin with the
    least heartbeat, because no round trip between them could be measured.
    """

    begins: dict[str, dict[str, Any]] = field(default_factory=dict)
    joins: dict[str, dict[str, str]] = field(default_factory=dict)
    living: dict[str, str] = field(default_factory=dict)
    unmeasured: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rhythm:
    """What a host without data says of a group: the longest round trip to its other hosts, None when not one
    of them could be measured, and the heartbeat that an interrupted run told it already.
    """

    round_trip_ms: float | None = None
    heartbeat_ms: int | None = None


def decide(
    groups: list[Group],
    markers: Mapping[str, Mapping[str, str | None]],
    rhythms: Mapping[str, Mapping[str, Rhythm]],
) -> Plan:
    """Decide for every group, from what the markers of the hosts that can be reached say.

    ``markers`` has for each host that was asked, and each group, the state in its marker or None; a host that
    is not in it could not be asked. ``rhythms`` has by host and group what those say that have no data. Fails
    when it cannot be told whether a group exists.
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
            said = [rhythms[host][group.name] for host in asked if group.name in rhythms.get(host, {})]
            plan.begins[group.name] = {
                "state": "new",
                "token": group.token,
                "members": dict(group.members),
                "heartbeat": f"{heartbeat_ms(said)}ms",
            }
            if len(asked) > 1 and said and all(each == Rhythm() for each in said):
                plan.unmeasured.append(group.name)
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


def heartbeat_ms(said: Sequence[Rhythm]) -> int:
    """Return the heartbeat of a group that begins: about its longest round trip, which is etcd's own advice.

    What one of its hosts was told already stands: members that started in an interrupted run go by it.
    """
    told = [each.heartbeat_ms for each in said if each.heartbeat_ms is not None]
    if told:
        return max(told)
    longest = max((each.round_trip_ms for each in said if each.round_trip_ms is not None), default=0.0)
    stepped = math.ceil(longest / _STEP_MS) * _STEP_MS
    return min(max(stepped, LEAST_HEARTBEAT_MS), MOST_HEARTBEAT_MS)
