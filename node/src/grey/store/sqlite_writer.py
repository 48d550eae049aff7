# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one thread that writes to the embedded store.

Commits that wait while another one is being made durable share the next SQLite transaction, so that any
number of concurrent commits costs one fsync; each keeps its own comparisons and its own revision.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from grey.store.interface import (
    CommitUncertain,
    Compare,
    CompareFailed,
    DiskFull,
    StoreDamaged,
    StoreError,
    Write,
)
from grey.store.sqlite_file import PLACE_BITS, named

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

_GROUP_COMMITS = 256
_GROUP_BYTES = 4 * 1024 * 1024
_TRIM_ROWS = 500
_CHUNKS = (256, 64, 16, 4, 1)
_COMPARES_AT_ONCE = 16

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Commit:
    """A transaction that waits for its turn, and where its outcome goes."""

    def __init__(
        self, compares: Sequence[Compare], writes: Sequence[Write], outcome: asyncio.Future[int]
    ) -> None:
        self.compares = compares
        self.writes = writes
        self.outcome = outcome
        self.bytes = sum(len(write.key) + len(write.value or b"") for write in writes)


class Compaction:
    """A request to drop history up to ``revision``, and where its end is told (None: nobody waits)."""

    def __init__(self, revision: int, outcome: asyncio.Future[None] | None) -> None:
        self.revision = revision
        self.outcome = outcome


