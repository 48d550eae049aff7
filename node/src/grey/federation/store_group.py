# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of the federation store, asked through any of them that answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grey.link import etcd_group
from grey.link.etcd import Member
from grey.link.etcd_fault import MemberFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from grey.config.model import Endpoint
    from grey.link.etcd_group import Answer, GroupMember, View
    from grey.link.tls import TlsFiles

_SCHEME = "https://"


class StoreGroup:
    """Implements ``grey.link.etcd_group.Group``. Members that the node's file does not name are asked too."""

    def __init__(
        self, endpoints: Sequence[Endpoint | str], tls: TlsFiles, *, timeout_seconds: float = 3.0
    ) -> None:
        """``endpoints`` are the members' client addresses as far as they are known here."""
        self._tls = tls
        self._timeout = timeout_seconds
        self._members = {str(endpoint): Member(str(endpoint), tls) for endpoint in endpoints}
        self._voters: dict[int, Member] = {}
        self._chosen = 0

    async def look(self) -> View:
        """Return the members, as of this call when ``problem`` is None."""
        answers = await self._ask({})
        best = _newest(answers)
        for each in best.listed:
            for url in each.clientURLs:
                endpoint = url.removeprefix(_SCHEME)
                self._members.setdefault(endpoint, Member(endpoint, self._tls))
        answers = await self._ask(answers)
        best = _newest(answers)
        self._voters = {
            answer.own_id: self._members[endpoint]
            for endpoint, answer in answers.items()
            if isinstance(answer, etcd_group.Answer) and not answer.learner
        }
        self._chosen = best.own_id
        problem = None
        try:
            await etcd_group.catch_up(self._voters[self._chosen], self._timeout)
            best = await etcd_group.ask(self._voters[self._chosen], self._timeout)
        except MemberFault as fault:
            problem = str(fault)
        reached = {each.own_id for each in answers.values() if isinstance(each, etcd_group.Answer)}
        return etcd_group.view(best, reached, problem)

    async def add_learner(self, peer: str) -> None:
        """Take in a member that copies the data and does not vote."""
        await etcd_group.add_learner(self._voters[self._chosen], peer, self._timeout)

    async def promote(self, member: GroupMember) -> None:
        """Let a learner vote."""
        await etcd_group.promote(self._voters[self._chosen], member.number, self._timeout)

    async def move_leader(self, leader: GroupMember, to: GroupMember) -> bool:
        """Hand leadership over, if the leader answers."""
        if leader.number not in self._voters:
            return False
        await etcd_group.move_leader(self._voters[leader.number], to.number, self._timeout)
        return True

    async def remove(self, member: GroupMember) -> None:
        """Let a member go; another one is asked to."""
        asked = next((each for number, each in self._voters.items() if number != member.number), None)
        await etcd_group.remove(asked or self._voters[self._chosen], member.number, self._timeout)

    async def lift_alarms(self, members: Iterable[GroupMember]) -> None:
        """Lift the space alarms of all but these."""
        known = {each.number for each in members}
        asked = next((each for number, each in self._voters.items() if number in known), None)
        if asked is not None:
            await etcd_group.lift_alarms(asked, known, self._timeout)

    async def close(self) -> None:
        """Release the connections."""
        for member in self._members.values():
            await member.close()

    async def _ask(self, known: dict[str, Answer | str]) -> dict[str, Answer | str]:
        """Ask the members that are not known yet, at the same time."""

        async def one(member: Member) -> Answer | str:
            try:
                return await etcd_group.ask(member, self._timeout)
            except MemberFault as fault:
                return str(fault)

        asked = [each for endpoint, each in self._members.items() if endpoint not in known]
        answers = await asyncio.gather(*map(one, asked))
        return known | {each.endpoint: answer for each, answer in zip(asked, answers, strict=True)}


def _newest(answers: dict[str, Answer | str]) -> Answer:
    """Return the answer of the member that knows most; raises MemberFault when none tells who they are."""
    told = [
        each for each in answers.values() if isinstance(each, etcd_group.Answer) and each.listed is not None
    ]
    if not told:
        said = "; ".join(f"{endpoint}: {_said(answer)}" for endpoint, answer in answers.items())
        raise MemberFault(f"no member of the federation store tells who they are: {said}", carried_out=False)
    return max(told, key=lambda each: (each.leader_id != 0, each.applied))


def _said(answer: Answer | str) -> str:
    return answer if isinstance(answer, str) else "a learner, which does not vote yet"
