# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_store import MemoryStore
from support.writer_bench import Bench, outcomes

from grey.data import keyspace, mirror
from grey.data.errors import OutcomeUnknown
from grey.data.mirror import Mirror
from grey.record import Position
from grey.store.interface import Change, StoreDamaged, StoreError, Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grey.store.interface import Store


@asynccontextmanager
async def running(memory: Mirror) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(memory.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def value(memory: Mirror, key: bytes) -> bytes | None:
    found = memory.find(key)
    return None if found is None else found.value


class Slow:
    """Passes a store on, but hands over the changes of its watch only as they are let through."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.open = asyncio.Event()
        self.ranges = 0
        self.broken: list[Exception] = []

    async def watch(self, start: bytes, end: bytes | None, *, after: int) -> AsyncIterator[list[Change]]:
        async for changes in self.store.watch(start, end, after=after):
            await self.open.wait()
            if self.broken:
                raise self.broken.pop()
            yield changes

    async def range(self, *args: Any, **options: Any) -> Any:
        self.ranges += 1
        return await self.store.range(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


async def test_it_holds_what_the_store_holds(bench: Bench) -> None:
    await bench.writer.put(b"a", b"1")
    await bench.writer.put(b"gone", b"1")
    await bench.writer.delete(b"gone")
    memory = bench.mirror
    assert not memory.complete
    async with running(memory):
        await until(lambda: memory.complete)
        assert (value(memory, b"a"), value(memory, b"gone"), value(memory, b"x")) == (b"1", None, None)
        assert (len(memory), memory.position) == (1, Position(1, 3))
        found = await bench.reader.get(b"a", serializable=True)
        assert found == await bench.reader.get(b"a")
        await bench.writer.put(b"b", b"2")
        await bench.writer.delete(b"a")
        await until(lambda: memory.position == Position(1, 5))
        assert (value(memory, b"a"), value(memory, b"b"), len(memory)) == (None, b"2", 1)


async def test_only_eventual_reads_ask_it(bench: Bench, store: Store) -> None:
    async with running(bench.mirror):
        await until(lambda: bench.mirror.complete)
        await bench.writer.put(b"a", b"1")
        await until(lambda: bench.mirror.position == Position(1, 1))
        bench.mirror._values.clear()
        assert await bench.reader.get(b"a", serializable=True) is None
        assert await bench.reader.get(b"a") is not None


async def test_a_client_reads_its_own_writes_before_the_watch_brings_them(bench: Bench) -> None:
    slow = Slow(bench.store)
    memory = Mirror(slow)  # type: ignore[arg-type]
    bench.writer._mirror = memory
    await bench.writer.put(b"a", b"0")
    async with running(memory):
        await until(lambda: memory.complete)
        for number in range(1, 5):
            await bench.writer.put(b"a", b"%d" % number)
            await bench.writer.put(b"b", b"%d" % number)
            assert (value(memory, b"a"), value(memory, b"b")) == (b"%d" % number, b"%d" % number)
        await bench.writer.delete(b"b")
        assert value(memory, b"b") is None
        slow.open.set()
        while memory.position < Position(1, 10):
            assert (value(memory, b"a"), value(memory, b"b")) == (b"4", None)
            await asyncio.sleep(0)
        assert not memory._own


async def test_it_is_right_under_concurrent_writes_of_two_nodes(bench: Bench, store: Store) -> None:
    """Own writes show at once, also those of another writer in the end, and nothing ever goes back."""
    rng = random.Random(5)
    newest: dict[bytes, Position] = {}

    async def client(number: int) -> None:
        for _ in range(30):
            key = b"%d" % rng.randrange(4)
            if rng.random() < 0.3:
                done = await bench.writer.delete(key)
            else:
                done = await bench.writer.put(key, b"%d" % number)
            if done.position is None:
                continue
            newest[key] = max(newest.get(key, done.position), done.position)
            found = bench.mirror.find(key)
            assert found is None or found.position >= done.position
            await asyncio.sleep(0)

    async with running(bench.mirror):
        await until(lambda: bench.mirror.complete)
        await asyncio.gather(*(client(number) for number in range(20)))
        position = await bench.history.position()
        await until(lambda: bench.mirror.position == position)
        for key in newest:
            assert bench.mirror.find(key) == await bench.reader.get(key)


async def test_writes_while_it_loads_are_not_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_PAGE_KEYS", 3)
    await outcomes(bench.writer.put(b"%02d" % n, b"old") for n in range(30))
    async with running(bench.mirror):
        await outcomes(bench.writer.put(b"%02d" % n, b"new") for n in range(0, 40, 2))
        await until(lambda: bench.mirror.complete)
        for n in range(40):
            wanted = b"new" if n % 2 == 0 else b"old" if n < 30 else None
            assert value(bench.mirror, b"%02d" % n) == wanted
        await until(lambda: bench.mirror.position == Position(1, 50))
    assert len(bench.mirror) == 35


async def test_a_write_that_is_acknowledged_by_its_retry_is_read_on_the_same_node(bench: Bench) -> None:
    """Its first attempt was carried out without an answer, or by another node: memory was not told."""
    slow = Slow(bench.store.real)
    memory = bench.reader._mirror = bench.writer._mirror = Mirror(slow)
    await bench.writer.put(b"a", b"0")
    await bench.writer.put(b"gone", b"0")
    async with running(memory):
        await until(lambda: memory.complete)
        bench.store.faults.append("silent")
        with pytest.raises(OutcomeUnknown):
            await bench.writer.put(b"a", b"1", "id-1")
        assert (await bench.writer.put(b"a", b"1", "id-1")).replayed
        found = await bench.reader.get(b"a", serializable=True)
        assert found is not None
        assert found.value == b"1"
        slow.open.set()
        await until(lambda: memory.complete)
        assert value(memory, b"a") == b"1"
        slow.open.clear()
        other = Bench(bench.store.real)
        other.start()
        await other.writer.delete(b"gone")
        await other.stop()
        assert not (await bench.writer.delete(b"gone")).existed
        assert await bench.reader.get(b"gone", serializable=True) is None


async def test_what_the_engine_showed_while_memory_was_loaded_does_not_become_older(bench: Bench) -> None:
    slow = Slow(bench.store.real)
    memory = bench.reader._mirror = Mirror(slow)
    shipped = slow.range

    async def overtaken(*args: Any, **options: Any) -> Any:
        page = await shipped(*args, **options)
        await bench.writer.put(b"a", b"new")
        return page

    slow.range = overtaken  # type: ignore[method-assign]
    await bench.writer.put(b"a", b"old")
    async with running(memory):
        await until(lambda: memory._loaded)
        assert (memory.complete, value(memory, b"a")) == (False, b"old")
        found = await bench.reader.get(b"a", serializable=True)
        assert found is not None
        assert found.value == b"new"
        slow.open.set()
        await until(lambda: memory.complete)
        assert value(memory, b"a") == b"new"


async def test_a_store_that_does_not_fit_is_left_to_the_engine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "TOO_LARGE_SECONDS", 0.01)
    memory = Mirror(bench.store, limit_bytes=10_000)
    bench.reader._mirror = memory
    await bench.writer.put(b"a", bytes(5000))
    async with running(memory):
        await until(lambda: memory.complete)
        await bench.writer.put(b"b", bytes(5000))
        await until(lambda: not memory.complete)
        assert (memory.bytes, len(memory)) == (0, 0)
        assert await bench.reader.get(b"b", serializable=True) is not None
        await bench.writer.delete(b"a")
        await until(lambda: memory.complete)
        assert len(memory) == 1
        size = memory.bytes
        await bench.writer.put(b"b", bytes(4000))
        await until(lambda: memory.bytes == size - 1000)


async def test_after_compaction_it_reads_everything_anew(bench: Bench) -> None:
    slow = Slow(bench.store.real)
    memory = Mirror(slow)  # type: ignore[arg-type]
    bench.writer._mirror = memory
    await bench.writer.put(b"a", b"1")
    async with running(memory) as task:
        await until(lambda: memory.complete)
        slow.broken = [StoreError("the connection is gone")]
        slow.open.set()
        await bench.writer.put(b"a", b"2")
        await until(lambda: not slow.broken)
        slow.open.clear()
        await bench.writer.put(b"b", b"2")
        await bench.writer.put(b"a", b"3")
        await bench.store.real.compact((await bench.store.real.status()).revision)
        # It cannot know that yet, and serves what it has, with the own writes on top.
        assert (value(memory, b"a"), value(memory, b"b")) == (b"3", b"2")
        loaded = slow.ranges
        await until(lambda: slow.ranges > loaded)
        await until(lambda: memory.position == Position(1, 4))
        slow.open.set()
        await bench.writer.put(b"c", b"4")
        await until(lambda: memory.position == Position(1, 5))
        assert [value(memory, key) for key in (b"a", b"b", b"c")] == [b"3", b"2", b"4"]
        assert not task.done()


async def test_a_full_copy_shows_too() -> None:
    """On a replica keys are removed and overwritten by older versions; what the store holds counts."""
    store = MemoryStore()
    bench = Bench(store)
    await bench.history.claim(1)
    bench.start()
    await bench.writer.put(b"a", b"1")
    await bench.writer.put(b"b", b"1")
    await bench.stop()
    memory = Mirror(store)
    async with running(memory):
        await until(lambda: memory.complete)
        old = bench.records()[0][0]
        await store.commit(
            [],
            [
                Write(keyspace.COPYING, b"x"),
                Write(b"k/b", None),
                Write(b"k/c", bench.encoded(old)),
                Write(keyspace.POSITION, b"1.1"),
            ],
        )
        await until(lambda: memory.position == Position(1, 1))
        assert [value(memory, key) for key in (b"a", b"b", b"c")] == [b"1", None, b"1"]
        await store.compact((await store.status()).revision)
        await store.commit([], [Write(b"k/a", None), Write(keyspace.COPYING, None)])
        await until(lambda: value(memory, b"a") is None)


async def test_damage_is_told_to_who_reads_it(bench: Bench) -> None:
    await bench.store.real.commit([], [Write(b"k/a", b"\xc1"), Write(b"k/b", b"")])
    async with running(bench.mirror):
        await until(lambda: bench.mirror.complete)
        for key in (b"a", b"b"):
            with pytest.raises(StoreDamaged, match=str(key)):
                await bench.reader.get(key, serializable=True)


async def test_a_store_that_cannot_go_on_ends_it(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise StoreDamaged("broken")

    monkeypatch.setattr(store, "range", fail)
    with pytest.raises(StoreDamaged, match="broken"):
        await asyncio.wait_for(bench.mirror.run(), 20)
