# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data store engines as the shared tests see them: made empty, and opened again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from support.engine_cluster import EngineCluster
from support.memory_store import MemoryStore

from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from grey.store.etcd import EtcdStore
    from grey.store.interface import Store


class Engine(Protocol):
    """Makes stores of one kind; closes what it made."""

    async def create(self) -> Store:
        """Make an empty store."""
        ...

    async def reopen(self, store: Store) -> Store:
        """Close a store and open what it left."""
        ...

    async def stop(self) -> None:
        """Close everything."""
        ...


class SqliteEngine:
    """Files below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[int, Path] = {}
        self._stores: list[SqliteStore] = []

    async def create(self) -> Store:
        path = self._folder / f"store-{len(self._stores)}.sqlite"
        return self._keep(await SqliteStore.create(path), path)

    async def reopen(self, store: Store) -> Store:
        path = self._paths[id(store)]
        await store.close()
        return self._keep(await SqliteStore.open(path), path)

    async def stop(self) -> None:
        for store in self._stores:
            await store.close()

    def _keep(self, store: SqliteStore, path: Path) -> SqliteStore:
        self._stores.append(store)
        self._paths[id(store)] = path
        return store


class MemoryEngine:
    """The store that simulations use: held to the same contract as the real ones."""

    async def create(self) -> Store:
        return MemoryStore()

    async def reopen(self, store: Store) -> Store:
        assert isinstance(store, MemoryStore)
        await store.close()
        return store.opened_again()

    async def stop(self) -> None:
        """Nothing to close."""


class EtcdEngine:
    """Each store is an etcd process of its own, reached through its socket or over mutual TLS."""

    def __init__(self, *, tls: bool = False) -> None:
        self._tls = tls
        self._clusters: list[EngineCluster] = []
        self._owners: dict[int, EngineCluster] = {}
        self._stores: list[EtcdStore] = []

    async def create(self) -> Store:
        cluster = EngineCluster(tls=self._tls)
        self._clusters.append(cluster)
        cluster.start()
        await cluster.healthy()
        return await self._open(cluster)

    async def reopen(self, store: Store) -> Store:
        """The process is killed meanwhile, so that only what is on disk counts."""
        cluster = self._owners[id(store)]
        await store.close()
        cluster.members[0].kill()
        cluster.start()
        await cluster.healthy()
        return await self._open(cluster)

    async def stop(self) -> None:
        try:
            for store in self._stores:
                await store.close()
        finally:
            for cluster in self._clusters:
                cluster.stop()

    async def _open(self, cluster: EngineCluster) -> EtcdStore:
        store = await cluster.members[0].open()
        self._stores.append(store)
        self._owners[id(store)] = cluster
        return store
