# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of an etcd group as one of them knows them, and the calls that change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from grey.link.etcd import NEEDS_LEADER, rpc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grey.link.etcd import Member, Stubs

_SCHEME = "https://"


class GroupMember(msgspec.Struct, frozen=True):
    """A member of a group. ``id`` is in hexadecimal; ``name`` is None until it ran for the first time.

    ``peer`` is ``ADDRESS:PORT``; a ``learner`` copies the data and does not vote yet.
    """

    name: str | None
    id: str
    peer: str
    learner: bool
    reachable: bool
    leader: bool

    @property
    def number(self) -> int:
        """The id as etcd's messages have it."""
        return int(self.id, 16)


class View(msgspec.Struct, frozen=True):
    """A group at one moment. ``problem`` says why its members cannot be changed now, None when they can."""

    members: tuple[GroupMember, ...]
    problem: str | None


class Group(Protocol):
    """How the members of a group are asked and changed. All methods raise MemberFault."""

    async def look(self) -> View:
        """Return the members, as of this call when ``problem`` is None."""
        ...

    async def add_learner(self, peer: str) -> None:
        """Take in a member that copies the data and does not vote."""
        ...

    async def promote(self, member: GroupMember) -> None:
        """Let a learner vote."""
        ...

    async def move_leader(self, leader: GroupMember, to: GroupMember) -> bool:
        """Hand leadership over; say whether the leader could be asked to."""
        ...

    async def remove(self, member: GroupMember) -> None:
        """Let a member go."""
        ...

    async def lift_alarms(self, members: Iterable[GroupMember]) -> None:
        """Lift the space alarms of all but these: those that left would stop the writes for ever."""
        ...


class Answer(msgspec.Struct, frozen=True):
    """What one member says of itself and of the group. Ids are numbers, 0 for "none"."""

    own_id: int
    leader_id: int
    applied: int
    learner: bool
    listed: Any


async def ask(member: Member, timeout_seconds: float) -> Answer:
    """Ask a member for its state, and who the members are; needs no majority. Raises MemberFault.

    A learner does not tell the members: ``listed`` is None then.
    """

    async def call(stubs: Stubs, seconds: float) -> Answer:
        asked = stubs.cluster.MemberList(rpc.MemberListRequest(), timeout=seconds)
        status = await stubs.maintenance.Status(rpc.StatusRequest(), timeout=seconds)
        if status.isLearner:
            asked.cancel()
            listed = None
        else:
            listed = tuple((await asked).members)
        return Answer(
            status.header.member_id, status.leader, status.raftAppliedIndex, status.isLearner, listed
        )

    return await member.ask(call, timeout_seconds=timeout_seconds)


async def catch_up(member: Member, timeout_seconds: float) -> None:
    """Return once the member knows all that was agreed on before; raises MemberFault without a majority."""

    async def call(stubs: Stubs, seconds: float) -> None:
        request = rpc.RangeRequest(key=b"\0", limit=1, keys_only=True)
        await stubs.kv.Range(request, timeout=seconds, metadata=NEEDS_LEADER)

    await member.ask(call, timeout_seconds=timeout_seconds)


async def add_learner(member: Member, peer: str, timeout_seconds: float) -> None:
    """Ask a member to take another one in. Raises MemberFault."""

    async def call(stubs: Stubs, seconds: float) -> None:
        request = rpc.MemberAddRequest(peerURLs=[_SCHEME + peer], isLearner=True)
        await stubs.cluster.MemberAdd(request, timeout=seconds, metadata=NEEDS_LEADER)

    await member.ask(call, timeout_seconds=timeout_seconds)


async def promote(member: Member, number: int, timeout_seconds: float) -> None:
    """Ask a member to let a learner vote. Raises MemberFault."""

    async def call(stubs: Stubs, seconds: float) -> None:
        request = rpc.MemberPromoteRequest(ID=number)
        await stubs.cluster.MemberPromote(request, timeout=seconds, metadata=NEEDS_LEADER)

    await member.ask(call, timeout_seconds=timeout_seconds)


async def remove(member: Member, number: int, timeout_seconds: float) -> None:
    """Ask a member to let one go. Raises MemberFault."""

    async def call(stubs: Stubs, seconds: float) -> None:
        request = rpc.MemberRemoveRequest(ID=number)
        await stubs.cluster.MemberRemove(request, timeout=seconds, metadata=NEEDS_LEADER)

    await member.ask(call, timeout_seconds=timeout_seconds)


async def lift_alarms(member: Member, known: set[int], timeout_seconds: float) -> None:
    """Lift the space alarms of members that are not ``known``. Raises MemberFault."""

    async def call(stubs: Stubs, seconds: float) -> None:
        asked = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
        raised = await stubs.maintenance.Alarm(asked, timeout=seconds, metadata=NEEDS_LEADER)
        for each in raised.alarms:
            if each.alarm == rpc.NOSPACE and each.memberID not in known:
                lift = rpc.AlarmRequest(
                    action=rpc.AlarmRequest.DEACTIVATE, memberID=each.memberID, alarm=rpc.NOSPACE
                )
                await stubs.maintenance.Alarm(lift, timeout=seconds, metadata=NEEDS_LEADER)

    await member.ask(call, timeout_seconds=timeout_seconds)


async def move_leader(leader: Member, number: int, timeout_seconds: float) -> None:
    """Ask the leader, and no other, to hand over. Raises MemberFault."""

    async def call(stubs: Stubs, seconds: float) -> None:
        request = rpc.MoveLeaderRequest(targetID=number)
        await stubs.maintenance.MoveLeader(request, timeout=seconds, metadata=NEEDS_LEADER)

    await leader.ask(call, timeout_seconds=timeout_seconds)


def view(answer: Answer, reachable: set[int], problem: str | None) -> View:
    """Return what a member said, with those that were found to be ``reachable``."""
    members = [
        GroupMember(
            name=each.name or None,
            id=f"{each.ID:016x}",
            peer=next(iter(each.peerURLs), "").removeprefix(_SCHEME),
            learner=each.isLearner,
            reachable=each.ID in reachable,
            leader=answer.leader_id == each.ID,
        )
        for each in answer.listed
    ]
    return View(tuple(sorted(members, key=lambda each: (each.name or "~", each.peer))), problem)
