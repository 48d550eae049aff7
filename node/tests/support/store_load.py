# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers and watchers of a store that goes through faults, and what they were told."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from grey.store.interface import Change, CommitUncertain, Compare, EngineUnreachable, Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grey.store.etcd import EtcdStore


class Load:
    """Writers that each claim one new key after the other, and what they were told."""

    def __init__(self, store: EtcdStore) -> None:
        self.store = store
        self.acknowledged: dict[bytes, int] = {}
        self.refused: set[bytes] = set()
        self.unknown: set[bytes] = set()
        self.slowest = 0.0
        self._count = 0
        self._stopped = False

    async def write(self) -> None:
        """Claim keys until the load ends."""
        while not self._stopped:
            self._count += 1
            key = b"load/%06d" % self._count
            began = time.monotonic()
            try:
                self.acknowledged[key] = await self.store.commit([Compare(key, None)], [Write(key, b"v")])
            except EngineUnreachable:
                self.refused.add(key)
                await asyncio.sleep(0.02)
            except CommitUncertain:
                self.unknown.add(key)
            self.slowest = max(self.slowest, time.monotonic() - began)

    def stop(self) -> None:
        """Let the writers end when what they wait for is answered."""
        self._stopped = True

    async def more(self, count: int, within: float = 30.0) -> None:
        """Wait until so many more writes are acknowledged."""
        wanted = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= wanted, within)

    async def check(self, store: EtcdStore) -> None:
        """What was acknowledged is there as it was told, what was refused is not."""
        found: dict[bytes, int] = {}
        start = b"load/"
        while True:
            page = await store.range(start, b"load0", limit=1000)
            found.update((item.key, item.revision) for item in page.items)
            if not page.more:
                break
            start = page.items[-1].key + b"\0"
        assert {key: found.get(key) for key in self.acknowledged} == self.acknowledged
        assert not self.refused & set(found)
        assert set(found) <= set(self.acknowledged) | self.unknown


@asynccontextmanager
async def load(store: EtcdStore, writers: int = 8) -> AsyncIterator[Load]:
    """Write meanwhile."""
    running = Load(store)
    async with asyncio.TaskGroup() as group:
        for _ in range(writers):
            group.create_task(running.write())
        try:
            yield running
        finally:
            running.stop()


async def until(holds: Callable[[], bool], within: float = 30.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - what holds says nothing by itself
            await asyncio.sleep(0.02)


class Watcher:
    """Collects what a watch of everything reports."""

    def __init__(self, store: EtcdStore, after: int, *, start: bytes = b"", end: bytes | None = None) -> None:
        self.seen: list[list[Change]] = []
        self.task = asyncio.create_task(self._run(store, start, end, after))

    async def _run(self, store: EtcdStore, start: bytes, end: bytes | None, after: int) -> None:
        async with aclosing(store.watch(start, end, after=after)) as watch:
            async for changes in watch:
                self.seen.append(changes)

    @property
    def revisions(self) -> list[int]:
        return [changes[0].revision for changes in self.seen]

    async def reached(self, revision: int) -> None:
        await until(lambda: (bool(self.seen) and self.revisions[-1] >= revision) or self.task.done())
        assert not self.task.done(), self.task.exception()

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
