# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A data store in memory that keeps the contract of ``grey.store.interface.Store``, for simulation."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

from grey.store.interface import (
    Change,
    Compacted,
    Compare,
    CompareFailed,
    Item,
    Page,
    StoreError,
    StoreStatus,
    Write,
    check_transaction,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

PAGE_BYTES = 4 * 1024 * 1024


class MemoryStore:
    """``committed``, when set, is called with every transaction right after it took effect."""

    def __init__(self, page_items: int = 10**9) -> None:
        """``page_items`` is the most that one page of a range holds, whatever its caller allows."""
        self.committed: Callable[[int, Sequence[Write]], None] | None = None
        self._page_items = page_items
        self._keys: list[bytes] = []
        self._current: dict[bytes, Item] = {}
        self._versions: dict[bytes, list[tuple[int, bytes | None]]] = {}
        self._log: list[tuple[int, list[Change]]] = []
        self._revision = 0
        self._compacted = 0
        self._closed = False
        self._waiting: list[asyncio.Future[None]] = []

    def items(self, start: bytes, end: bytes) -> dict[bytes, bytes]:
        """Return a range as it is now."""
        keys = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end)]
        return {key: self._current[key].value for key in keys}

    def value(self, key: bytes) -> bytes | None:
        """Return a value as it is now."""
        item = self._current.get(key)
        return None if item is None else item.value

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        check_transaction(compares, writes)
        self._check_open()
        for index, compare in enumerate(compares):
            if self.value(compare.key) != compare.value:
                raise CompareFailed(index)
        effective = [write for write in writes if write.value is not None or write.key in self._current]
        if not effective:
            return self._revision
        self._revision += 1
        for write in effective:
            self._write(write)
        self._log.append(
            (self._revision, [Change(write.key, write.value, self._revision) for write in effective])
        )
        self._wake()
        if self.committed is not None:
            self.committed(self._revision, writes)
        revision = self._revision
        await asyncio.sleep(0)
        return revision

    async def get(
        self, key: bytes, *, revision: int | None = None, serializable: bool = False
    ) -> Item | None:
        self._check_open()
        if revision is None:
            return self._current.get(key)
        self._check_kept(revision)
        return self._at(key, revision)

    async def get_many(self, keys: Sequence[bytes], *, serializable: bool = False) -> dict[bytes, Item]:
        self._check_open()
        return {key: self._current[key] for key in keys if key in self._current}

    async def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int,
        revision: int | None = None,
        serializable: bool = False,
    ) -> Page:
        self._check_open()
        if limit < 1:
            raise ValueError(f"a page holds at least one key, not {limit}")
        if revision is None:
            first = bisect_left(self._keys, start)
            last = len(self._keys) if end is None else max(first, bisect_left(self._keys, end))
            there = [self._current[key] for key in self._keys[first:last]]
        else:
            self._check_kept(revision)
            keys = sorted(key for key in self._versions if start <= key and (end is None or key < end))
            there = [item for key in keys if (item := self._at(key, revision)) is not None]
        items: list[Item] = []
        size = 0
        for item in there[: min(limit, self._page_items)]:
            size += len(item.key) + len(item.value)
            if items and size > PAGE_BYTES:
                break
            items.append(item)
        return Page(items, self._revision if revision is None else revision, len(items) < len(there))

    async def watch(self, start: bytes, end: bytes | None, *, after: int) -> AsyncIterator[list[Change]]:
        seen = after
        while True:
            self._check_open()
            if seen < self._compacted:
                raise Compacted(seen, self._compacted)
            place = bisect_right(self._log, seen, key=lambda entry: entry[0])
            if place == len(self._log):
                seen = max(seen, self._revision)
                news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(news)
                await news
                continue
            seen, transaction = self._log[place]
            found = [c for c in transaction if start <= c.key and (end is None or c.key < end)]
            if found:
                yield found

    async def compact(self, revision: int) -> None:
        self._check_open()
        if revision > self._revision:
            raise StoreError(f"revision {revision} does not exist yet, the newest is {self._revision}")
        if revision <= self._compacted:
            return
        self._compacted = revision
        self._log = self._log[bisect_right(self._log, revision, key=lambda entry: entry[0]) :]
        for versions in self._versions.values():
            place = bisect_right(versions, revision, key=lambda version: version[0])
            del versions[: max(0, place - 1)]

    async def status(self) -> StoreStatus:
        self._check_open()
        size = 1 + sum(len(item.key) + len(item.value) for item in self._current.values())
        return StoreStatus(self._revision, self._compacted, size)

    async def close(self) -> None:
        self._closed = True
        self._wake()

    def opened_again(self) -> MemoryStore:
        """Return a store that holds what this closed one left."""
        again = MemoryStore(self._page_items)
        again._keys, again._current, again._versions = self._keys, self._current, self._versions
        again._log, again._revision, again._compacted = self._log, self._revision, self._compacted
        return again

    def _write(self, write: Write) -> None:
        exists = write.key in self._current
        if write.value is None and exists:
            del self._current[write.key]
            del self._keys[bisect_left(self._keys, write.key)]
        elif write.value is not None:
            if not exists:
                insort(self._keys, write.key)
            self._current[write.key] = Item(write.key, write.value, self._revision)
        self._versions.setdefault(write.key, []).append((self._revision, write.value))

    def _check_kept(self, revision: int) -> None:
        if revision < self._compacted:
            raise Compacted(revision, self._compacted)
        if revision > self._revision:
            raise StoreError(f"revision {revision} does not exist yet, the newest is {self._revision}")

    def _at(self, key: bytes, revision: int) -> Item | None:
        versions = self._versions.get(key, [])
        place = bisect_right(versions, revision, key=lambda version: version[0])
        if place == 0:
            return None
        written, value = versions[place - 1]
        return None if value is None else Item(key, value, written)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            if not news.done():
                news.set_result(None)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")
