# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of a cluster's engine, asked through the one beside this node: clients reach no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grey.link import etcd_group
from grey.link.etcd_fault import MemberFault
from grey.link.etcd_listed import PeerList, ask_peers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grey.link.etcd import Member
    from grey.link.etcd_group import GroupMember, View
    from grey.link.tls import TlsFiles


class EngineGroup:
    """Implements ``grey.link.etcd_group.Group``. Whether another member answers, its peer port tells."""

    def __init__(self, member: Member, peer_tls: TlsFiles, *, timeout_seconds: float = 3.0) -> None:
        """``member`` is the one beside this node, ``peer_tls`` its certificate for the others."""
        self._member = member
        self._tls = peer_tls
        self._timeout = timeout_seconds
        self._own_id = 0

    async def look(self) -> View:
        """Return the members, as of this call when ``problem`` is None."""
        problem = await self._catch_up()
        answer = await etcd_group.ask(self._member, self._timeout)
        if answer.listed is None:
            raise MemberFault(
                "the member beside this node is a learner, which does not tell: ask on another node",
                carried_out=False,
            )
        self._own_id = answer.own_id
        others = etcd_group.view(answer, {answer.own_id}, problem)
        peers = [each.peer for each in others.members if not each.reachable]
        answers = await ask_peers(peers, self._tls, self._timeout)
        reached = {each.number for each in others.members if isinstance(answers.get(each.peer), PeerList)}
        return etcd_group.view(answer, reached | {answer.own_id}, problem)

    async def add_learner(self, peer: str) -> None:
        """Take in a member that copies the data and does not vote."""
        await etcd_group.add_learner(self._member, peer, self._timeout)

    async def promote(self, member: GroupMember) -> None:
        """Let a learner vote."""
        await etcd_group.promote(self._member, member.number, self._timeout)

    async def move_leader(self, leader: GroupMember, to: GroupMember) -> bool:
        """Hand leadership over, if the member beside this node has it."""
        if leader.number != self._own_id:
            return False
        await etcd_group.move_leader(self._member, to.number, self._timeout)
        return True

    async def remove(self, member: GroupMember) -> None:
        """Let a member go."""
        await etcd_group.remove(self._member, member.number, self._timeout)

    async def lift_alarms(self, members: Iterable[GroupMember]) -> None:
        """Lift the space alarms of all but these."""
        known = {each.number for each in members}
        if self._own_id in known:  # else the member here is the one that left
            await etcd_group.lift_alarms(self._member, known, self._timeout)

    async def close(self) -> None:
        """Release the connection."""
        await self._member.close()

    async def _catch_up(self) -> str | None:
        # A group that just lost its leader elects within a second or two: the call itself waits for it.
        try:
            async with asyncio.timeout(self._timeout):
                await etcd_group.catch_up(self._member, self._timeout)
        except (MemberFault, TimeoutError) as fault:
            return str(fault) or "no answer"
        return None
