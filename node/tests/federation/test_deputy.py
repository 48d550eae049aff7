# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node that does not lead takes from the leader's word, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from support.fences import FakeTime

from grey.federation.deputy import ClusterState, Deputy, LeaderSilent
from grey.federation.leader import LeaderRecord
from grey.federation.role import Timing
from grey.record.position import ORIGIN, Position

if TYPE_CHECKING:
    from collections.abc import Callable

TIMING = Timing.of(30.0)
LEADER = LeaderRecord("aws-east-1", "10.0.0.1:8443", 7)
PRIMARY = ClusterState("aws-east-1", True, 3, 20.0, None, None, True, "3.8")
REPLICA = ClusterState("aws-east-1", True, None, 0.0, 0.5, 4, True, "3.8")


class World:
    """A deputy, its leader and its keeper; the clock moves while the leader is asked."""

    def __init__(self, answer: ClusterState | Exception) -> None:
        self.clock = FakeTime(100.0)
        self.answer = answer
        self.takes = 0.0
        self.leading = False
        self.record: LeaderRecord | None = LEADER
        self.asked: list[LeaderRecord] = []
        self.grants: list[tuple[int, float]] = []
        self.deputy = Deputy(self, self, self.ask, timing=TIMING, boottime=self.clock)  # type: ignore[arg-type]

    async def ask(self, leader: LeaderRecord, *, timeout_seconds: float) -> ClusterState:
        assert timeout_seconds == TIMING.store_timeout
        self.asked.append(leader)
        self.clock.now += self.takes
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def leads(self) -> bool:
        return self.leading

    def leader(self) -> LeaderRecord | None:
        return self.record

    def grant(self, epoch: int, deadline: float) -> None:
        self.grants.append((epoch, deadline))


async def test_the_deadline_counts_from_before_the_question_less_a_margin() -> None:
    world = World(PRIMARY)
    world.takes = 7.0
    await world.deputy.step()
    assert world.asked == [LEADER]
    assert world.grants == [(3, 100.0 + 20.0 - TIMING.margin)]
    assert world.deputy.problem() is None


async def test_the_lag_grows_with_the_age_of_the_answer() -> None:
    world = World(REPLICA)
    deputy = world.deputy
    assert (deputy.lag_seconds(), deputy.lag_records(), deputy.consistent()) == (None, None, False)
    assert deputy.position() == ORIGIN
    world.takes = 2.0
    await deputy.step()
    assert deputy.lag_seconds() == 2.5
    world.clock.now += 1.0
    assert deputy.lag_seconds() == 3.5
    assert (deputy.lag_records(), deputy.consistent()) == (4, True)
    assert deputy.position() == Position(3, 8)
    assert world.grants == []


async def test_nothing_is_fresh_in_the_middle_of_a_full_copy() -> None:
    world = World(msgspec.structs.replace(REPLICA, consistent=False))
    await world.deputy.step()
    assert (world.deputy.lag_seconds(), world.deputy.consistent()) == (None, False)


@pytest.mark.parametrize("fault", [LeaderSilent("refused"), LeaderSilent("no answer in time")])
async def test_a_silent_leader_is_told_and_what_was_known_grows_older(fault: Exception) -> None:
    world = World(REPLICA)
    await world.deputy.step()
    world.answer = fault
    world.clock.now += 5.0
    await world.deputy.step()
    assert world.deputy.problem() == f"node aws-east-1, which leads this cluster, does not answer: {fault}"
    assert world.deputy.lag_seconds() == 5.5
    world.answer = REPLICA
    await world.deputy.step()
    assert world.deputy.problem() is None


async def test_the_word_of_a_node_that_does_not_lead_does_not_count() -> None:
    world = World(msgspec.structs.replace(PRIMARY, leader=False))
    await world.deputy.step()
    assert world.grants == []
    assert world.deputy.position() == ORIGIN


@pytest.mark.parametrize(
    "change",
    [lambda world: setattr(world, "leading", True), lambda world: setattr(world, "record", None)],
    ids=["it leads itself", "nobody is known"],
)
async def test_nobody_is_asked(change: Callable[[World], None]) -> None:
    world = World(PRIMARY)
    change(world)
    await world.deputy.step()
    assert world.asked == []
