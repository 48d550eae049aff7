# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.fences import FakeFence
from support.writer_bench import START, Bench, outcomes

from grey.data import keyspace
from grey.data.errors import OutcomeUnknown, Overloaded, RequestIdReused, WriterStopped
from grey.data.requests import decode_entry
from grey.data.waiting import MAX_OPERATIONS
from grey.data.writer import Operation, Writer, Written
from grey.record import Envelope, HybridClock, Position, RequestRef, Stamp
from grey.record.envelope import decode
from grey.store.interface import (
    MAX_WRITES_PER_TRANSACTION,
    DiskFull,
    StoreDamaged,
    StoreError,
    Write,
)

if TYPE_CHECKING:
    from grey.store.interface import Store


async def test_a_put_is_a_record(bench: Bench) -> None:
    done = await bench.writer.put(b"user:1", b"Ann")
    assert done == Written(b"user:1", Position(1, 1), Stamp(START, 0))
    assert await bench.reader.get(b"user:1") == Envelope(
        b"user:1", b"Ann", Position(1, 1), Stamp(START, 0), "aws-east"
    )
    assert await bench.history.position() == Position(1, 1)
    assert (await bench.writer.put(b"user:2", b"")).position == Position(1, 2)


async def test_a_delete_leaves_a_tombstone(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1")
    assert await bench.writer.delete(b"a") == Written(b"a", Position(1, 2), Stamp(START, 1))
    assert await bench.reader.get(b"a") is None
    item = await store.get(keyspace.data_key(b"a"))
    assert item is not None
    assert decode(item.value).deleted


async def test_a_delete_of_nothing_writes_nothing(bench: Bench) -> None:
    await bench.writer.put(b"a", b"1")
    await bench.writer.delete(b"a")
    asked = bench.fence.asked
    for key in (b"a", b"missing"):
        assert await bench.writer.delete(key) == Written(key, None, None, existed=False)
    assert len(bench.store.commits) == 2
    assert bench.fence.asked == asked + 4
    assert await bench.history.position() == Position(1, 2)


async def test_a_delete_that_found_nothing_does_not_delete_later_under_its_id(bench: Bench) -> None:
    """Its first attempt may come late: after a retry that found nothing, and after what was put since."""
    assert await bench.writer.delete(b"a", "id") == Written(b"a", None, None, existed=False)
    assert await bench.history.position() == Position(0, 0)
    await bench.writer.put(b"a", b"1")
    late = await bench.writer.delete(b"a", "id")
    assert late == Written(b"a", None, None, existed=False, replayed=True)
    assert await bench.reader.get(b"a") is not None
    assert (await bench.writer.put(b"b", b"2")).position == Position(1, 2)
    with pytest.raises(RequestIdReused):
        await bench.writer.delete(b"b", "id")


async def test_a_batch_is_one_transaction_of_consecutive_records(bench: Bench) -> None:
    await bench.writer.put(b"x", b"1")
    operations = [Operation(b"a", b"1"), Operation(b"missing", None), Operation(b"x", None)]
    done = await bench.writer.batch(operations, "b1")
    stamp = Stamp(START, 1)
    assert done == [
        Written(b"a", Position(1, 2), stamp),
        Written(b"missing", Position(1, 3), stamp),
        Written(b"x", Position(1, 4), stamp),
    ]
    records = bench.records()[-1]
    assert [(r.request.id, r.request.index, r.request.count) for r in records if r.request] == [
        ("b1", 0, 3),
        ("b1", 1, 3),
        ("b1", 2, 3),
    ]
    assert await bench.writer.batch(operations, "b1") == [
        Written(w.key, w.position, w.stamp, replayed=True) for w in done
    ]


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [Operation(b"a", b"1"), Operation(b"a", None)],
        [Operation(b"%d" % number, b"") for number in range(MAX_OPERATIONS + 1)],
    ],
    ids=["none", "a key twice", "too many"],
)
async def test_wrong_batches_are_refused(bench: Bench, operations: list[Operation]) -> None:
    with pytest.raises(ValueError, match="a batch"):
        await bench.writer.batch(operations)


