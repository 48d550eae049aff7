# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from support.memory_store import MemoryStore
from support.writer_bench import Bench, outcomes

from grey.data import keyspace
from grey.data.errors import Copied, Diverged, NotYetHere
from grey.data.feed import Batch, Feed
from grey.data.history import History
from grey.data.writer import Operation
from grey.record import Position
from grey.record.position import ORIGIN
from grey.store.interface import Compacted, StoreStatus, Write

if TYPE_CHECKING:
    from grey.store.interface import Store


async def take(feed: Feed, prefix: bytes, after: Position | None, count: int) -> list[Batch]:
    found: list[Batch] = []
    async with asyncio.timeout(20), aclosing(feed.watch(prefix, after)) as watch:  # type: ignore[type-var]
        while len(found) < count:
            found.append(await anext(watch))
    return found


def told(batches: list[Batch]) -> list[tuple[bytes, bytes | None, str]]:
    return [(e.key, e.value, str(e.position)) for batch in batches for e in batch.envelopes]


async def test_from_now_on_says_where_that_is(bench: Bench) -> None:
    assert await take(bench.feed, b"", None, 1) == [Batch([], ORIGIN)]
    await bench.writer.put(b"a", b"1")
    assert await take(bench.feed, b"", None, 1) == [Batch([], Position(1, 1))]


async def test_every_change_after_a_position_in_order(bench: Bench) -> None:
    await bench.writer.put(b"user:1", b"a")
    await bench.writer.put(b"other", b"b")
    await bench.writer.batch([Operation(b"user:9", b"c"), Operation(b"user:1", None)])
    await bench.writer.put(b"user:2", b"d", ttl_seconds=30)
    bench.pass_seconds(30)
    await bench.expiry.sweep()
    found = await take(bench.feed, b"user:", ORIGIN, 4)
    assert told(found) == [
        (b"user:1", b"a", "1.1"),
        (b"user:9", b"c", "1.3"),
        (b"user:1", None, "1.4"),
        (b"user:2", b"d", "1.5"),
        (b"user:2", None, "1.6"),
    ]
    assert [str(batch.position) for batch in found] == ["1.1", "1.4", "1.5", "1.6"]
    assert told(await take(bench.feed, b"user:", Position(1, 1), 3)) == told(found)[1:]
    # From the middle of a transaction on:
    assert told(await take(bench.feed, b"user:", Position(1, 3), 3)) == told(found)[2:]


async def test_what_is_internal_never_shows(bench: Bench) -> None:
    for number in range(5):
        await bench.writer.put(b"a", b"%d" % number, f"id-{number}", ttl_seconds=60)
    found = await take(bench.feed, b"", ORIGIN, 5)
    assert [key for key, _, _ in told(found)] == [b"a"] * 5


async def test_progress_is_told_while_nothing_matches(bench: Bench) -> None:
    feed = Feed(bench.store, bench.history, progress_seconds=0.02)
    async with asyncio.timeout(20), aclosing(feed.watch(b"user:", None)) as watch:  # type: ignore[type-var]
        assert await anext(watch) == Batch([], ORIGIN)
        assert await anext(watch) == Batch([], ORIGIN)
        await bench.writer.put(b"other", b"1")
        while (batch := await anext(watch)).position == ORIGIN:
            assert batch.envelopes == []
        assert batch == Batch([], Position(1, 1))
        await bench.writer.put(b"user:1", b"1")
        while not (batch := await anext(watch)).envelopes:
            assert batch.position == Position(1, 1)
        assert batch.position == Position(1, 2)


async def test_many_other_writes_do_not_wake_the_client(bench: Bench) -> None:
    async with asyncio.timeout(20), aclosing(bench.feed.watch(b"user:", None)) as watch:  # type: ignore[type-var]
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await outcomes(bench.writer.put(b"%d" % n, b"") for n in range(50))
        await bench.writer.put(b"user:1", b"1")
        assert (await waiting).position == Position(1, 51)


async def test_a_resumed_watch_skips_and_doubles_nothing(bench: Bench) -> None:
    """However often it is cut, at whatever record."""

    async def write() -> None:
        for number in range(40):
            await bench.writer.batch([Operation(b"%d-%d" % (number, n), b"v") for n in range(3)])

    task = asyncio.create_task(write())
    seen: list[Position] = []
    after: Position = ORIGIN
    cut = 1
    async with asyncio.timeout(30):
        while len(seen) < 120:
            async with aclosing(bench.feed.watch(b"", after)) as watch:  # type: ignore[type-var]
                batch = await anext(watch)
            # The connection breaks after some of the events of the batch.
            some = batch.envelopes[:cut]
            cut = cut % 3 + 1
            seen += [envelope.position for envelope in some]
            after = seen[-1] if seen else ORIGIN
    await task
    assert seen == [Position(1, n) for n in range(1, 121)]


async def test_positions_that_cannot_be_gone_on_from(bench: Bench, store: Store) -> None:
    for number in range(5):
        await bench.writer.put(b"a", b"%d" % number)
    with pytest.raises(NotYetHere) as caught:
        await take(bench.feed, b"", Position(1, 6), 1)
    assert (caught.value.position, caught.value.held) == (Position(1, 6), Position(1, 5))
    with pytest.raises(NotYetHere):
        await take(bench.feed, b"", Position(2, 9), 1)
    with pytest.raises(Diverged):
        await take(bench.feed, b"", Position(2, 3), 1)
    await bench.history.claim(2)
    bench.fence.held = 2
    await bench.writer.put(b"a", b"x")
    with pytest.raises(Diverged):
        await take(bench.feed, b"", Position(1, 7), 1)
    await store.compact((await store.status()).revision)
    with pytest.raises(Compacted):
        await take(bench.feed, b"", Position(1, 3), 1)
    await bench.writer.put(b"a", b"y")
    assert told(await take(bench.feed, b"", Position(2, 6), 1)) == [(b"a", b"y", "2.7")]


async def test_a_full_copy_ends_it(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1")
    async with asyncio.timeout(20), aclosing(bench.feed.watch(b"", None)) as watch:  # type: ignore[type-var]
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await store.commit([], [Write(keyspace.COPYING, b"{}")])
        with pytest.raises(Copied, match="list the keys anew"):
            await waiting
    for after in (None, Position(1, 1)):
        with pytest.raises(Copied):
            await take(bench.feed, b"", after, 1)


async def test_a_closed_watch_leaves_nothing_behind() -> None:
    store = MemoryStore()
    feed = Feed(store, History(store))
    watch = feed.watch(b"", None)
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await watch.aclose()  # type: ignore[attr-defined]
    assert len(asyncio.all_tasks()) == 1


async def test_a_copy_that_begins_while_a_watch_does_is_not_missed() -> None:
    """Nothing that follows the mark would tell the watch that keys are removed without a tombstone."""

    class Overtaken(MemoryStore):
        async def status(self) -> StoreStatus:
            if self.value(keyspace.COPYING) is None:
                await self.commit([], [Write(keyspace.COPYING, b"{}")])
            return await super().status()

    for after in (None, ORIGIN):
        store = Overtaken()
        with pytest.raises(Copied):
            await take(Feed(store, History(store), progress_seconds=0.01), b"", after, 3)
