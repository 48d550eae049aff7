# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.writer_bench import Bench, outcomes

from grey.data.conditions import Absent, At
from grey.data.errors import ConditionFailed, RequestIdReused
from grey.data.waiting import MAX_OPERATIONS
from grey.data.writer import Operation, Writer, Written
from grey.record import HybridClock, Position

if TYPE_CHECKING:
    from grey.store.interface import Store


async def failed(call: object) -> tuple[bytes, Position | None]:
    with pytest.raises(ConditionFailed) as caught:
        await call  # type: ignore[misc]
    return caught.value.key, caught.value.found


async def test_if_absent(bench: Bench) -> None:
    first = await bench.writer.put(b"a", b"1", condition=Absent())
    assert first.position == Position(1, 1)
    assert await failed(bench.writer.put(b"a", b"2", condition=Absent())) == (b"a", Position(1, 1))
    await bench.writer.delete(b"a")
    assert (await bench.writer.put(b"a", b"3", condition=Absent())).position == Position(1, 3)
    assert [len(records) for records in bench.records()] == [1, 1, 1]


async def test_if_at_a_position(bench: Bench) -> None:
    assert await failed(bench.writer.put(b"a", b"1", condition=At(Position(1, 1)))) == (b"a", None)
    await bench.writer.put(b"b", b"1")
    first = await bench.writer.put(b"a", b"1")
    assert first.position is not None
    again = await bench.writer.put(b"a", b"2", condition=At(first.position))
    assert again.position == Position(1, 3)
    assert await failed(bench.writer.put(b"a", b"3", condition=At(first.position))) == (b"a", Position(1, 3))
    assert await failed(bench.writer.delete(b"a", condition=At(first.position))) == (b"a", Position(1, 3))
    assert (await bench.writer.delete(b"a", condition=At(Position(1, 3)))).position == Position(1, 4)
    assert await failed(bench.writer.delete(b"a", condition=At(Position(1, 4)))) == (b"a", None)


async def test_a_failed_condition_says_what_to_do_in_words(bench: Bench) -> None:
    await bench.writer.put(b"a", b"1")
    with pytest.raises(ConditionFailed, match=r"b'a' is at position 1\.1, .* nothing was written"):
        await bench.writer.put(b"a", b"2", condition=Absent())
    with pytest.raises(ConditionFailed, match="b'x' does not exist"):
        await bench.writer.put(b"x", b"2", condition=At(Position(1, 1)))


async def test_one_failed_condition_fails_the_whole_batch(bench: Bench) -> None:
    await bench.writer.put(b"b", b"1")
    operations = [
        Operation(b"a", b"1", condition=Absent()),
        Operation(b"b", None, condition=At(Position(1, 7))),
        Operation(b"c", b"1", condition=At(Position(1, 8))),
    ]
    assert await failed(bench.writer.batch(operations)) == (b"b", Position(1, 1))
    assert await bench.history.position() == Position(1, 1)
    operations = [operations[0], Operation(b"b", None, condition=At(Position(1, 1))), Operation(b"c", b"1")]
    assert [each.position for each in await bench.writer.batch(operations)] == [
        Position(1, 2),
        Position(1, 3),
        Position(1, 4),
    ]


async def test_a_refused_one_does_not_hurt_its_group(bench: Bench) -> None:
    await bench.writer.put(b"a", b"1")
    gate = bench.hold()
    bench.store.begun.clear()
    first = asyncio.create_task(bench.writer.put(b"x", b"1"))
    await bench.in_flight()
    others = [
        asyncio.create_task(bench.writer.put(b"a", b"2", condition=Absent())),
        asyncio.create_task(bench.writer.put(b"b", b"1", condition=Absent())),
        asyncio.create_task(bench.writer.put(b"c", b"1")),
    ]
    await asyncio.sleep(0)
    gate.set()
    done = await outcomes([first, *others])
    assert isinstance(done[1], ConditionFailed)
    assert [w.position for w in done if isinstance(w, Written)] == [Position(1, n) for n in (2, 3, 4)]
    assert [len(records) for records in bench.records()] == [1, 1, 2]


