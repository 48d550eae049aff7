# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fences import FakeWall

from grey.record import HybridClock, Stamp, SteadyClock

stamps = st.builds(Stamp, st.integers(0, 2000), st.integers(0, 3))


def test_follows_the_wall_clock() -> None:
    wall = FakeWall(100)
    clock = HybridClock(wall)
    assert clock.now() == Stamp(100, 0)
    assert clock.now() == Stamp(100, 1)
    wall.microseconds = 200
    assert clock.now() == Stamp(200, 0)
    wall.microseconds = 150
    assert clock.now() == Stamp(200, 1)


def test_goes_on_from_the_last_stamp() -> None:
    assert HybridClock(FakeWall(100), last=Stamp(500, 7)).now() == Stamp(500, 8)


def test_counts_in_microseconds_since_the_unix_epoch() -> None:
    before = time.time_ns() // 1000
    assert before <= HybridClock().now().microseconds <= time.time_ns() // 1000


def test_text() -> None:
    assert str(Stamp(1234, 5)) == "1234.5"


@given(st.lists(st.one_of(st.integers(0, 2000), stamps)))
def test_stamps_only_grow_whatever_the_clocks_do(events: list[int | Stamp]) -> None:
    """A number sets the wall clock, a stamp comes from elsewhere."""
    wall = FakeWall(1000)
    clock = HybridClock(wall)
    last = Stamp(0, 0)
    for event in events:
        if isinstance(event, Stamp):
            clock.observe(event)
            last = max(last, event)
        else:
            wall.microseconds = event
        given_stamp = clock.now()
        assert given_stamp > last
        assert given_stamp.microseconds >= wall.microseconds
        last = given_stamp


class Clocks:
    def __init__(self) -> None:
        self.wall = 1_000_000_000_000
        self.elapsed = 5_000
        self.steady = SteadyClock(lambda: self.wall, lambda: self.elapsed)

    def passes(self, microseconds: int, wall: int | None = None) -> int:
        self.elapsed += microseconds
        self.wall += microseconds if wall is None else wall
        return self.steady.now()


def test_steady_time_is_wall_time_while_nothing_jumps() -> None:
    clocks = Clocks()
    assert clocks.passes(0) == 1_000_000_000_000
    assert clocks.passes(1_500_000) == 1_000_001_500_000


@pytest.mark.parametrize("jump", [-3_600_000_000, 3_600_000_000])
def test_steady_time_follows_a_jump_slowly_and_arrives(jump: int) -> None:
    clocks = Clocks()
    before = clocks.steady.now()
    clocks.wall += jump
    assert clocks.passes(0) == before
    sign = 1 if jump > 0 else -1
    assert clocks.passes(10_000_000) == before + 10_000_000 + sign * 1_000_000
    for _ in range(100):
        clocks.passes(500_000_000)
    assert clocks.steady.now() == clocks.wall


def test_a_machine_that_slept_counts_the_time() -> None:
    clocks = Clocks()
    before = clocks.steady.now()
    assert clocks.passes(86_400_000_000) == before + 86_400_000_000


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(-(10**10), 10**10)), max_size=50))
def test_steady_time_never_goes_back_nor_runs_away(steps: list[tuple[int, int]]) -> None:
    clocks = Clocks()
    last = clocks.steady.now()
    for elapsed, wall in steps:
        now = clocks.passes(elapsed, wall)
        assert now - last >= 0
        assert elapsed * 9 // 10 - 1 <= now - last <= elapsed * 11 // 10 + 1
        last = now


def test_the_real_clocks() -> None:
    steady = SteadyClock()
    first = steady.now()
    assert abs(first - time.time() * 1e6) < 5e6
    assert steady.now() >= first
