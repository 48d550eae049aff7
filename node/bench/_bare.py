# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bare asynchronous clients of the engines: one put is one request and one transaction; nothing is grouped.

Of etcd there are two: the maintained client library (gRPC), and etcd's own HTTP gateway behind the very
connections that load greyd, so that the cost of the client is the same on both sides.
"""

from __future__ import annotations

import asyncio
import sqlite3
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aetcd  # type: ignore[import-untyped]
from _load import KEYS, VALUE

from grey.store.interface import Write
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_TABLE = "CREATE TABLE pairs (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
_PUT = "INSERT INTO pairs VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


def _key(number: int) -> bytes:
    return KEYS[number % len(KEYS)].encode()


class BareEtcd:
    """The maintained client library of etcd: all callers share one connection, as its users do."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def put(self, _: int, number: int) -> None:
        """Put a value of 100 bytes; return when a majority has it on disk."""
        await self._client.put(_key(number), VALUE)

    async def get(self, _: int, number: int) -> None:
        """Read a key from the member that is asked, without a majority (serializable)."""
        if await self._client.get(_key(number), serializable=True) is None:
            raise KeyError(number)


@asynccontextmanager
async def bare_etcd(target: str) -> AsyncIterator[BareEtcd]:
    """Connect to a member at a gRPC target, for example unix:/run/grey/engine/etcd:0."""
    host, _, port = target.rpartition(":")
    async with aetcd.Client(host=host, port=int(port)) as client:
        yield BareEtcd(client)


def gateway_puts() -> list[bytes]:
    """Return a request to etcd's HTTP gateway for each key."""
    value = b64encode(VALUE).decode()
    return [_gateway("put", f'{{"key":"{_base64(key)}","value":"{value}"}}') for key in KEYS]


def gateway_gets() -> list[bytes]:
    """Return a serializable read through etcd's HTTP gateway for each key."""
    return [_gateway("range", f'{{"key":"{_base64(key)}","serializable":true}}') for key in KEYS]


def _base64(key: str) -> str:
    return b64encode(key.encode()).decode()


def _gateway(what: str, body: str) -> bytes:
    return (
        f"POST /v3/kv/{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


class BareSqlite:
    """SQLite as an asynchronous program uses it: a thread; a transaction with an fsync of its own per put."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread
        self._puts = 0

    async def put(self, _: int, number: int) -> None:
        """Put a value of 100 bytes; return when it is on disk."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._put, _key(number))

    async def get(self, _: int, number: int) -> None:
        """Read a key."""
        if await asyncio.get_running_loop().run_in_executor(self._thread, self._get, _key(number)) is None:
            raise KeyError(number)

    def _put(self, key: bytes) -> None:
        # A new value each time: SQLite writes no page that stays the same. Outside of BEGIN: it commits.
        self._puts += 1
        self._connection.execute(_PUT, (key, b"%0*d" % (len(VALUE), self._puts)))

    def _get(self, key: bytes) -> Any:
        return self._connection.execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()


@asynccontextmanager
async def bare_sqlite(folder: Path) -> AsyncIterator[BareSqlite]:
    """Make a database that is as durable as the store's own, with all keys in it."""
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None, check_same_thread=False)
    with ThreadPoolExecutor(1) as thread:
        try:
            for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", _TABLE, "BEGIN"):
                connection.execute(statement)
            connection.executemany(_PUT, [(key.encode(), VALUE) for key in KEYS])
            connection.execute("COMMIT")
            yield BareSqlite(connection, thread)
        finally:
            thread.submit(connection.close)


class SharedCommit:
    """Our own store without greyd: what waits for the disk shares an fsync, each put keeps its revision."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def put(self, _: int, number: int) -> None:
        """Put a value of 100 bytes; return when it is on disk."""
        await self._store.commit([], [Write(_key(number), VALUE)])


@asynccontextmanager
async def shared_commit(folder: Path) -> AsyncIterator[SharedCommit]:
    """Make a store with all keys in it."""
    store = await SqliteStore.create(folder / "alone.sqlite")
    try:
        for begin in range(0, len(KEYS), 500):
            writes = [Write(key.encode(), VALUE) for key in KEYS[begin : begin + 500]]
            await store.commit([], writes)
        yield SharedCommit(store)
    finally:
        await store.close()
