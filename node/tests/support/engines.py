# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data store engines as the shared tests see them: made empty, and opened again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from support.memory_store import MemoryStore

from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

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
