# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded data store on SQLite: for edge nodes, clusters of one node and the demo.

A commit is answered after the fsync of SQLite's write-ahead log. One thread writes and groups commits
(``sqlite_writer``); single keys are read on the event loop, since that costs less than a change of threads;
everything longer is read in threads with connections of their own.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from grey.store import sqlite_reader
from grey.store.interface import (
    Change,
    Compare,
    Item,
    Page,
    StoreError,
    StoreStatus,
    Write,
    check_transaction,
)
from grey.store.sqlite_file import FileLock, check_file, check_present, connect, create_file, named
from grey.store.sqlite_writer import Commit, Compaction, WriterThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

_READERS = 2
_KEYS_ON_LOOP = 128
_WRITER_CACHE_MIB = 16
_READER_CACHE_MIB = 8

_T = TypeVar("_T")


class SqliteStore:
    """A data store in one file (``grey.store.interface.Store``). Belongs to the event loop that opened it."""

    def __init__(self, path: Path, lock: FileLock, loop: asyncio.AbstractEventLoop) -> None:
        """Use ``open`` or ``create``. Raises sqlite3.Error."""
        self._path = path
        self._lock = lock
        self._closing: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        connections: list[sqlite3.Connection] = []
        try:
            for readonly in (*[True] * (1 + _READERS), False):
                cache_mib = _READER_CACHE_MIB if readonly else _WRITER_CACHE_MIB
                connections.append(connect(path, cache_mib=cache_mib, readonly=readonly))
            self._writer = WriterThread(connections[-1], path, loop, self._note_revision)
        except BaseException:
            for connection in connections:
                connection.close()
            raise
        self._revision = self._writer.revision
        self._on_loop = connections[0]
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for connection in connections[1:-1]:
            self._readers.put(connection)
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="grey-store-reader")
        self._writer.start()

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Open an existing store.

        Raises StoreDamaged when it is missing, corrupt or of another version, StoreError when another process
        has it open.
        """
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(cls._open, path, loop)

    @classmethod
    async def create(cls, path: Path) -> SqliteStore:
        """Make an empty store, whole or not at all, and open it.

        Raises StoreError when there is one already, StoreDamaged when parts of a lost one lie there,
        DiskFull.
        """

        def make() -> None:
            lock = FileLock(path)
            try:
                create_file(path)
            finally:
                lock.release()

        await asyncio.to_thread(make)
        return await cls.open(path)

    @classmethod
    def _open(cls, path: Path, loop: asyncio.AbstractEventLoop) -> SqliteStore:
        check_present(path)
        lock = FileLock(path)
        try:
            check_file(path)
            return cls(path, lock, loop)
        except sqlite3.Error as error:
            lock.release()
            raise named(error, path, "open the store") from error
        except BaseException:
            lock.release()
            raise

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        """Apply all writes at once if all comparisons hold, durably; return the revision."""
        check_transaction(compares, writes)
        self._check_open()
        outcome: asyncio.Future[int] = self._loop.create_future()
        self._writer.submit(Commit(tuple(compares), tuple(writes), outcome))
        return await outcome

    async def get(
        self,
        key: bytes,
        *,
        revision: int | None = None,
        serializable: bool = False,  # noqa: ARG002 - one process
    ) -> Item | None:
        """Return the key, now or as it was at ``revision``."""
        if revision is not None:
            at = revision
            return await self._read(lambda connection: sqlite_reader.get_at(connection, key, at))
        return self._read_on_loop(lambda connection: sqlite_reader.get(connection, key))

    async def get_many(
        self,
        keys: Sequence[bytes],
        *,
        serializable: bool = False,  # noqa: ARG002 - one process
    ) -> dict[bytes, Item]:
        """Return those of the keys that exist, all read at one revision."""
        wanted = tuple(keys)
        if len(wanted) <= _KEYS_ON_LOOP:
            return self._read_on_loop(lambda connection: sqlite_reader.get_many(connection, wanted))
        return await self._read(lambda connection: sqlite_reader.get_many(connection, wanted))

    async def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int,
        revision: int | None = None,
        serializable: bool = False,  # noqa: ARG002 - one process
    ) -> Page:
        """Return at most ``limit`` keys of the range in order, and at most about 4 MiB.

        As of an older ``revision`` each key costs some three look-ups, also one that did not exist then.
        """
        if limit < 1:
            raise ValueError(f"a page holds at least one key, not {limit}")
        return await self._read(
            partial(sqlite_reader.get_range, start=start, end=end, limit=limit, at=revision)
        )

    async def watch(self, start: bytes, end: bytes | None, *, after: int) -> AsyncIterator[list[Change]]:
        """Report every change of the range in transactions newer than revision ``after``, in order.

        Reads the history page by page, so that a slow watcher costs no memory.
        """
        seen = after
        while True:
            while seen >= self._revision:
                self._check_open()
                await asyncio.shield(self._news)
            found = await self._read(partial(sqlite_reader.get_changes, start=start, end=end, after=seen))
            for transaction in found.transactions:
                yield transaction
            seen = found.upto

    async def compact(self, revision: int) -> None:
        """Drop the history up to and including ``revision``; current values stay. Idempotent."""
        self._check_open()
        outcome: asyncio.Future[None] = self._loop.create_future()
        self._writer.submit(Compaction(revision, outcome))
        await outcome

    async def status(self) -> StoreStatus:
        """Return the revisions and the size of the file and its log."""

        def look(connection: sqlite3.Connection) -> StoreStatus:
            revision, compacted = sqlite_reader.get_revisions(connection)
            size = self._path.stat().st_size
            log = self._path.with_name(self._path.name + "-wal")
            return StoreStatus(revision, compacted, size + (log.stat().st_size if log.exists() else 0))

        return await self._read(look)

    async def close(self) -> None:
        """Finish the commits that wait, then release the file. Watchers end with StoreError. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await asyncio.to_thread(self._release)
        self._news.set_result(None)

    def _release(self) -> None:
        self._writer.stop()
        self._threads.shutdown(wait=True)
        while not self._readers.empty():
            self._readers.get().close()
        self._on_loop.close()
        self._lock.release()

    def _note_revision(self, revision: int) -> None:
        """Wake the watchers when there is something new; runs on the event loop."""
        if revision > self._revision:
            self._revision = revision
            news, self._news = self._news, self._loop.create_future()
            news.set_result(None)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise StoreError(f"the store {self._path} is closed")

    def _read_on_loop(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        self._check_open()
        try:
            return read(self._on_loop)
        except sqlite3.Error as error:
            raise named(error, self._path, "read") from error

    async def _read(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        self._check_open()

        def work() -> _T:
            connection = self._readers.get()
            try:
                return read(connection)
            except sqlite3.Error as error:
                raise named(error, self._path, "read") from error
            finally:
                self._readers.put(connection)

        return await self._loop.run_in_executor(self._threads, work)
