# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which change of a group's members is safe: the decisions alone."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from grey.link.etcd_group import GroupMember, View
from grey.store.etcd_membership import (
    Add,
    ChangeRefused,
    Nothing,
    Promote,
    Remove,
    Step,
    Wait,
    decide_add,
    decide_promote,
    decide_remove,
    healthy,
    majority,
)

COMMAND = "greyd engine"


def member(
    number: int, *, reachable: bool = True, learner: bool = False, leader: bool = False, named: bool = True
) -> GroupMember:
    return GroupMember(
        f"node-{number}" if named else None,
        f"{number:016x}",
        f"10.0.0.{number}:2380",
        learner,
        reachable,
        leader,
    )


def view(*members: GroupMember, problem: str | None = None) -> View:
    return View(members, problem)


THREE = view(member(1, leader=True), member(2), member(3))
ONE_DOWN = view(member(1, leader=True), member(2), member(3, reachable=False))
TWO_DOWN = view(member(1), member(2, reachable=False), member(3, reachable=False), problem="no leader")
ELECTING = view(member(1), member(2), member(3), problem="etcdserver: leader changed")
LEARNER = view(member(1, leader=True), member(2, learner=True))
UNSTARTED = view(member(1, leader=True), member(2, learner=True, reachable=False, named=False))


def add(found: View, number: int) -> Step:
    return decide_add(found, f"node-{number}", f"10.0.0.{number}:2380", command=COMMAND)


def test_adding() -> None:
    assert add(THREE, 4) == Add("10.0.0.4:2380")
    for already in (THREE, ONE_DOWN, TWO_DOWN, ELECTING):
        assert add(already, 3) == Nothing()
    assert add(UNSTARTED, 2) == Nothing()
    assert add(ELECTING, 4) == Wait("the group has no leader now (etcdserver: leader changed)")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            ONE_DOWN,
            "node-3 does not answer, and a group that misses a voting member takes in no other: start it",
        ),
        (TWO_DOWN, "1 of 3 voting members answer. Start node-2, node-3"),
        (
            LEARNER,
            (
                "node-2 does not vote yet. Finish it (greyd engine promote --name node-2), "
                "or take it back (greyd"
            ),
        ),
        (
            UNSTARTED,
            "the member with the peer 10.0.0.2:2380 never started. Finish it (greyd engine promote, once it",
        ),
        (UNSTARTED, "or take it back (greyd engine remove --peer 10.0.0.2:2380)"),
    ],
)
def test_adding_refused(found: View, words: str) -> None:
    with pytest.raises(ChangeRefused) as refused:
        add(found, 4)
    assert words in str(refused.value)


def test_promoting() -> None:
    assert decide_promote(LEARNER, "node-2") == Promote(LEARNER.members[1])
    assert decide_promote(THREE, "node-2") == Nothing()
    silent = view(member(1, leader=True), member(2, learner=True, reachable=False))
    for waiting, words in (
        (silent, "node-2 does not answer at 10.0.0.2:2380: start it on its host"),
        (UNSTARTED, "node-2 is not a member yet, and the member with the peer 10.0.0.2:2380 never started"),
        (msgspec.structs.replace(LEARNER, problem="electing"), "electing"),
    ):
        step = decide_promote(waiting, "node-2")
        assert isinstance(step, Wait)
        assert words in step.why
    with pytest.raises(
        ChangeRefused, match=r"node-4 is not a member \(node-1, node-2, node-3\): add it first"
    ):
        decide_promote(THREE, "node-4")


def test_removing() -> None:
    assert decide_remove(THREE, name="node-2") == Remove(THREE.members[1])
    assert decide_remove(THREE, name="node-1") == Remove(THREE.members[0], THREE.members[1])
    assert decide_remove(THREE, name="node-4") == Nothing()
    assert decide_remove(ONE_DOWN, name="node-3") == Remove(ONE_DOWN.members[2])
    assert decide_remove(LEARNER, name="node-2") == Remove(LEARNER.members[1])
    assert decide_remove(UNSTARTED, peer="10.0.0.2:2380") == Remove(UNSTARTED.members[1])
    assert decide_remove(UNSTARTED, name="node-2", peer="10.0.0.2:2380") == Remove(UNSTARTED.members[1])
    # A name that nobody has yet says nothing of the one that never ran: it may be another one's.
    assert decide_remove(UNSTARTED, name="node-2") == Nothing()
    assert isinstance(decide_remove(ELECTING, name="node-1"), Wait)


@pytest.mark.parametrize(
    ("found", "name", "words"),
    [
        (
            ONE_DOWN,
            "node-2",
            "without node-2 only 1 of 2 voting members would answer, and 2 are needed: node-3 must",
        ),
        (
            ONE_DOWN,
            "node-1",
            "without node-1 only 1 of 2 voting members would answer, and 2 are needed: node-3 must",
        ),
        (TWO_DOWN, "node-3", "the group has no majority"),
        (LEARNER, "node-1", "node-1 is the last voting member"),
    ],
)
def test_removing_refused(found: View, name: str, words: str) -> None:
    with pytest.raises(ChangeRefused) as refused:
        decide_remove(found, name=name)
    assert words in str(refused.value)