class WriterThread:
    """Takes commits and compactions from a queue until it is stopped. Owns its connection."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        loop: asyncio.AbstractEventLoop,
        committed: Callable[[int], None],
    ) -> None:
        """``committed`` gets the newest durable revision, on the event loop, before its callers wake."""
        self._connection = connection
        self._path = path
        self._loop = loop
        self._committed = committed
        self._queue: queue.SimpleQueue[Commit | Compaction | None] = queue.SimpleQueue()
        self._trims: list[Compaction] = []
        self._failed: StoreError | None = None
        self._stopping = False
        newest, self._compacted, self._trimmed = connection.execute(
            "SELECT (SELECT max(version) FROM history), compacted, trimmed FROM compaction"
        ).fetchone()
        self.revision: int = max((newest or 0) >> PLACE_BITS, self._compacted)
        if self._trimmed < _last_version(self._compacted):
            self._trims.append(Compaction(self._compacted, None))
        self._thread = threading.Thread(target=self._run, name="grey-store-writer", daemon=True)

    def start(self) -> None:
        """Begin to serve the queue."""
        self._thread.start()

    def submit(self, work: Commit | Compaction) -> None:
        """Queue a piece of work; its outcome is told on the event loop."""
        self._queue.put(work)

    def stop(self) -> None:
        """Finish what is queued, end the thread and close the connection. Blocks."""
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._stopping or not self._queue.empty():
            group = self._take()
            if group:
                self._carry_out(group)
            if self._trims:
                self._trim()
        self._answer([(trim.outcome, StoreError("the store was closed")) for trim in self._trims])

    def _take(self) -> list[Commit]:
        """Return the commits of the next transaction; waits for one unless there is trimming to do."""
        group: list[Commit] = []
        size = 0
        while len(group) < _GROUP_COMMITS and size < _GROUP_BYTES:
            try:
                work = self._queue.get(block=not group and not self._trims and not self._stopping)
            except queue.Empty:
                break
            if work is None:
                self._stopping = True
                break
            if isinstance(work, Compaction):
                self._trims.append(work)
                break
            group.append(work)
            size += work.bytes
        return group

    def _carry_out(self, group: list[Commit]) -> None:
        if self._failed is not None:
            self._answer([(commit.outcome, StoreDamaged(str(self._failed))) for commit in group])
            return
        try:
            outcomes = self._transaction(group)
        except Exception as error:  # noqa: BLE001 - callers must not hang, whatever our fault is
            self._fail(StoreDamaged(f"{self._path}: the store stopped on a fault of its own: {error!r}"))
            _log.exception("the writer of %s stopped", self._path)
            outcomes = [CommitUncertain(str(self._failed)) for _ in group]
        self._answer(list(zip((commit.outcome for commit in group), outcomes, strict=True)))

    def _transaction(self, group: list[Commit]) -> list[int | StoreError]:
        """Carry out the commits in one SQLite transaction and return the outcome of each."""
        outcomes: list[int | StoreError] = []
        revision = self.revision
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for commit in group:
                failed = self._first_not_holding(commit.compares)
                if failed is not None:
                    outcomes.append(CompareFailed(failed))
                    continue
                if self._apply(commit.writes, revision + 1):
                    revision += 1
                outcomes.append(revision)
        except sqlite3.Error as error:
            self._roll_back()
            if len(group) > 1:
                return self._one_by_one(group)
            return [self._judged(named(error, self._path, "write"))]
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            return self._judge_commit(error, group)
        self.revision = revision
        return outcomes

    def _one_by_one(self, group: list[Commit]) -> list[int | StoreError]:
        """Give each commit a transaction of its own: one commit's fault is not its neighbours'."""
        outcomes: list[int | StoreError] = []
        for commit in group:
            if self._failed is None:
                outcomes += self._transaction([commit])
            else:
                outcomes.append(StoreDamaged(str(self._failed)))
        return outcomes

    def _judge_commit(self, error: sqlite3.Error, group: list[Commit]) -> list[int | StoreError]:
        """Return the outcomes of a group whose COMMIT did not succeed."""
        cause = named(error, self._path, "commit")
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            # The frame that ends a transaction is written last: what failed before it never counts.
            return self._one_by_one(group) if len(group) > 1 else [cause]
        # After a failed fsync, or a failure behind that frame, only the next start knows what is on disk.
        if not isinstance(cause, DiskFull) or error.sqlite_errorcode == sqlite3.SQLITE_IOERR_FSYNC:
            self._fail(StoreDamaged(str(cause)))
        return [CommitUncertain(str(cause)) for _ in group]

    def _judged(self, error: StoreError) -> StoreError:
        if isinstance(error, StoreDamaged):
            self._fail(error)
        return error

    def _fail(self, error: StoreError) -> None:
        """Refuse every later write: what the disk holds is in doubt until the store is opened anew."""
        self._failed = error

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                self._fail(StoreDamaged(str(named(error, self._path, "roll back"))))

    def _first_not_holding(self, compares: Sequence[Compare]) -> int | None:
        """Return the index of the first comparison that does not hold."""
        for base in range(0, len(compares), _COMPARES_AT_ONCE):
            part = compares[base : base + _COMPARES_AT_ONCE]
            parameters = [field for compare in part for field in (compare.key, compare.value)]
            failed: int | None = self._connection.execute(_compare_sql(len(part)), parameters).fetchone()[0]
            if failed is not None:
                return base + failed
        return None

    def _apply(self, writes: Sequence[Write], revision: int) -> bool:
        """Write the rows of one revision; say whether that changed anything (removing nothing does not)."""
        removed = [write.key for write in writes if write.value is None]
        present: set[bytes] = set()
        for keys in _chunks(removed):
            rows = self._connection.execute(_keys_sql("SELECT key", len(keys)), keys)
            present.update(row[0] for row in rows)
        version = revision << PLACE_BITS
        changes = [
            (version + place, write.key, write.value)
            for place, write in enumerate(
                write for write in writes if write.value is not None or write.key in present
            )
        ]
        for part in _chunks(changes):
            sql = _insert_sql("history (version, key, value)", 3, len(part))
            self._connection.execute(sql, [field for row in part for field in row])
        for part in _chunks([row for row in changes if row[2] is not None]):
            sql = _insert_sql("current (version, key)", 2, len(part)) + _UPSERT
            self._connection.execute(sql, [field for row in part for field in row[:2]])
        for keys in _chunks(sorted(present)):
            self._connection.execute(_keys_sql("DELETE", len(keys)), keys)
        return bool(changes)

    def _trim(self) -> None:
        """Do one slice of the oldest compaction, so that commits wait for a slice at most."""
        trim = self._trims[0]
        error: StoreError | None = None if self._failed is None else StoreDamaged(str(self._failed))
        done = False
        if error is None and trim.revision > self.revision:
            error = StoreError(
                f"cannot compact up to revision {trim.revision}: the newest is {self.revision}"
            )
        if error is None:
            try:
                done = self._trim_slice(trim.revision)
            except sqlite3.Error as fault:
                self._roll_back()
                error = self._judged(named(fault, self._path, "compact"))
        if done or error is not None:
            self._trims.pop(0)
            self._answer([(trim.outcome, error)])

    def _trim_slice(self, revision: int) -> bool:
        """Drop what the next rows up to ``revision`` replace, oldest first; say whether that was the end."""
        compacted = max(revision, self._compacted)
        last = _last_version(compacted)
        if self._trimmed >= last:
            return True
        self._connection.execute("BEGIN IMMEDIATE")
        row = self._connection.execute(
            "SELECT version FROM history WHERE version > ? AND version <= ? "
            "ORDER BY version LIMIT 1 OFFSET ?",
            (self._trimmed, last, _TRIM_ROWS - 1),
        ).fetchone()
        upper = last if row is None else row[0]
        self._connection.execute(
            """DELETE FROM history WHERE version IN (
                 SELECT (SELECT max(older.version) FROM history AS older
                         WHERE older.key = newer.key AND older.version < newer.version)
                 FROM history AS newer WHERE newer.version > ? AND newer.version <= ?)""",
            (self._trimmed, upper),
        )
        self._connection.execute(
            "DELETE FROM history WHERE version > ? AND version <= ? AND value IS NULL", (self._trimmed, upper)
        )
        self._connection.execute("UPDATE compaction SET compacted = ?, trimmed = ?", (compacted, upper))
        self._connection.execute("COMMIT")
        self._compacted, self._trimmed = compacted, upper
        return bool(upper == last)

    def _answer(self, outcomes: Sequence[tuple[asyncio.Future[_T] | None, _T | StoreError | None]]) -> None:
        """Tell the outcomes on the event loop; callers that were cancelled meanwhile are passed over."""
        revision = self.revision

        def tell() -> None:
            self._committed(revision)
            for future, outcome in outcomes:
                if future is None or future.done():
                    continue
                if isinstance(outcome, StoreError):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)  # type: ignore[arg-type]

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(tell)


_UPSERT = " ON CONFLICT (key) DO UPDATE SET version = excluded.version"


def _last_version(revision: int) -> int:
    return ((revision + 1) << PLACE_BITS) - 1


def _chunks(rows: list[_T]) -> list[list[_T]]:
    """Cut into few fixed sizes, so that the statements for them stay prepared."""
    parts: list[list[_T]] = []
    start = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            parts.append(rows[start : start + size])
            start += size
    return parts


@cache
def _insert_sql(target: str, columns: int, rows: int) -> str:
    marks = "(" + ", ".join("?" * columns) + ")"
    return f"INSERT INTO {target} VALUES " + ", ".join([marks] * rows)  # noqa: S608 - no input in it


@cache
def _keys_sql(verb: str, keys: int) -> str:
    return f"{verb} FROM current WHERE key IN ({', '.join('?' * keys)})"


@cache
def _compare_sql(compares: int) -> str:
    """Ask in one statement which comparison is the first that does not hold: NULL when all do."""
    value = "SELECT value FROM current JOIN history USING (version) WHERE current.key = ?"
    cases = " ".join(f"WHEN ({value}) IS NOT ? THEN {index}" for index in range(compares))
    return f"SELECT CASE {cases} END"
