# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from support.fences import FakeWall

from grey.record import HybridClock, Stamp

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
