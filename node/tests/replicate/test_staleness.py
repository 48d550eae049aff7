# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from support.fences import FakeTime

from grey.record import Position
from grey.replicate.staleness import MOST_OPEN, Staleness


@pytest.fixture
def time() -> FakeTime:
    return FakeTime(100.0)


@pytest.fixture
def staleness(time: FakeTime) -> Staleness:
    return Staleness(time)


def test_it_counts_from_the_sending_of_a_nonce_whose_head_is_applied(
    time: FakeTime, staleness: Staleness
) -> None:
    nonce = staleness.send()
    assert nonce is not None
    time.now = 101.0
    staleness.answered(nonce, Position(1, 5), fenced=True)
    assert staleness.seconds() is None
    staleness.applied(Position(1, 4))
    assert staleness.seconds() is None
    time.now = 102.0
    staleness.applied(Position(1, 5))
    assert staleness.seconds() == 2.0
    time.now = 110.0
    assert staleness.seconds() == 10.0


def test_only_the_newest_reached_head_counts(time: FakeTime, staleness: Staleness) -> None:
    for moment, head in ((100.0, 5), (101.0, 7), (102.0, 9)):
        time.now = moment
        nonce = staleness.send()
        assert nonce is not None
        staleness.answered(nonce, Position(1, head), fenced=True)
    staleness.applied(Position(1, 8))
    assert staleness.seconds() == 1.0
    staleness.applied(Position(2, 9))
    assert staleness.seconds() == 0.0


def test_an_answer_without_a_fence_bounds_nothing(staleness: Staleness) -> None:
    nonce = staleness.send()
    assert nonce is not None
    staleness.answered(nonce, Position(1, 1), fenced=False)
    staleness.applied(Position(1, 1))
    assert staleness.seconds() is None


def test_an_unknown_answer_bounds_nothing(staleness: Staleness) -> None:
    staleness.send()
    staleness.answered(99, Position(1, 1), fenced=True)
    staleness.applied(Position(1, 1))
    assert staleness.seconds() is None


def test_an_answer_covers_the_nonces_before_it(time: FakeTime, staleness: Staleness) -> None:
    first, second = staleness.send(), None
    time.now = 103.0
    second = staleness.send()
    assert first is not None
    assert second is not None
    staleness.answered(second, Position(1, 1), fenced=True)
    staleness.applied(Position(1, 1))
    assert staleness.seconds() == 0.0
    staleness.answered(first, Position(1, 1), fenced=True)
    staleness.applied(Position(1, 1))
    assert staleness.seconds() == 0.0


def test_a_lost_connection_keeps_what_is_known_and_forgets_what_was_asked(
    time: FakeTime, staleness: Staleness
) -> None:
    first = staleness.send()
    assert first is not None
    staleness.answered(first, Position(1, 1), fenced=True)
    staleness.applied(Position(1, 1))
    time.now = 105.0
    second = staleness.send()
    assert second is not None
    staleness.disconnected()
    staleness.answered(second, Position(1, 1), fenced=True)
    staleness.applied(Position(1, 1))
    assert staleness.seconds() == 5.0
    staleness.forget()
    assert staleness.seconds() is None


def test_memory_is_bounded(time: FakeTime, staleness: Staleness) -> None:
    sent = [staleness.send() for _ in range(MOST_OPEN + 5)]
    assert sent[MOST_OPEN:] == [None] * 5
    staleness.disconnected()
    for number in range(1000):
        time.now = 100.0 + number
        nonce = staleness.send()
        assert nonce is not None
        staleness.answered(nonce, Position(1, number), fenced=True)
    assert len(staleness._answered) <= MOST_OPEN
    staleness.applied(Position(1, 0))
    assert staleness.seconds() == 999.0
    staleness.applied(Position(1, 998))
    assert staleness.seconds() is not None
