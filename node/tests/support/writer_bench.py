# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A writer on a real store, with everything around it in the test's hands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.faulty_store import FaultyStore
from support.fences import FakeFence, FakeWall

from grey.data import keyspace
from grey.data.expiry import Expiry
from grey.data.feed import Feed
from grey.data.history import History
from grey.data.mirror import Mirror
from grey.data.reader import Reader
from grey.data.writer import Writer, Written
from grey.record import Envelope, HybridClock, SteadyClock
from grey.record.envelope import decode, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from typing import Any

    from grey.store.interface import Store

START = 1_000_000_000


class Bench:
    """A writer on a real store, with everything around it in the test's hands."""

    def __init__(self, store: Store) -> None:
        self.store = FaultyStore(store)
        self.fence = FakeFence(1)
        self.wall = FakeWall(START)
        self.elapsed = FakeWall(0)
        self.steady = SteadyClock(self.wall, self.elapsed)
        self.history = History(store)
        self.mirror = Mirror(store)
        self.writer = Writer(
            self.store,
            self.fence,
            cluster="aws-east",
            clock=HybridClock(self.wall),
            now=self.steady.now,
            mirror=self.mirror,
            max_waiting=2000,
        )
        self.reader = Reader(store, history=self.history, mirror=self.mirror, now=self.steady.now)
        self.feed = Feed(store, self.history)
        self.expiry = Expiry(store, self.fence, self.writer, now=self.steady.now)
        self.task: asyncio.Task[None] | None = None

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, on all clocks."""
        self.wall.microseconds += int(seconds * 1e6)
        self.elapsed.microseconds += int(seconds * 1e6)

    def start(self) -> None:
        self.task = asyncio.create_task(self.writer.run())

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    def hold(self) -> asyncio.Event:
        """Keep commits from being carried out until the event is set."""
        self.store.gate = asyncio.Event()
        return self.store.gate

    async def in_flight(self) -> None:
        """Wait until a commit has begun."""
        async with asyncio.timeout(10):
            await self.store.begun.wait()

    @staticmethod
    def encoded(envelope: Envelope) -> bytes:
        return encode(envelope)

    async def run_until(self, work: Coroutine[Any, Any, None], done: Callable[[], bool]) -> None:
        """Run a room's task until something is so; it must not end before."""
        task = asyncio.create_task(work)
        async with asyncio.timeout(20):
            while not done() and not task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert done(), task
        task.cancel()
        await asyncio.wait([task])

    def records(self) -> list[list[Envelope]]:
        """Return the records of each commit that was tried."""
        return [
            [decode(w.value or b"") for w in writes if w.key.startswith(keyspace.DATA)]
            for _, writes in self.store.commits
        ]


async def outcomes(calls: Iterable[Awaitable[Written]]) -> list[Written | BaseException]:
    async with asyncio.timeout(20):
        return await asyncio.gather(*calls, return_exceptions=True)
