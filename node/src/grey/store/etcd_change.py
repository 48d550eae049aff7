# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes an etcd group's members: looks, decides, does one step, and looks again, until it is as wanted.

A call whose outcome is unknown is not repeated blindly: the next look shows it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from grey.link.etcd_fault import MemberFault
from grey.link.etcd_group import GroupMember
from grey.store import etcd_membership as membership
from grey.store.etcd_membership import Add, ChangeRefused, Nothing, Promote, Remove, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.link.etcd_group import Group, View
    from grey.store.etcd_membership import Step

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.25

SETTLE_SECONDS = 15.0
"""etcd takes changes only when its members were connected for five seconds, and after an election."""

# Not carried out: it is asked again until the time is over.
_NOT_YET = frozenset(
    {
        "etcdserver: can only promote a learner member which is in sync with leader",
        "etcdserver: unhealthy cluster",
        "etcdserver: re-configuration failed due to not enough started members",
        "etcdserver: no leader",
        "etcdserver: too many requests",
    }
)
# Somebody else was quicker, or an earlier call was carried out: the next look shows which.
_LOOK_AGAIN = frozenset(
    {
        "etcdserver: Peer URLs already exists",
        "etcdserver: member ID already exist",
        "etcdserver: can only promote a learner member",
        "etcdserver: member not found",
    }
)


class Changed(msgspec.Struct, frozen=True):
    """What the commands print."""

    changed: bool
    members: tuple[GroupMember, ...]


async def add(
    group: Group, name: str, peer: str, *, command: str, wait_seconds: float = SETTLE_SECONDS
) -> Changed:
    """Take a member in as a learner. Raises ChangeRefused, MemberFault."""
    return await _until(
        group, lambda view: membership.decide_add(view, name, peer, command=command), wait_seconds
    )


async def promote(group: Group, name: str, *, wait_seconds: float) -> Changed:
    """Let a learner vote as soon as it has caught up. Raises ChangeRefused, MemberFault."""
    return await _until(group, lambda view: membership.decide_promote(view, name), wait_seconds)


async def remove(
    group: Group, *, name: str | None, peer: str | None, wait_seconds: float = SETTLE_SECONDS
) -> Changed:
    """Let a member go. Raises ChangeRefused, MemberFault."""
    done = await _until(
        group, lambda view: membership.decide_remove(view, name=name, peer=peer), wait_seconds
    )
    try:
        await group.lift_alarms(done.members)
    except MemberFault as fault:
        _log.warning("whether the member left an alarm is not known, remove it again to see: %s", fault)
    return done


async def _until(group: Group, decide: Callable[[View], Step], wait_seconds: float) -> Changed:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    changed = False
    while True:
        view = await group.look()
        step = decide(view)
        if isinstance(step, Nothing):
            return Changed(changed, view.members)
        why = step.why if isinstance(step, Wait) else None
        if why is None:
            try:
                await _do(group, step)
            except MemberFault as fault:
                if fault.carried_out is False and fault.said not in _NOT_YET | _LOOK_AGAIN:
                    raise ChangeRefused(f"etcd refused it: {fault}") from fault
                why = str(fault)
                changed = changed or (fault.carried_out is None and fault.said not in _NOT_YET)
            else:
                why = "etcd took the change, but does not show it yet"
                if isinstance(step, Remove):  # the member here may have been the one
                    left = tuple(each for each in view.members if each.id != step.member.id)
                    return Changed(changed=True, members=left)
                changed = True
        if loop.time() >= deadline:
            raise ChangeRefused(f"not within {wait_seconds:g} s: {why}")
        await asyncio.sleep(POLL_SECONDS)


async def _do(group: Group, step: Step) -> None:
    match step:
        case Add(peer):
            await group.add_learner(peer)
        case Promote(member):
            await group.promote(member)
        case Remove(member, successor):
            if successor is not None:
                await _hand_over(group, member, successor)
            await group.remove(member)


async def _hand_over(group: Group, leader: GroupMember, successor: GroupMember) -> None:
    """Move leadership first: it takes milliseconds, where the others would have to miss the leader."""
    try:
        if await group.move_leader(leader, successor):
            _log.info("%s leads instead of %s", successor.name, leader.name)
    except MemberFault as fault:
        _log.warning("leadership was not handed over, the others will elect: %s", fault)
