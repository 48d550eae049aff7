# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.envelopes import envelope

from grey.data.requests import entry_writes
from grey.record import Position, RequestRef, Stamp
from grey.record.envelope import encode
from grey.replicate import cursor
from grey.replicate.cursor import StreamBroken

if TYPE_CHECKING:
    from grey.record import Envelope


def records(*transactions: list[Envelope]) -> list[list[cursor.Record]]:
    return cursor.read([[encode(each) for each in transaction] for transaction in transactions])


def sequences(transactions: list[list[cursor.Record]]) -> list[list[int]]:
    return [[record.envelope.position.sequence for record in part] for part in transactions]


def test_a_damaged_record_is_not_skipped() -> None:
    with pytest.raises(StreamBroken, match="cannot be read"):
        cursor.read([[encode(envelope(1)), b"\xc1"]])


def test_what_is_here_already_is_left_out() -> None:
    received = records([envelope(1), envelope(2)], [envelope(3), envelope(4)], [envelope(5)])
    assert sequences(cursor.unseen(Position(1, 0), 1, received)) == [[1, 2], [3, 4], [5]]
    assert sequences(cursor.unseen(Position(1, 2), 1, received)) == [[3, 4], [5]]
    assert sequences(cursor.unseen(Position(1, 3), 1, received)) == [[4], [5]]
    assert sequences(cursor.unseen(Position(1, 9), 1, received)) == []


@pytest.mark.parametrize(
    ("here", "epoch", "received", "message"),
    [
        (Position(1, 1), 1, [[envelope(3)]], "wanted the record after 1.1, found 1.3"),
        (Position(0, 0), 1, [[envelope(1)], [envelope(3)]], "wanted the record after 1.1, found 1.3"),
        (Position(0, 0), 1, [[envelope(2), envelope(1)]], "wanted the record after 0.0, found 1.2"),
        (Position(2, 1), 2, [[envelope(2, epoch=1)]], "record 1.2 after 2.1 in a stream of epoch 2"),
        (Position(1, 1), 1, [[envelope(2, epoch=2)]], "record 2.2 after 1.1 in a stream of epoch 1"),
        (Position(1, 5), 2, [[envelope(5, epoch=2)]], "record 2.5 would replace what is held here up to 1.5"),
    ],
)
def test_what_does_not_follow_is_refused(
    here: Position, epoch: int, received: list[list[Envelope]], message: str
) -> None:
    with pytest.raises(StreamBroken, match=message):
        cursor.unseen(here, epoch, records(*received))


def test_an_epoch_may_begin_in_the_stream() -> None:
    received = records([envelope(1)], [envelope(2, epoch=3)])
    assert sequences(cursor.unseen(Position(0, 0), 3, received)) == [[1], [2]]


def test_transactions_share_a_step_while_no_key_repeats() -> None:
    received = records([envelope(1, b"a"), envelope(2, b"b")], [envelope(3, b"c")], [envelope(4, b"a")])
    steps = cursor.steps(received, entry_writes)
    assert [step.cursor for step in steps] == [Position(1, 3), Position(1, 4)]
    assert [[r.envelope.key for r in step.records] for step in steps] == [[b"a", b"b", b"c"], [b"a"]]


def test_a_step_is_bounded_and_never_tears_a_transaction() -> None:
    keys = iter(range(100))
    received = records(
        *([envelope(n, b"%d" % next(keys)), envelope(n + 1, b"%d" % next(keys))] for n in (1, 3, 5))
    )
    assert [step.cursor.sequence for step in cursor.steps(received, entry_writes, limit=5)] == [4, 6]
    assert [step.cursor.sequence for step in cursor.steps(received, entry_writes, limit=3)] == [2, 4, 6]
    with pytest.raises(
        StreamBroken, match=r"the transaction at 1\.1 repeats a key or has more than 2 writes"
    ):
        cursor.steps(received, entry_writes, limit=2)


def test_a_transaction_that_repeats_a_key_is_refused() -> None:
    with pytest.raises(StreamBroken, match="repeats a key"):
        cursor.steps(records([envelope(1), envelope(2)]), entry_writes)


def test_request_ids_travel_with_their_records() -> None:
    batch = [envelope(n, b"%d" % n, request=RequestRef("id", n - 1, 2, b"d")) for n in (1, 2)]
    (step,) = cursor.steps(records(batch), entry_writes)
    assert step.entries == entry_writes(batch)
    again = [envelope(3, b"3", request=RequestRef("id", 0, 1, b"d"))]
    assert len(cursor.steps(records(batch, again), entry_writes)) == 2


def test_the_newest_stamp() -> None:
    assert cursor.newest_stamp([]) is None
    received = records([envelope(1, b"a", seconds=5)], [envelope(2, b"b", seconds=3)])
    assert cursor.newest_stamp(received) == Stamp(5_000_000, 1)
