# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster of the replication simulation: its durable store, and the shipping code that runs on it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from support.memory_store import MemoryStore
from support.replication_network import Faults, Link, Process, ProcessStore
from support.replication_oracle import WALL

from grey.data.expiry import Expiry
from grey.data.fence import DeadlinePassed, NotPrimary, WriteRefused
from grey.data.history import History
from grey.data.writer import Writer
from grey.record import HybridClock, SteadyClock
from grey.replicate import wire
from grey.replicate.channel import ChannelClosed
from grey.replicate.follower import Follower
from grey.replicate.source import Source
from grey.store.interface import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from support.replication_oracle import Oracle
    from support.replication_simulation import World

    from grey.federation.interface import RoleRecord
    from grey.record import Position
    from grey.store.interface import Compare, Write

INTERVAL = 0.4
MAX_OFFSET = 1.0


class View:
    """A ``RoleView``: the fence is the truth, the holder is what this process last heard."""

    def __init__(self, world: World, cluster: str) -> None:
        self._world = world
        self._cluster = cluster
        self.heard: RoleRecord | None = None
        self.claimed = 0

    def epoch(self) -> int:
        role = self._world.role
        if self.heard is None or self.heard.cluster != self._cluster:
            raise NotPrimary(None if self.heard is None else self.heard.cluster)
        if role.cluster != self._cluster or self.claimed != role.epoch or not self._world.fence_up:
            raise DeadlinePassed
        return role.epoch

    def holder(self) -> RoleRecord | None:
        return self.heard

    def is_primary(self) -> bool:
        try:
            self.epoch()
        except WriteRefused:
            return False
        return True


class _AuthoredStore(ProcessStore):
    """Tells the oracle who commits."""

    oracle: Oracle
    author: str

    async def _apply(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        self.oracle.author = self.author
        try:
            return await super()._apply(compares, writes)
        finally:
            self.oracle.author = ""


class Node:
    """One cluster: its durable store, and the process that runs on it at present."""

    def __init__(self, world: World, cluster: str) -> None:
        self._world = world
        self.cluster = cluster
        self.faults = Faults()
        self.partitioned = False
        self.clock_ahead = 0.0
        self.renew_store()

    def renew_store(self) -> None:
        """Begin with an empty store."""
        self.store = MemoryStore(page_items=3)
        self._world.oracle.adopt(self.cluster, self.store)

    def start(self) -> None:
        """Start a process on the store."""
        world = self._world
        self.process = process = Process(world.rng)
        self.view = View(world, self.cluster)
        stores = {author: self._open(author) for author in ("writer", "follower", "keeper")}
        clock = HybridClock(lambda: int(self._wall() * 1e6))
        steady = SteadyClock(lambda: int(self._wall() * 1e6), lambda: int(world.loop.time() * 1e6))
        self.writer = Writer(stores["writer"], self.view, cluster=self.cluster, clock=clock, now=steady.now)
        self.expiry = Expiry(stores["keeper"], self.view, self.writer, now=steady.now)
        history = History(stores["keeper"])
        self.source = Source(
            stores["writer"], history, self.view, cluster=self.cluster, batch_size=5,
            interval_seconds=INTERVAL, monotonic=world.loop.time,
        )  # fmt: skip
        self.follower = Follower(
            stores["follower"], self.view, cluster=self.cluster, connect=self._connect,
            fetch_page=self._fetch_page, interval_seconds=INTERVAL, clock=clock,
            max_clock_offset_seconds=MAX_OFFSET, monotonic=world.loop.time, wall=self._wall,
            jitter=world.rng.random,
        )  # fmt: skip
        parts = (self.writer.run, self.follower.run, self.expiry.run, partial(self._keep, history))
        for part in parts:
            process.start(world.guard(process, part))

    def _open(self, author: str) -> _AuthoredStore:
        store = _AuthoredStore(self.process, self.store, self.faults, self._world.rng)
        store.oracle, store.author = self._world.oracle, author
        return store

    def _wall(self) -> float:
        return WALL + self._world.loop.time() + self.clock_ahead

    async def _keep(self, history: History) -> None:
        """Hear of the role now and then, and claim it when it is this cluster's."""
        while True:
            await self.process.effect()
            self.view.heard = role = self._world.role
            if role.cluster == self.cluster and self.view.claimed != role.epoch:
                try:
                    await history.claim(role.epoch)
                except StoreError:
                    continue
                self.view.claimed = role.epoch
            await asyncio.sleep(0.2 + self._world.rng.random() * 0.2)

    @asynccontextmanager
    async def _connect(self, cluster: str, position: Position, /) -> AsyncIterator[Any]:
        other = self._world.nodes[cluster]
        await self.process.effect()
        if self.partitioned or other.partitioned or not other.process.alive:
            raise ChannelClosed("nobody answers")
        link = Link(self._world.rng, self.process, other.process)
        self._world.links.append(link)

        async def serve() -> None:
            try:
                await other.source.serve(link.source, self.cluster)
            except StoreError:
                return
            finally:
                await link.source.close()

        other.process.start(self._world.guard(other.process, serve))
        try:
            yield link.follower
        finally:
            await link.follower.close()

    async def _fetch_page(self, cluster: str, after: bytes | None, /) -> wire.SnapshotPage:
        other = self._world.nodes[cluster]
        await self.process.effect()
        if self.partitioned or other.partitioned or not other.process.alive:
            raise ChannelClosed("nobody answers")
        answer: asyncio.Future[bytes] = self._world.loop.create_future()

        async def serve() -> None:
            try:
                page = wire.encode(await other.source.snapshot_page(after))
            except wire.SourceRefused as refused:
                page = wire.encode(refused.refused)
            except StoreError:
                return
            await other.process.effect()
            if not answer.done():
                answer.set_result(page)

        other.process.start(self._world.guard(other.process, serve))
        try:
            async with asyncio.timeout(2.0):
                body = await answer
        except TimeoutError as error:
            raise ChannelClosed("no answer in time") from error
        await self.process.effect()
        return wire.decode_page(body)
