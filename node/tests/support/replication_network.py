# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that can be killed at any effect, and the network between them, for the replication simulation.

A process has an effect on the world only through the objects made here. Once it is killed, whatever it still
calls never returns, so that no clean-up code of a dead process changes anything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from grey.replicate import wire
from grey.replicate.channel import ChannelClosed
from grey.store.interface import CommitUncertain, DiskFull

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Coroutine, Sequence
    from typing import Any

    from support.memory_store import MemoryStore

    from grey.store.interface import Change, Compare, Item, Page, StoreStatus, Write

_BUFFER = 8


class Process:
    """One running greyd. ``fuse`` kills it after so many more effects."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.alive = True
        self.fuse: int | None = None
        self.tasks: list[asyncio.Task[Any]] = []
        self.ends: list[End] = []

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a task that dies with the process."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.append(task)
        return task

    def kill(self) -> None:
        """End the process as SIGKILL does; its host closes the connections, or dies too and says nothing."""
        if not self.alive:
            return
        self.alive = False
        silent = self._rng.random() < 0.3
        for end in self.ends:
            if silent:
                end.link.silent = True
            else:
                end.link.close()
        for task in self.tasks:
            task.cancel()

    async def effect(self) -> None:
        """Pass a point where the process may be killed or frozen for a moment."""
        await self.live()
        dice = self._rng.random()
        if dice < 0.12:
            await asyncio.sleep(self._rng.random() * (0.6 if dice < 0.01 else 0.02))
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.kill()
        await self.live()

    async def live(self) -> None:
        """Return at once, or never."""
        if not self.alive:
            await asyncio.get_running_loop().create_future()


class Faults:
    """What goes wrong with the store of one cluster at present."""

    def __init__(self) -> None:
        self.full = False
        self.uncertain = 0


class ProcessStore:
    """A store as one part of one process uses it. A commit goes on when its caller is cancelled."""

    def __init__(self, process: Process, store: MemoryStore, faults: Faults, rng: random.Random) -> None:
        self._process = process
        self._store = store
        self._faults = faults
        self._rng = rng

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        task = self._process.start(self._commit(compares, writes))
        return await asyncio.shield(task)

    async def _commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        await self._process.effect()
        if self._faults.full:
            raise DiskFull("no space left on device")
        if self._faults.uncertain:
            self._faults.uncertain -= 1
            if self._rng.random() < 0.5:
                await self._apply(compares, writes)
            raise CommitUncertain("the engine did not answer")
        revision = await self._apply(compares, writes)
        await self._process.effect()
        return revision

    async def _apply(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        return await self._store.commit(compares, writes)

    async def get(
        self, key: bytes, *, revision: int | None = None, serializable: bool = False
    ) -> Item | None:
        await self._process.effect()
        return await self._store.get(key, revision=revision, serializable=serializable)

    async def get_many(self, keys: Sequence[bytes], *, serializable: bool = False) -> dict[bytes, Item]:
        await self._process.effect()
        return await self._store.get_many(keys, serializable=serializable)

    async def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int,
        revision: int | None = None,
        serializable: bool = False,
    ) -> Page:
        await self._process.effect()
        return await self._store.range(start, end, limit=limit, revision=revision, serializable=serializable)

    async def watch(self, start: bytes, end: bytes | None, *, after: int) -> AsyncIterator[list[Change]]:
        async for changes in self._store.watch(start, end, after=after):
            await self._process.effect()
            yield changes

    async def compact(self, revision: int) -> None:
        await self._process.effect()
        await self._store.compact(revision)

    async def status(self) -> StoreStatus:
        await self._process.effect()
        return await self._store.status()

    async def close(self) -> None:
        await self._process.effect()


class Link:
    """A connection of two processes. ``silent``: what is sent from now on vanishes, nobody is told."""

    def __init__(self, rng: random.Random, follower: Process, source: Process) -> None:
        self.rng = rng
        self.closed = False
        self.silent = False
        self.lose = 0
        self.double = 0
        self.follower = End(self, follower)
        self.source = End(self, source)
        self.follower.peer, self.source.peer = self.source, self.follower

    def close(self) -> None:
        """Cut the connection: what has not arrived is lost, and both ends see it."""
        self.closed = True
        self.follower.wake()
        self.source.wake()


class End:
    """One end of a link: a ``grey.replicate.channel.Channel``."""

    peer: End

    def __init__(self, link: Link, process: Process) -> None:
        self.link = link
        self._process = process
        self._inbox: deque[bytes] = deque()
        self._on_the_way = 0
        self._last_arrival = 0.0
        self._changed = asyncio.Event()
        process.ends.append(self)

    def wake(self) -> None:
        """Let whoever waits here look again."""
        self._changed.set()

    async def send(self, message: bytes) -> None:
        await self._process.effect()
        while self._on_the_way >= _BUFFER and not self.link.closed:
            self._changed.clear()
            await self._changed.wait()
        if self.link.closed:
            raise ChannelClosed("the simulated connection was cut")
        copies = 1
        if self is self.link.source and isinstance(wire.decode_from_source(message), wire.Records):
            if self.link.lose:
                self.link.lose -= 1
                copies = 0
            elif self.link.double:
                self.link.double -= 1
                copies = 2
        loop = asyncio.get_running_loop()
        for _ in range(copies):
            self._on_the_way += 1
            self._last_arrival = max(self._last_arrival, loop.time() + 0.002 + self.link.rng.random() * 0.03)
            loop.call_at(self._last_arrival, self._arrive, message)

    def _arrive(self, message: bytes) -> None:
        if not self.link.silent and not self.link.closed:
            self.peer._inbox.append(message)
            self.peer.wake()

    async def receive(self) -> bytes:
        while True:
            await self._process.effect()
            if self._inbox:
                self.peer._on_the_way -= 1
                self.peer.wake()
                return self._inbox.popleft()
            if self.link.closed:
                raise ChannelClosed("the simulated connection was cut")
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Close after what was sent has arrived."""
        if self._process.alive and not self.link.closed:
            loop = asyncio.get_running_loop()
            loop.call_at(max(self._last_arrival, loop.time()), self.link.close)
