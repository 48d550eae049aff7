# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the members of an etcd are."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from grey.link.etcd import rpc
from grey.link.etcd_fault import MemberFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.link.etcd import Member, Stubs

_LEARNER = "it is a learner, which does not vote until it is promoted"


class MemberHealth(msgspec.Struct, frozen=True):
    """One member of an etcd. ``name`` is None when no member could say it; ``leader``: it is the leader."""

    endpoint: str
    name: str | None
    reachable: bool
    leader: bool
    has_leader: bool
    database_bytes: int | None
    alarms: tuple[str, ...]
    problem: str | None


class StoreHealth(msgspec.Struct, frozen=True):
    """All members; ``majority``: more than half of them answer and follow the same leader.

    ``peers`` are the peer endpoints by name, as far as those that answer know them.
    """

    majority: bool
    members: tuple[MemberHealth, ...]
    peers: dict[str, str] = {}

    @property
    def reachable(self) -> int:
        """How many members answer."""
        return sum(member.reachable for member in self.members)


async def ask_health(members: Sequence[Member], timeout_seconds: float) -> StoreHealth:
    """Ask all members at the same time; a member that fails is part of the answer."""
    answers = await asyncio.gather(*(_ask(member, timeout_seconds) for member in members))
    names = _names(answers)
    leaders = Counter(answer.leader_id for answer in answers if answer.leader_id and not answer.learner)
    agreed = max(leaders.values(), default=0)
    return StoreHealth(
        majority=agreed > len(members) // 2,
        members=tuple(_health(answer, names) for answer in answers),
        peers=_peers(answers),
    )


class _Answer(msgspec.Struct, frozen=True):
    endpoint: str
    status: Any = None
    listed: Any = None
    fault: str | None = None

    @property
    def leader_id(self) -> int:
        return int(self.status.leader) if self.status is not None else 0

    @property
    def learner(self) -> bool:
        return self.status is not None and bool(self.status.isLearner)


async def _ask(member: Member, timeout_seconds: float) -> _Answer:
    async def call(stubs: Stubs, seconds: float) -> tuple[Any, Any]:
        status = stubs.maintenance.Status(rpc.StatusRequest(), timeout=seconds)
        listed = stubs.cluster.MemberList(rpc.MemberListRequest(), timeout=seconds)
        said = await status
        if said.isLearner:  # it does not tell who the members are
            listed.cancel()
            return said, None
        return said, await listed

    try:
        status, listed = await member.ask(call, timeout_seconds=timeout_seconds)
    except MemberFault as fault:
        return _Answer(member.endpoint, fault=str(fault))
    return _Answer(member.endpoint, status, listed)


def _names(answers: Sequence[_Answer]) -> dict[str, str]:
    """Map endpoints to names, as far as the members that answer know them."""
    names: dict[str, str] = {}
    for answer in answers:
        if answer.listed is None:
            continue
        for listed in answer.listed.members:
            names.update({url.partition("://")[2]: listed.name for url in listed.clientURLs if listed.name})
            if answer.status.header.member_id == listed.ID:
                names[answer.endpoint] = listed.name
    return names


def _peers(answers: Sequence[_Answer]) -> dict[str, str]:
    """Map names to peer endpoints; a member that never ran has no name."""
    listed = [each for answer in answers if answer.listed is not None for each in answer.listed.members]
    return {each.name: url.partition("://")[2] for each in listed if each.name for url in each.peerURLs}


def _health(answer: _Answer, names: dict[str, str]) -> MemberHealth:
    status = answer.status
    return MemberHealth(
        endpoint=answer.endpoint,
        name=names.get(answer.endpoint),
        reachable=status is not None,
        leader=status is not None and status.leader == status.header.member_id,
        has_leader=bool(answer.leader_id),
        database_bytes=int(status.dbSize) if status is not None else None,
        alarms=tuple(status.errors) if status is not None else (),
        problem=_LEARNER if answer.learner else answer.fault,
    )
