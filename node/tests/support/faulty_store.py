# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store whose next commits go wrong in a way that a test chooses."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from grey.data.history import History
from grey.store.interface import CommitUncertain, CompareFailed, DiskFull

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from grey.store.interface import Compare, Item, Page, Store, StoreStatus, Write


class FaultyStore:
    """Passes everything on to ``real``, except that each commit takes the next fault of ``faults``.

    ``full``: DiskFull. ``lost``: uncertain, and it did not happen. ``silent``: uncertain, and it happened.
    ``late``: uncertain, and it happens when the next commit of the writer has begun. ``overtaken``: another
    node claims the next epoch just before it.
    """

    def __init__(self, real: Store) -> None:
        self.real = real
        self.faults: deque[str] = deque()
        self.commits: list[tuple[Sequence[Compare], Sequence[Write]]] = []
        self.during: deque[Callable[[], None]] = deque()
        self.gate: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self._late: list[tuple[Sequence[Compare], Sequence[Write]]] = []

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        self.commits.append((compares, writes))
        self.begun.set()
        fault = self.faults.popleft() if self.faults else "none"
        if self.gate is not None:
            await self.gate.wait()
        await self.settle()
        if fault == "overtaken":
            history = History(self.real)
            await history.claim((await history.epoch() or 0) + 1)
        if fault == "full":
            raise DiskFull("injected")
        if fault == "late":
            self._late.append((compares, writes))
        if fault in ("lost", "late"):
            raise CommitUncertain("injected")
        revision = await self.real.commit(compares, writes)
        if self.during:
            self.during.popleft()()
        if fault == "silent":
            raise CommitUncertain("injected")
        return revision

    async def settle(self) -> None:
        """Let the late commits happen now, as an engine does that was slow to answer."""
        while self._late:
            compares, writes = self._late.pop(0)
            try:
                await self.real.commit(compares, writes)
            except CompareFailed:
                continue

    async def get(
        self, key: bytes, *, revision: int | None = None, serializable: bool = False
    ) -> Item | None:
        return await self.real.get(key, revision=revision, serializable=serializable)

    async def get_many(self, keys: Sequence[bytes], *, serializable: bool = False) -> dict[bytes, Item]:
        return await self.real.get_many(keys, serializable=serializable)

    async def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int,
        revision: int | None = None,
        serializable: bool = False,
    ) -> Page:
        return await self.real.range(start, end, limit=limit, revision=revision, serializable=serializable)

    def watch(self, start: bytes, end: bytes | None, *, after: int) -> Any:
        return self.real.watch(start, end, after=after)

    async def compact(self, revision: int) -> None:
        await self.real.compact(revision)

    async def status(self) -> StoreStatus:
        return await self.real.status()

    async def close(self) -> None:
        await self.real.close()
