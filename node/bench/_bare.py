# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bare asynchronous clients of the engines: one put, one transaction, one request; nothing is grouped."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aetcd  # type: ignore[import-untyped]
from _load import VALUE

from grey.store.interface import Write
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class BareEtcd:
    """The maintained client library of etcd, over the same unix socket that greyd uses."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def put(self, key: str) -> None:
        """Put a value of 100 bytes; return when a majority has it on disk."""
        await self._client.put(key.encode(), VALUE)

    async def get(self, key: str) -> None:
        """Read a key from the member that is asked, without a majority (serializable)."""
        if await self._client.get(key.encode(), serializable=True) is None:
            raise KeyError(key)


@asynccontextmanager
async def bare_etcd(target: str) -> AsyncIterator[BareEtcd]:
    """Connect to a member at a gRPC target, for example unix:/run/grey/engine/etcd:0."""
    host, _, port = target.rpartition(":")
    async with aetcd.Client(host=host, port=int(port)) as client:
        yield BareEtcd(client)


class BareSqlite:
    """Our own store without the writer: each put is a commit of its own."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def put(self, key: str) -> None:
        """Put a value of 100 bytes; return when it is on disk."""
        await self._store.commit([], [Write(key.encode(), VALUE)])

    async def get(self, key: str) -> None:
        """Read a key."""
        if await self._store.get(key.encode()) is None:
            raise KeyError(key)


@asynccontextmanager
async def bare_sqlite(folder: Path) -> AsyncIterator[BareSqlite]:
    """Make an empty database."""
    store = await SqliteStore.create(folder / "bare.sqlite")
    try:
        yield BareSqlite(store)
    finally:
        await store.close()
