# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reads of the embedded store: each is a function of a connection, and sees one state of the store."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from grey.store.interface import Change, Compacted, Item, Page, StoreError
from grey.store.sqlite_file import PLACE_BITS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

PAGE_BYTES = 4 * 1024 * 1024
"""Keys and values that one page of a range holds, about; one larger item is returned alone."""

_CHANGES_BYTES = 1024 * 1024
_CHANGES_REVISIONS = 512

# Two statements, since SQLite ends a scan early only at a bound that it knows when it prepares the statement.
_RANGE_TO_THE_END = (
    "SELECT current.key, value, version FROM current JOIN history USING (version) "
    "WHERE current.key >= :start ORDER BY current.key LIMIT :limit"
)
_RANGE = _RANGE_TO_THE_END.replace(">= :start", ">= :start AND current.key < :end")
# Goes from one key to the next in the index, so that a key with many versions costs no more than another.
_RANGE_AT_TO_THE_END = """
WITH RECURSIVE each_key (key) AS (
  SELECT min(key) FROM history WHERE key >= :start
  UNION ALL
  SELECT (SELECT min(key) FROM history WHERE key > each_key.key)
  FROM each_key WHERE each_key.key IS NOT NULL),
 then_newest (key, version) AS (
  SELECT key, (SELECT max(version) FROM history WHERE history.key = each_key.key AND version < :before)
  FROM each_key WHERE key IS NOT NULL)
SELECT then_newest.key, value, version FROM then_newest CROSS JOIN history USING (version)
WHERE value IS NOT NULL LIMIT :limit"""
_RANGE_AT = _RANGE_AT_TO_THE_END.replace(">= :start", ">= :start AND key < :end").replace(
    "> each_key.key", "> each_key.key AND key < :end"
)
_GET = "SELECT value, version FROM current JOIN history USING (version) WHERE current.key = ?"


class Changes(msgspec.Struct, frozen=True):
    """Whole transactions of a range, one list each, and the revision up to which they are complete."""

    transactions: list[list[Change]]
    upto: int


def get(connection: sqlite3.Connection, key: bytes) -> Item | None:
    """Return the key as it is now."""
    row = connection.execute(_GET, (key,)).fetchone()
    return None if row is None else Item(key, row[0], row[1] >> PLACE_BITS)


def get_at(connection: sqlite3.Connection, key: bytes, revision: int) -> Item | None:
    """Return the key as it was at ``revision``; raises Compacted, or StoreError for one yet to come."""
    with _snapshot(connection) as (newest, compacted):
        _check_kept(revision, newest, compacted)
        row = connection.execute(
            "SELECT value, version FROM history WHERE key = ? AND version < ? ORDER BY version DESC LIMIT 1",
            (key, (revision + 1) << PLACE_BITS),
        ).fetchone()
    return None if row is None or row[0] is None else Item(key, row[0], row[1] >> PLACE_BITS)


def get_many(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Item]:
    """Return those of the keys that exist."""
    with _snapshot(connection):
        found = (get(connection, key) for key in dict.fromkeys(keys))
        return {item.key: item for item in found if item is not None}


def get_range(
    connection: sqlite3.Connection, *, start: bytes, end: bytes | None, limit: int, at: int | None
) -> Page:
    """Return keys of the range in order, now or ``at`` a revision, as many as a page may hold.

    Raises Compacted, or StoreError for a revision that is yet to come.
    """
    items: list[Item] = []
    size = 0
    bounds: dict[str, object] = {"start": start, "end": end, "limit": limit + 1}
    with _snapshot(connection) as (newest, compacted):
        if at is None or at == newest:
            statement = _RANGE_TO_THE_END if end is None else _RANGE
        else:
            _check_kept(at, newest, compacted)
            statement = _RANGE_AT_TO_THE_END if end is None else _RANGE_AT
            bounds["before"] = (at + 1) << PLACE_BITS
        more = False
        for key, value, version in connection.execute(statement, bounds):
            size += len(key) + len(value)
            if len(items) == limit or (items and size > PAGE_BYTES):
                more = True
                break
            items.append(Item(key, value, version >> PLACE_BITS))
    return Page(items, newest if at is None else at, more)


def get_changes(connection: sqlite3.Connection, start: bytes, end: bytes | None, after: int) -> Changes:
    """Return the next whole transactions of the range after a revision, as many as memory should hold.

    Raises Compacted when some of them are gone.
    """
    with _snapshot(connection) as (newest, compacted):
        if after < compacted:
            raise Compacted(after, compacted)
        upto = min(newest, after + _CHANGES_REVISIONS)
        rows = connection.execute(
            "SELECT version, key, value FROM history WHERE version >= ?1 AND version < ?2 "
            "AND +key >= ?3 AND (?4 IS NULL OR +key < ?4) ORDER BY version",
            ((after + 1) << PLACE_BITS, (upto + 1) << PLACE_BITS, start, end),
        )
        transactions: list[list[Change]] = []
        size = 0
        for revision, group in groupby(rows, lambda row: int(row[0]) >> PLACE_BITS):
            if size > _CHANGES_BYTES:
                upto = revision - 1
                break
            changes = [Change(key, value, revision) for _, key, value in group]
            size += sum(len(change.key) + len(change.value or b"") for change in changes)
            transactions.append(changes)
    return Changes(transactions, max(after, upto))


def get_revisions(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the newest revision and the newest compacted one."""
    newest, compacted = connection.execute(
        "SELECT (SELECT max(version) FROM history), compacted FROM compaction"
    ).fetchone()
    return max((newest or 0) >> PLACE_BITS, compacted), compacted


def _check_kept(revision: int, newest: int, compacted: int) -> None:
    if revision < compacted:
        raise Compacted(revision, compacted)
    if revision > newest:
        raise StoreError(f"revision {revision} does not exist yet, the newest is {newest}")


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[tuple[int, int]]:
    """Hold one state of the store for several statements; gives its newest and its compacted revision."""
    connection.execute("BEGIN")
    try:
        yield get_revisions(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
