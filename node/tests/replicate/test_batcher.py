# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from grey.record import Position
from grey.replicate.batcher import Batch, Batcher


def test_an_empty_one() -> None:
    batcher = Batcher(10)
    assert batcher.empty
    assert not batcher.full
    assert batcher.take() is None


def test_it_fills_up_by_records_and_never_tears_a_transaction() -> None:
    batcher = Batcher(5)
    assert batcher.add([b"1", b"2", b"3"], Position(1, 3))
    assert not batcher.full
    assert not batcher.add([b"4", b"5", b"6"], Position(1, 6))
    assert batcher.full
    assert batcher.take() == Batch([[b"1", b"2", b"3"]], 3, Position(1, 3))
    assert batcher.empty
    assert not batcher.full
    assert batcher.add([b"4", b"5", b"6"], Position(1, 6))
    assert batcher.add([b"7", b"8"], Position(1, 8))
    assert batcher.full
    assert batcher.take() == Batch([[b"4", b"5", b"6"], [b"7", b"8"]], 5, Position(1, 8))


def test_it_fills_up_by_bytes() -> None:
    batcher = Batcher(1000, max_bytes=10)
    assert batcher.add([bytes(6)], Position(1, 1))
    assert not batcher.add([bytes(6)], Position(1, 2))
    assert batcher.full
    batcher.take()
    assert batcher.add([bytes(10)], Position(1, 2))
    assert batcher.full


def test_a_transaction_that_is_too_large_goes_alone() -> None:
    batcher = Batcher(2, max_bytes=10)
    assert batcher.add([bytes(9), bytes(9), bytes(9)], Position(1, 3))
    assert batcher.full
    assert not batcher.add([b"x"], Position(1, 4))
    taken = batcher.take()
    assert taken is not None
    assert taken.records == 3