async def test_the_largest_batch_fits(bench: Bench) -> None:
    operations = [Operation(b"%d" % number, b"") for number in range(MAX_OPERATIONS)]
    done = await bench.writer.batch(operations, "id")
    assert done[-1].position == Position(1, MAX_OPERATIONS)
    assert len(bench.store.commits[-1][1]) == MAX_WRITES_PER_TRANSACTION - 1  # and its turn


async def test_what_waits_shares_the_next_transaction(bench: Bench) -> None:
    gate = bench.hold()
    first = asyncio.create_task(bench.writer.put(b"first", b"v"))
    await bench.in_flight()
    others = [asyncio.create_task(bench.writer.put(b"%d" % number, b"v")) for number in range(100)]
    await asyncio.sleep(0)
    gate.set()
    done = await outcomes([first, *others])
    assert [w.position for w in done if isinstance(w, Written)] == [Position(1, n) for n in range(1, 102)]
    assert [len(records) for records in bench.records()] == [1, 100]


async def test_what_is_on_its_way_through_the_loop_joins(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One put per two turns of the event loop, as connections that are read in turn bring them."""
    monkeypatch.setattr("grey.data.writer._GATHER_SECONDS", 10.0)
    puts = []
    for number in range(5):
        puts.append(asyncio.create_task(bench.writer.put(b"%d" % number, b"")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*puts)
    assert [len(records) for records in bench.records()] == [5]


async def test_a_stream_of_requests_does_not_hold_the_first_up(bench: Bench) -> None:
    first = asyncio.create_task(bench.writer.put(b"first", b""))
    others = []
    async with asyncio.timeout(10):
        while not first.done():
            others.append(asyncio.create_task(bench.writer.put(b"%d" % len(others), b"")))
            await asyncio.sleep(0)
    await asyncio.gather(*others)
    assert len(bench.records()[0]) <= MAX_OPERATIONS


async def test_a_transaction_is_bounded_in_writes_ids_and_position_included(bench: Bench) -> None:
    gate = bench.hold()
    calls = [asyncio.create_task(bench.writer.put(b"%d" % n, b"v", f"id-{n}")) for n in range(1200)]
    await bench.in_flight()
    gate.set()
    await outcomes(calls)
    assert [len(writes) for _, writes in bench.store.commits] == [999, 999, 405]
    assert await bench.history.position() == Position(1, 1200)


async def test_a_transaction_is_bounded_in_bytes(bench: Bench) -> None:
    gate = bench.hold()
    sizes = [400_000, 400_000, 400_000, 1_048_576, 10, 10]
    calls = [asyncio.create_task(bench.writer.put(b"%d" % n, bytes(s))) for n, s in enumerate(sizes)]
    await bench.in_flight()
    gate.set()
    await outcomes(calls)
    assert [len(records) for records in bench.records()] == [2, 1, 1, 2]


async def test_a_key_twice_goes_into_the_next_in_order(bench: Bench) -> None:
    gate = bench.hold()
    calls = [
        asyncio.create_task(call)
        for call in (
            bench.writer.put(b"a", b"1"),
            bench.writer.put(b"a", b"2"),
            bench.writer.put(b"b", b"1"),
            bench.writer.delete(b"a"),
            bench.writer.put(b"c", b"1"),
        )
    ]
    batch = asyncio.create_task(bench.writer.batch([Operation(b"c", b"2"), Operation(b"d", b"1")]))
    last = asyncio.create_task(bench.writer.put(b"d", b"2"))
    await bench.in_flight()
    gate.set()
    await outcomes([*calls, last])
    await batch
    assert [[(r.key, r.value) for r in records] for records in bench.records()] == [
        [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")],
        [(b"a", b"2"), (b"c", b"2"), (b"d", b"1")],
        [(b"a", None), (b"d", b"2")],
    ]


async def test_a_retry_is_answered_and_not_carried_out(bench: Bench) -> None:
    done = await bench.writer.put(b"a", b"1", "id")
    bench.wall.microseconds += 1_000_000
    await bench.writer.put(b"a", b"2")
    assert await bench.writer.put(b"a", b"1", "id") == Written(b"a", done.position, done.stamp, replayed=True)
    found = await bench.reader.get(b"a")
    assert found is not None
    assert found.value == b"2"
    gone = await bench.writer.delete(b"a", "delete-id")
    assert await bench.writer.delete(b"a", "delete-id") == Written(
        b"a", gone.position, gone.stamp, replayed=True
    )


async def test_the_entry_of_a_request_id(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1", "id")
    item = await store.get(keyspace.request_key("id"))
    assert item is not None
    entry = decode_entry(item.value)
    assert (entry.first, entry.count, entry.stamp) == (Position(1, 1), 1, Stamp(START, 0))
    assert entry.wall_seconds == START // 1_000_000
    assert bench.records()[0][0].request == RequestRef("id", 0, 1, entry.digest)


@pytest.mark.parametrize("ask", ["put", "delete", "batch"])
async def test_an_id_for_another_request_is_refused(bench: Bench, ask: str) -> None:
    await bench.writer.put(b"a", b"1", "id")
    with pytest.raises(RequestIdReused, match="'id'"):
        if ask == "put":
            await bench.writer.put(b"a", b"2", "id")
        elif ask == "delete":
            await bench.writer.delete(b"a", "id")
        else:
            await bench.writer.batch([Operation(b"a", b"1")], "id")
    assert len(bench.store.commits) == 1


async def test_two_at_once_with_one_id_are_carried_out_once(bench: Bench) -> None:
    calls = [bench.writer.put(b"a", b"1", "id") for _ in range(5)]
    other = bench.writer.put(b"b", b"2", "id")
    done = await outcomes([*calls, other])
    first, *again = done[:5]
    assert isinstance(first, Written)
    assert not first.replayed
    assert again == [Written(b"a", first.position, first.stamp, replayed=True)] * 4
    assert isinstance(done[5], RequestIdReused)
    assert await bench.history.position() == Position(1, 1)


async def test_an_id_that_cannot_be_stored_harms_nobody_else(bench: Bench) -> None:
    with pytest.raises(UnicodeEncodeError):
        await bench.writer.put(b"a", b"1", "ä")
    assert (await bench.writer.put(b"a", b"1")).position == Position(1, 1)


async def test_a_position_that_was_moved_by_somebody_else_is_read_again(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1")
    await store.commit([], [Write(keyspace.POSITION, b"1.9")])
    assert (await bench.writer.put(b"b", b"1")).position == Position(1, 10)


async def test_after_lost_contact_the_retry_finds_a_commit_that_came_late(bench: Bench) -> None:
    """It happens between the retry's look for the id and the retry's commit."""
    bench.store.faults.extend(["late"])
    with pytest.raises(OutcomeUnknown, match="retry it with the same request id"):
        await bench.writer.put(b"a", b"1", "id")
    done = await bench.writer.put(b"a", b"1", "id")
    assert done == Written(b"a", Position(1, 1), Stamp(START, 0), replayed=True)
    assert await bench.history.position() == Position(1, 1)


@pytest.mark.parametrize(("fault", "next_sequence"), [("lost", 1), ("silent", 2)])
async def test_an_uncertain_commit(bench: Bench, fault: str, next_sequence: int) -> None:
    bench.store.faults.append(fault)
    done = await outcomes([bench.writer.put(b"a", b"1"), bench.writer.put(b"a", b"2")])
    assert isinstance(done[0], OutcomeUnknown)
    assert isinstance(done[1], Written)
    assert done[1].position == Position(1, next_sequence)


async def test_a_full_disk_says_that_nothing_was_written(bench: Bench) -> None:
    bench.store.faults.append("full")
    done = await outcomes([bench.writer.put(b"a", b"1"), bench.writer.put(b"b", b"1")])
    assert all(isinstance(each, DiskFull) for each in done)
    assert done[0] is not done[1]
    assert await bench.history.position() == Position(0, 0)
    assert (await bench.writer.put(b"a", b"1")).position == Position(1, 1)


async def test_a_store_that_cannot_be_read_refuses(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(keys: object) -> None:
        raise StoreError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "get_many", fail)
        with pytest.raises(StoreError, match="no answer"):
            await bench.writer.put(b"a", b"1")
    assert (await bench.writer.put(b"a", b"1")).position == Position(1, 1)


async def test_damage_ends_the_writer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = bench.hold()

    async def fail(*_: object) -> int:
        bench.store.begun.set()
        await gate.wait()
        raise StoreDamaged("broken")

    monkeypatch.setattr(bench.store, "commit", fail)
    call = asyncio.create_task(bench.writer.put(b"a", b"1"))
    await bench.in_flight()
    waiting = asyncio.create_task(bench.writer.put(b"b", b"1"))
    await asyncio.sleep(0)
    gate.set()
    done = await outcomes([call, waiting])
    assert isinstance(done[0], OutcomeUnknown)
    assert isinstance(done[1], WriterStopped)
    assert bench.task is not None
    with pytest.raises(StoreDamaged, match="broken"):
        await bench.task


async def test_stopping_tells_everybody(bench: Bench) -> None:
    bench.hold()
    flying = asyncio.create_task(bench.writer.put(b"a", b"1"))
    await bench.in_flight()
    waiting = asyncio.create_task(bench.writer.put(b"b", b"1"))
    await asyncio.sleep(0)
    await bench.stop()
    done = await outcomes([flying, waiting, bench.writer.put(b"c", b"1")])
    assert isinstance(done[0], OutcomeUnknown)
    assert isinstance(done[1], WriterStopped)
    assert isinstance(done[2], WriterStopped)


async def test_a_writer_can_run_again(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1")
    await bench.stop()
    await store.commit([], [Write(keyspace.POSITION, b"1.5")])
    bench.start()
    await asyncio.sleep(0)
    assert (await bench.writer.put(b"a", b"1")).position == Position(1, 6)


async def test_stamps_go_on_after_a_start_with_the_clock_set_back(bench: Bench, store: Store) -> None:
    done = await bench.writer.put(b"a", b"1")
    await bench.stop()
    later = Bench(store)
    later.wall.microseconds = 5
    later.start()
    after = await later.writer.put(b"a", b"2")
    assert after.stamp is not None
    assert done.stamp is not None
    assert after.stamp > done.stamp
    await later.stop()


async def test_a_start_on_compacted_history(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1")
    await bench.stop()
    await store.compact((await store.status()).revision)
    later = Bench(store)
    later.start()
    assert (await later.writer.put(b"a", b"2")).position == Position(1, 2)
    await later.stop()


async def test_too_many_waiting_are_turned_away(store: Store) -> None:
    writer = Writer(store, FakeFence(), cluster="a", clock=HybridClock(), max_waiting=3)
    calls = [asyncio.create_task(writer.put(b"%d" % number, b"")) for number in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="3 writes wait already"):
        await writer.put(b"x", b"")
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)


async def test_a_caller_that_is_gone_before_its_turn_writes_nothing(bench: Bench) -> None:
    gate = bench.hold()
    first = asyncio.create_task(bench.writer.put(b"first", b""))
    await bench.in_flight()
    calls = [asyncio.create_task(bench.writer.put(b"%d" % number, b"")) for number in range(4)]
    await asyncio.sleep(0)
    calls[0].cancel()
    calls[2].cancel()
    await asyncio.wait(calls[::2])
    gate.set()
    await outcomes([first, calls[1], calls[3]])
    assert [[r.key for r in records] for records in bench.records()] == [[b"first"], [b"1", b"3"]]


async def test_a_caller_that_is_gone_in_flight_harms_nobody(bench: Bench) -> None:
    gate = bench.hold()
    calls = [asyncio.create_task(bench.writer.put(b"%d" % number, b"")) for number in range(3)]
    await bench.in_flight()
    calls[1].cancel()
    gate.set()
    done = await outcomes(calls)
    assert [type(each) for each in done] == [Written, asyncio.CancelledError, Written]
    assert await bench.reader.get(b"1") is not None
