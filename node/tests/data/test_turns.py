# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several writers on one engine, of which one is always faster than the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.fences import FakeFence
from support.memory_store import MemoryStore
from support.virtual_time import run_virtual

from grey.data import keyspace
from grey.data.conditions import At
from grey.data.errors import ConditionFailed
from grey.data.history import History
from grey.data.turns import LONGEST_TURN_SECONDS, Turns
from grey.data.writer import Writer
from grey.record import HybridClock, Position
from grey.store.interface import CommitUncertain, Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.store.interface import Compare, Item


class Distant:
    """An engine that is so many seconds away, there and back."""

    def __init__(self, store: MemoryStore, seconds: float) -> None:
        self._store = store
        self._seconds = seconds

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        await asyncio.sleep(self._seconds / 2)
        try:
            return await self._store.commit(compares, writes)
        finally:
            await asyncio.sleep(self._seconds / 2)

    async def get(self, key: bytes, *, serializable: bool = False) -> Item | None:
        await asyncio.sleep(self._seconds)
        return await self._store.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Item]:
        await asyncio.sleep(self._seconds / 2)
        found = await self._store.get_many(keys)
        await asyncio.sleep(self._seconds / 2)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Race:
    """Writers at different distances from one engine, each with clients that never pause."""

    def __init__(self, seconds: Sequence[float]) -> None:
        loop = asyncio.get_running_loop()
        self.store = MemoryStore()
        self.writers = [
            Writer(
                Distant(self.store, each),  # type: ignore[arg-type]
                FakeFence(1),
                cluster="here",
                clock=HybridClock(lambda: int(loop.time() * 1e6) + 1),
            )
            for each in seconds
        ]
        for writer in self.writers:
            writer._turns._monotonic = loop.time
        self.done = [0] * len(self.writers)
        self.longest = [0.0] * len(self.writers)

    async def run(self, clients: int, seconds: float, *, key: bytes | None = None) -> None:
        loop = asyncio.get_running_loop()
        await History(self.store).claim(1)
        tasks = [asyncio.create_task(writer.run()) for writer in self.writers]

        async def client(number: int, index: int) -> None:
            while loop.time() < seconds:
                begun = loop.time()
                await self.writers[index].put(key or b"%d-%d" % (index, number), b"v")
                self.done[index] += 1
                self.longest[index] = max(self.longest[index], loop.time() - begun)

        calls = [client(number, index) for index in range(len(self.writers)) for number in range(clients)]
        await asyncio.gather(*calls)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def a_distant_node_is_not_starved() -> None:
    """Without turns the near one wins every time, for its next transaction is there first."""
    race = Race([0.001, 0.010, 0.013])
    await race.run(clients=4, seconds=5.0)
    assert min(race.done) > 100
    assert max(race.longest) < 0.5
    assert (await History(race.store).position()).sequence == sum(race.done)


def test_a_distant_node_is_not_starved() -> None:
    run_virtual(a_distant_node_is_not_starved())


def test_alone_a_node_asks_for_no_turn() -> None:
    async def main() -> None:
        race = Race([0.001])
        await race.run(clients=4, seconds=1.0)
        assert race.done[0] > 3000
        assert race.writers[0]._turns._count == 0

    run_virtual(main())


def test_one_hot_key_of_several_nodes() -> None:
    async def main() -> None:
        race = Race([0.002, 0.004])
        await race.run(clients=20, seconds=5.0, key=b"hot")
        assert min(race.done) > 150
        assert max(race.longest) < 2.0

    run_virtual(main())


async def stand(store: MemoryStore) -> tuple[Writer, asyncio.Task[None]]:
    loop = asyncio.get_running_loop()
    writer = Writer(store, FakeFence(1), cluster="here", clock=HybridClock())
    writer._turns._monotonic = loop.time
    return writer, asyncio.create_task(writer.run())


def test_a_node_that_died_with_its_turn_is_passed_over() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        store = MemoryStore()
        await History(store).claim(1)
        await store.commit([], [Write(keyspace.TURN, b"dead-1")])
        writer, task = await stand(store)
        begun = loop.time()
        assert (await writer.put(b"a", b"1")).position == Position(1, 1)
        assert LONGEST_TURN_SECONDS <= loop.time() - begun < LONGEST_TURN_SECONDS + 0.1
        await asyncio.sleep(0.01)
        assert store.value(keyspace.TURN) is None
        begun = loop.time()
        await writer.put(b"a", b"2")
        assert loop.time() == begun
        task.cancel()
        await asyncio.wait([task])

    run_virtual(main())


def test_a_node_that_thaws_after_its_turn_does_no_harm() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        store = MemoryStore()
        await History(store).claim(1)
        frozen, awake = (Turns(store, monotonic=loop.time) for _ in range(2))
        await frozen.contend(2)
        assert frozen.held is not None
        await awake.contend(1)
        assert awake.held is not None
        await frozen.give_back()
        assert store.value(keyspace.TURN) == awake.held
        await awake.give_back()
        assert store.value(keyspace.TURN) is None

    run_virtual(main())


def test_a_turn_whose_outcome_is_unknown_is_found_or_asked_for_again() -> None:
    async def main() -> None:
        for happened in (True, False):
            loop = asyncio.get_running_loop()
            store = MemoryStore()
            shipped, lost = store.commit, 1

            async def commit(compares: Sequence[Compare], writes: Sequence[Write]) -> int:
                nonlocal lost
                if lost:
                    lost -= 1
                    if happened:  # noqa: B023
                        await shipped(compares, writes)  # noqa: B023
                    raise CommitUncertain("injected")
                return await shipped(compares, writes)  # noqa: B023

            store.commit = commit  # type: ignore[method-assign]
            turns = Turns(store, monotonic=loop.time)
            await turns.contend(2)
            assert turns.held is not None
            assert store.value(keyspace.TURN) == turns.held
            lost = 0

    run_virtual(main())


def test_a_turn_without_a_write_is_given_back() -> None:
    async def main() -> None:
        store = MemoryStore()
        await History(store).claim(1)
        writer, task = await stand(store)
        await writer._turns.contend(2)
        assert store.value(keyspace.TURN) is not None
        try:
            await writer.put(b"a", b"1", condition=At(Position(1, 5)))
        except ConditionFailed as failed:
            assert failed.found is None
        await asyncio.sleep(0.01)
        assert store.value(keyspace.TURN) is None
        task.cancel()
        await asyncio.wait([task])

    run_virtual(main())
