# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A write is acknowledged only while the fence stands, before and after its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.writer_bench import START, Bench, outcomes

from grey.data import keyspace
from grey.data.errors import OutcomeUnknown
from grey.data.fence import DeadlinePassed, NotPrimary
from grey.data.writer import Written
from grey.record import Position, Stamp
from grey.store.interface import (
    Write,
)

if TYPE_CHECKING:
    from grey.store.interface import Store


@pytest.mark.parametrize("refusal", [lambda: NotPrimary("gcp-west"), DeadlinePassed])
async def test_the_fence_is_asked_before(bench: Bench, refusal: type[DeadlinePassed]) -> None:
    bench.fence.refusal = refusal
    done = await outcomes(
        [bench.writer.put(b"a", b"1"), bench.writer.delete(b"a"), bench.writer.put(b"b", b"1", "id")]
    )
    assert {type(each) for each in done} == {type(refusal())}
    if isinstance(done[0], NotPrimary):
        assert done[0].primary == "gcp-west"
    assert bench.store.commits == []
    bench.fence.refusal = None
    assert (await bench.writer.put(b"a", b"1")).position == Position(1, 1)


async def test_the_fence_is_asked_after_the_commit(bench: Bench) -> None:
    def expire() -> None:
        bench.fence.refusal = DeadlinePassed

    bench.store.during.append(expire)
    done = await outcomes([bench.writer.put(b"a", b"1"), bench.writer.put(b"b", b"1", "id")])
    assert all(isinstance(each, OutcomeUnknown) for each in done)
    assert await bench.history.position() == Position(1, 2)
    bench.fence.refusal = None
    assert await bench.writer.put(b"b", b"1", "id") == Written(
        b"b", Position(1, 2), Stamp(START, 1), replayed=True
    )
    assert (await bench.writer.put(b"a", b"1")).position == Position(1, 3)


async def test_an_epoch_that_moved_during_the_commit_is_unknown(bench: Bench) -> None:
    def move() -> None:
        bench.fence.held = 2

    bench.store.during.append(move)
    with pytest.raises(OutcomeUnknown, match="epoch 1 ended while it was stored, now it is 2"):
        await bench.writer.put(b"a", b"1")


async def test_reads_of_what_was_done_need_the_fence_as_well(bench: Bench) -> None:
    await bench.writer.put(b"a", b"1", "id")

    def expire() -> None:
        bench.fence.refusal = DeadlinePassed

    for call in (lambda: bench.writer.put(b"a", b"1", "id"), lambda: bench.writer.delete(b"missing")):
        bench.fence.refusal = None
        bench.fence.script = [lambda: None, expire]
        with pytest.raises(DeadlinePassed):
            await call()


async def test_an_epoch_claimed_in_the_store_stops_a_writer_with_an_old_fence(bench: Bench) -> None:
    await bench.writer.put(b"a", b"1", "id")
    await bench.history.claim(2)
    for call in (
        lambda: bench.writer.put(b"a", b"2"),
        lambda: bench.writer.put(b"a", b"1", "id"),
        lambda: bench.writer.delete(b"missing"),
    ):
        with pytest.raises(DeadlinePassed):
            await call()
    bench.fence.refusal = lambda: NotPrimary("gcp-west")
    with pytest.raises(NotPrimary):
        await bench.writer.put(b"a", b"2")
    assert await bench.history.position() == Position(1, 1)


async def test_a_fence_ahead_of_the_store_writes_nothing(bench: Bench) -> None:
    """The keeper claims the epoch in the store before it lets anybody write; until then nobody does."""
    bench.fence.held = 2
    with pytest.raises(DeadlinePassed):
        await bench.writer.put(b"a", b"1")
    await bench.history.claim(2)
    assert (await bench.writer.put(b"a", b"1")).position == Position(2, 1)


async def test_records_of_a_later_epoch_stop_a_writer(bench: Bench, store: Store) -> None:
    await store.commit([], [Write(keyspace.POSITION, b"3.7")])
    with pytest.raises(DeadlinePassed):
        await bench.writer.put(b"a", b"1")
    await bench.history.claim(4)
    bench.fence.held = 4
    assert (await bench.writer.put(b"a", b"1")).position == Position(4, 8)


async def test_the_sequence_goes_on_across_epochs(bench: Bench) -> None:
    await bench.writer.put(b"a", b"1")
    await bench.history.claim(5)
    bench.fence.held = 5
    assert (await bench.writer.put(b"b", b"1")).position == Position(5, 2)
