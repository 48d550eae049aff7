# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a node's data once, and refuses whatever would make it a second time (docs/reference/node-file.md).

Two things are made: the data store with the identity in it, then the identity file beside it. A kill between
any two steps leaves a store without the file, which the next ``init`` finishes; a file without its store
therefore always means that data was lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from grey.daemon.data_engine import open_etcd
from grey.daemon.identity_file import (
    StateRefused,
    read_file,
    require_file,
    require_own,
    require_same,
    write_file,
)
from grey.daemon.shared_engine import SharedData, patiently
from grey.data.identity import Identity, new_identity, read_identity, write_identity
from grey.store.interface import CommitUncertain, EngineUnreachable, StoreError, StoreInUse
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from grey.config.model import Federation
    from grey.config.node import NodeFile

DATA_FILE = "data.sqlite"


class InitResult(msgspec.Struct, frozen=True):
    """What ``greyd init`` prints; ``data_id`` is None when ``--check`` found that there is none yet."""

    changed: bool
    data_id: str | None


def data_path(config: NodeFile) -> Path:
    """Return where the data store is."""
    return Path(config.data_dir) / DATA_FILE


async def init(
    config: NodeFile, federation: Federation, *, check: bool = False, wait_seconds: float = 0.0
) -> InitResult:
    """Make what is missing, or with ``check`` only say whether something is.

    Raises StateRefused; EngineUnreachable and CommitUncertain when the engine was not there for so long.
    """
    try:
        if config.store.engine == "etcd":
            return await _init_shared(config, federation, check=check, wait_seconds=wait_seconds)
        known = read_file(config)
        if known is not None:
            return await _compare(config, federation, known)
        if data_path(config).exists():
            return await _finish(config, federation, check=check)
        if check:
            return InitResult(changed=True, data_id=None)
        return await _make(config, federation)
    except (EngineUnreachable, CommitUncertain):
        raise
    except (StoreError, OSError) as error:
        raise StateRefused(str(error)) from error


async def open_sqlite(config: NodeFile, federation: Federation) -> tuple[SqliteStore, Identity]:
    """Open the data of this node for serving. Raises StateRefused."""
    known = require_file(config)
    try:
        return await _open(config, federation, known), known
    except (StoreError, OSError) as error:
        raise StateRefused(str(error)) from error


async def _init_shared(
    config: NodeFile, federation: Federation, *, check: bool, wait_seconds: float
) -> InitResult:
    async def make() -> tuple[bool, Identity | None]:
        store = await open_etcd(config, federation)
        try:
            return await SharedData(config, federation, store).make(check=check)
        finally:
            await store.close()

    changed, held = await patiently(make, wait_seconds)
    return InitResult(changed=changed, data_id=None if held is None else held.data_id)


async def _compare(config: NodeFile, federation: Federation, known: Identity) -> InitResult:
    try:
        store = await _open(config, federation, known)
    except StoreInUse:
        # The running greyd compared all this when it started.
        return InitResult(changed=False, data_id=known.data_id)
    await store.close()
    return InitResult(changed=False, data_id=known.data_id)


async def _open(config: NodeFile, federation: Federation, known: Identity) -> SqliteStore:
    require_own(config, federation, known, config.identity_file)
    path = data_path(config)
    if not path.exists():
        raise StateRefused(
            f"{config.identity_file} says that this node holds the data {known.data_id}, but {path} is gone. "
            "Put the data back (greyd snapshot restore, the right volume). If it is lost for good: "
            f"greyd forget-data, delete {config.identity_file}, greyd init, and it is copied from the primary"
        )
    store = await SqliteStore.open(path)
    try:
        require_same(await read_identity(store), known, str(path), config.identity_file)
    except BaseException:
        await store.close()
        raise
    return store


async def _finish(config: NodeFile, federation: Federation, *, check: bool) -> InitResult:
    """Go on from a store without its identity file: an interrupted first try, or a lost file."""
    path = data_path(config)
    store = await SqliteStore.open(path)
    try:
        held = await read_identity(store)
        if held is None and (await store.status()).revision > 0:
            raise StateRefused(
                f"{path} holds data that belongs to nobody: it was not made by greyd init. "
                "Move it away, or correct data_dir in the node's file"
            )
        if held is None and not check:
            held = await _give_identity(config, federation, store)
    finally:
        await store.close()
    if held is not None:
        require_own(config, federation, held, str(path))
    if not check and held is not None:
        write_file(config, held)
    return InitResult(changed=True, data_id=None if held is None else held.data_id)


async def _make(config: NodeFile, federation: Federation) -> InitResult:
    path = data_path(config)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await SqliteStore.create(path)
    try:
        identity = await _give_identity(config, federation, store)
    finally:
        await store.close()
    write_file(config, identity)
    return InitResult(changed=True, data_id=identity.data_id)


async def _give_identity(config: NodeFile, federation: Federation, store: SqliteStore) -> Identity:
    identity = new_identity(federation.name, config.cluster, config.name)
    await write_identity(store, identity)
    return identity
