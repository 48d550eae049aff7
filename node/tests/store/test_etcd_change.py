# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a change goes on when etcd hesitates, refuses, or does not say what became of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.virtual_time import run_virtual

from grey.link.etcd_fault import MemberFault
from grey.link.etcd_group import GroupMember, View
from grey.store import etcd_change
from grey.store.etcd_membership import ChangeRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grey.store.etcd_change import Changed

UNHEALTHY = "etcdserver: unhealthy cluster"
LAGS = "etcdserver: can only promote a learner member which is in sync with leader"
PEER = "10.0.0.2:2380"


def fault(said: str, *, carried_out: bool | None) -> MemberFault:
    return MemberFault(said, carried_out=carried_out, said=said)


class FakeGroup:
    """Does what it is asked. ``faults`` are raised first; one with an open outcome may be ``carried_out``."""

    def __init__(self, *faults: MemberFault, carried_out: bool = False) -> None:
        self.members = [GroupMember("a", "1", "10.0.0.1:2380", learner=False, reachable=True, leader=True)]
        self.faults = list(faults)
        self.carried_out = carried_out
        self.calls: list[str] = []
        self.looks = 0

    def learner(self) -> GroupMember:
        made = GroupMember("b", "2", PEER, learner=True, reachable=True, leader=False)
        self.members.append(made)
        return made

    def voter(self) -> GroupMember:
        made = msgspec.structs.replace(self.learner(), learner=False)
        self.members[-1] = made
        return made

    async def look(self) -> View:
        self.looks += 1
        return View(tuple(self.members), None)

    async def add_learner(self, peer: str) -> None:
        self.calls.append("add")
        made = GroupMember(None, "2", peer, learner=True, reachable=False, leader=False)
        self._ask([*self.members, made])

    async def promote(self, member: GroupMember) -> None:
        self.calls.append("promote")
        voter = msgspec.structs.replace(member, learner=False)
        self._ask([voter if each.id == member.id else each for each in self.members])

    async def move_leader(self, leader: GroupMember, to: GroupMember) -> bool:
        self.calls.append(f"move {leader.name} {to.name}")
        if self.faults:
            raise self.faults.pop(0)
        return True

    async def remove(self, member: GroupMember) -> None:
        self.calls.append("remove")
        self._ask([each for each in self.members if each.id != member.id])

    async def lift_alarms(self, members: Iterable[GroupMember]) -> None:
        assert [each.id for each in members] == [each.id for each in self.members]
        self.calls.append("lift")

    def _ask(self, after: list[GroupMember]) -> None:
        if not self.faults:
            self.members = after
            return
        raised = self.faults.pop(0)
        if raised.carried_out is None and self.carried_out:
            self.members = after
        raise raised


async def add(group: FakeGroup) -> Changed:
    return await etcd_change.add(group, "b", PEER, command="greyd engine")


async def promote(group: FakeGroup, seconds: float = 5.0) -> Changed:
    return await etcd_change.promote(group, "b", wait_seconds=seconds)


async def remove(group: FakeGroup, name: str) -> Changed:
    return await etcd_change.remove(group, name=name, peer=None)


def test_what_etcd_puts_off_is_asked_again() -> None:
    group = FakeGroup(*[fault(UNHEALTHY, carried_out=None)] * 20)
    assert run_virtual(add(group)).changed
    assert group.calls == ["add"] * 21
    group = FakeGroup(*[fault(LAGS, carried_out=False)] * 5)
    group.learner()
    assert run_virtual(promote(group)).changed
    assert group.calls == ["promote"] * 6


def test_not_for_ever() -> None:
    group = FakeGroup(*[fault(LAGS, carried_out=False)] * 100)
    group.learner()

    async def timed() -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(ChangeRefused, match=f"not within 5 s: {LAGS}"):
            await promote(group)
        return asyncio.get_running_loop().time() - began

    assert 5.0 <= run_virtual(timed()) < 5.5
    group.calls.clear()
    with pytest.raises(ChangeRefused, match="not within 0 s"):
        run_virtual(promote(group, 0.0))
    assert group.calls == ["promote"]  # it is tried once all the same


def test_what_etcd_refuses_is_said_at_once() -> None:
    group = FakeGroup(fault("etcdserver: too many learner members in cluster", carried_out=False))
    with pytest.raises(ChangeRefused, match="etcd refused it: etcdserver: too many learner"):
        run_virtual(add(group))
    assert group.looks == 1


@pytest.mark.parametrize("carried_out", [True, False])
def test_an_open_outcome_is_looked_up(*, carried_out: bool) -> None:
    group = FakeGroup(fault("no answer within 3.0 s", carried_out=None), carried_out=carried_out)
    assert run_virtual(add(group)).changed
    assert group.calls == ["add"] * (1 if carried_out else 2)
    assert [each.peer for each in group.members].count(PEER) == 1
    group = FakeGroup(fault("no answer within 3.0 s", carried_out=None), carried_out=carried_out)
    group.voter()
    done = run_virtual(remove(group, "b"))
    assert done.changed
    assert [each.name for each in done.members] == ["a"]
    assert group.calls == [*["remove"] * (1 if carried_out else 2), "lift"]


def test_somebody_else_was_quicker() -> None:
    group = FakeGroup(fault("etcdserver: Peer URLs already exists", carried_out=False))

    async def race() -> Changed:
        running = asyncio.ensure_future(add(group))
        await asyncio.sleep(0.1)
        group.learner()
        return await running

    assert not run_virtual(race()).changed


def test_leadership_goes_first_and_removal_does_not_depend_on_it() -> None:
    for faults in ((), (fault("no answer within 3.0 s", carried_out=None),)):
        group = FakeGroup(*faults)
        group.voter()
        done = run_virtual(remove(group, "a"))
        assert [each.name for each in done.members] == ["b"]
        assert group.calls == ["move a b", "remove", "lift"]


def test_the_one_that_is_removed_is_not_asked_again() -> None:
    group = FakeGroup()
    group.voter()
    assert run_virtual(remove(group, "b")).changed
    assert group.looks == 1