async def test_of_many_at_once_one_is_the_first(bench: Bench) -> None:
    done = await outcomes(bench.writer.put(b"a", b"%d" % n, condition=Absent()) for n in range(50))
    winners = [each for each in done if isinstance(each, Written)]
    assert len(winners) == 1
    assert all(each.found == winners[0].position for each in done if isinstance(each, ConditionFailed))
    found = await bench.reader.get(b"a")
    assert found is not None
    assert found.value == b"0"


async def test_a_counter_of_many_clients_loses_no_step(bench: Bench) -> None:
    """Each reads, adds one and writes back if nobody else did meanwhile."""
    await bench.writer.put(b"n", b"0")

    async def add() -> None:
        while True:
            found = await bench.reader.get(b"n")
            assert found is not None
            try:
                value = b"%d" % (int(found.value or b"") + 1)
                await bench.writer.put(b"n", value, condition=At(found.position))
            except ConditionFailed:
                continue
            return

    async with asyncio.timeout(30):
        await asyncio.gather(*(add() for _ in range(30)))
    found = await bench.reader.get(b"n")
    assert found is not None
    assert found.value == b"30"


async def test_two_nodes_on_one_store_judge_by_the_same_state(bench: Bench, store: Store) -> None:
    other = Writer(store, bench.fence, cluster="aws-east", clock=HybridClock(bench.wall))
    task = asyncio.create_task(other.run())
    await asyncio.sleep(0)
    for number in range(20):
        key = b"%d" % number
        done = await outcomes(writer.put(key, b"v", condition=Absent()) for writer in (bench.writer, other))
        assert sorted(type(each).__name__ for each in done) == ["ConditionFailed", "Written"]
    assert await bench.history.position() == Position(1, 20)
    task.cancel()
    await asyncio.wait([task])


async def test_a_retry_is_answered_although_its_condition_holds_no_more(bench: Bench) -> None:
    done = await bench.writer.put(b"a", b"1", "id", condition=Absent())
    again = await bench.writer.put(b"a", b"1", "id", condition=Absent())
    assert again == Written(b"a", done.position, done.stamp, replayed=True)


async def test_a_request_that_was_refused_left_no_id(bench: Bench) -> None:
    await bench.writer.put(b"a", b"1")
    await failed(bench.writer.put(b"a", b"2", "id", condition=Absent()))
    assert (await bench.writer.put(b"b", b"2", "id")).position == Position(1, 2)


@pytest.mark.parametrize(
    "other",
    [
        Operation(b"a", b"1"),
        Operation(b"a", b"1", 60.0),
        Operation(b"a", b"1", None, At(Position(1, 1))),
        Operation(b"a", b"1", 60.5, Absent()),
    ],
)
async def test_a_condition_and_a_time_to_live_belong_to_what_an_id_stands_for(
    bench: Bench, other: Operation
) -> None:
    await bench.writer.batch([Operation(b"a", b"1", 60.0, Absent())], "id")
    with pytest.raises(RequestIdReused):
        await bench.writer.batch([other], "id")


async def test_operations_with_a_time_to_live_count_twice(bench: Bench) -> None:
    many = [Operation(b"%d" % n, b"", 60.0) for n in range(MAX_OPERATIONS // 2)]
    await bench.writer.batch(many, "id")
    assert len(bench.store.commits[-1][1]) == 2 * len(many) + 2
    with pytest.raises(ValueError, match="counts twice"):
        await bench.writer.batch([*many, *(Operation(b"x%d" % n, b"") for n in range(2))], "id")


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e12, float("nan"), float("inf")])
async def test_times_to_live_that_are_none(bench: Bench, seconds: float) -> None:
    with pytest.raises(ValueError, match="a time to live"):
        await bench.writer.put(b"a", b"1", ttl_seconds=seconds)
