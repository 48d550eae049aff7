# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A writer on a real store, with everything around it in the test's hands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.faulty_store import FaultyStore
from support.fences import FakeFence, FakeWall

from grey.data import keyspace
from grey.data.history import History
from grey.data.reader import Reader
from grey.data.writer import Writer, Written
from grey.record import Envelope, HybridClock
from grey.record.envelope import decode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from grey.store.interface import Store

START = 1_000_000_000


class Bench:
    """A writer on a real store, with everything around it in the test's hands."""

    def __init__(self, store: Store) -> None:
        self.store = FaultyStore(store)
        self.fence = FakeFence(1)
        self.wall = FakeWall(START)
        self.writer = Writer(
            self.store, self.fence, cluster="aws-east", clock=HybridClock(self.wall), max_waiting=2000
        )
        self.reader = Reader(store)
        self.history = History(store)
        self.task: asyncio.Task[None] | None = None

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

    def records(self) -> list[list[Envelope]]:
        """Return the records of each commit that was tried."""
        return [
            [decode(w.value or b"") for w in writes if w.key.startswith(keyspace.DATA)]
            for _, writes in self.store.commits
        ]


async def outcomes(calls: Iterable[Awaitable[Written]]) -> list[Written | BaseException]:
    async with asyncio.timeout(20):
        return await asyncio.gather(*calls, return_exceptions=True)