def test_a_name_and_a_peer_of_two_members() -> None:
    with pytest.raises(ChangeRefused, match=r"10.0.0.2:2380 is the peer of node-2, not of node-1"):
        decide_remove(THREE, name="node-1", peer="10.0.0.2:2380")


@pytest.mark.parametrize(
    ("found", "expected"),
    [(THREE, True), (ONE_DOWN, True), (TWO_DOWN, False), (ELECTING, False), (LEARNER, True)],
)
def test_health(found: View, expected: bool) -> None:
    assert healthy(found) is expected


def answering(members: list[GroupMember]) -> bool:
    voters = [each for each in members if not each.learner]
    return sum(each.reachable for each in voters) >= majority(len(voters))


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=7),
    st.integers(1, 8),
    st.booleans(),
)
def test_no_step_takes_a_majority_away(
    states: list[tuple[bool, bool, bool]], number: int, electing: bool
) -> None:
    members = [
        member(index, reachable=reachable and named, learner=learner, named=named or not learner)
        for index, (reachable, learner, named) in enumerate(states, start=1)
    ]
    found = View(tuple(members), "electing" if electing else None)
    for decide in (
        lambda: add(found, number),
        lambda: decide_promote(found, f"node-{number}"),
        lambda: decide_remove(found, name=f"node-{number}", peer=f"10.0.0.{number}:2380"),
    ):
        try:
            step = decide()
        except ChangeRefused as refused:
            assert str(refused)
            continue
        after = list(members)
        match step:
            case Add():
                assert answering(members)
                assert all(each.reachable and not each.learner for each in members)
            case Promote(learner):
                after[members.index(learner)] = msgspec.structs.replace(learner, learner=False)
                assert learner.reachable
                assert answering(after) or not answering(members)
            case Remove(gone, successor):
                after.remove(gone)
                assert answering(members)
                assert answering(after)
                assert any(not each.learner for each in after)
                assert successor is None or (
                    successor.reachable and not successor.learner and successor != gone
                )
        assert not (electing and isinstance(step, Add | Promote | Remove))


class Group(RuleBasedStateMachine):
    """Hosts come, die and leave in any order, a few at a time: what answered for the group goes on so."""

    def __init__(self) -> None:
        super().__init__()
        self.members: list[GroupMember] = []
        self.next = 1

    @initialize(size=st.integers(1, 5))
    def begin(self, size: int) -> None:
        self.members = [member(number) for number in range(1, size + 1)]
        self.next = size + 1

    def view(self) -> View:
        leader = next((each for each in self.members if each.reachable and not each.learner), None)
        members = (msgspec.structs.replace(each, leader=each is leader) for each in self.members)
        return View(tuple(members), None if answering(self.members) else "no leader")

    def apply(self, step: Step) -> None:
        match step:
            case Add(peer):
                self.members.append(
                    GroupMember(None, f"{self.next:016x}", peer, learner=True, reachable=False, leader=False)
                )
                self.next += 1
            case Promote(learner):
                self.replace(learner.id, learner=False)
            case Remove(gone):
                self.members = [each for each in self.members if each.id != gone.id]

    def replace(self, number: str, **changes: object) -> None:
        self.members = [
            msgspec.structs.replace(each, **changes) if each.id == number else each for each in self.members
        ]

    @rule()
    def add(self) -> None:
        try:
            self.apply(add(self.view(), self.next))
        except ChangeRefused:
            pending = any(each.learner for each in self.members)
            assert pending or not all(each.reachable for each in self.members)

    @rule(pick=st.integers(0, 9))
    def start_or_stop(self, pick: int) -> None:
        """A host dies only when the others still are enough: more is beyond what a group can bear."""
        chosen = self.members[pick % len(self.members)]
        before = self.members
        if chosen.reachable:
            self.replace(chosen.id, reachable=False)
            if not answering(self.members):
                self.members = before
        else:
            self.replace(chosen.id, reachable=True, name=f"node-{int(chosen.id, 16)}")

    @rule(pick=st.integers(0, 9))
    def promote(self, pick: int) -> None:
        chosen = self.members[pick % len(self.members)]
        if chosen.name is not None:
            self.apply(decide_promote(self.view(), chosen.name))

    @precondition(lambda self: self.members)
    @rule(pick=st.integers(0, 9))
    def remove(self, pick: int) -> None:
        chosen = self.members[pick % len(self.members)]
        try:
            self.apply(decide_remove(self.view(), name=chosen.name, peer=chosen.peer))
        except ChangeRefused:
            return
        assert chosen.id not in {each.id for each in self.members}

    @invariant()
    def one_change_at_a_time(self) -> None:
        assert sum(each.learner for each in self.members) <= 1

    @invariant()
    def a_majority_answers(self) -> None:
        assert not self.members or answering(self.members)


TestGroup = Group.TestCase
