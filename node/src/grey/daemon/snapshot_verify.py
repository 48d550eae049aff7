# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``greyd snapshot verify``: restores a snapshot into a throw-away engine and reads every record of it."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from grey.daemon import snapshot_manifest
from grey.data.contents import examine
from grey.federation.contents import examine_records
from grey.federation.records import DamagedRecord, store_root
from grey.store.interface import StoreDamaged
from grey.store.sqlite import SqliteStore
from grey.store.sqlite_file import named_os

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from grey.daemon.snapshot_manifest import Manifest
    from grey.data.contents import Contents
    from grey.store.etcd_calls import EtcdAccess
    from grey.store.interface import Store

_CALL_SECONDS = 60.0


async def verify(path: Path, *, etcd: str | None, folder: Path | None) -> dict[str, Any]:
    """Check a snapshot; return what to print. ``folder`` has room for twice its size (None: beside it).

    ``etcd`` is the program to check with (None: that of PATH). Raises StoreDamaged when the snapshot is bad,
    StoreError when it could not be checked.
    """
    manifest = snapshot_manifest.read(path)
    with scratch_folder(folder or path.parent) as scratch:
        data = scratch / "snapshot"
        snapshot_manifest.unpack(path, manifest, data)
        if manifest.store == "federation":
            await _check_federation(manifest, data, etcd)
        elif manifest.engine == "etcd":
            async with restored_etcd(data, etcd) as access, etcd_store(access) as store:
                await check_data(manifest, store)
        else:
            async with sqlite_store(data) as store:
                await check_data(manifest, store)
    return {"ok": True, "file": str(path), **msgspec.to_builtins(manifest)}


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder that is gone in the end. Raises DiskFull, StoreError."""
    try:
        made = tempfile.TemporaryDirectory(prefix=".grey-scratch-", dir=parent)
    except OSError as error:
        raise named_os(error, parent, "make a folder to restore into") from error
    with made as folder:
        yield Path(folder)


@asynccontextmanager
async def restored_etcd(snapshot: Path, etcd: str | None) -> AsyncIterator[EtcdAccess]:
    """Run a throw-away etcd on a snapshot, in the folder of it. Raises StoreDamaged, StoreError."""
    # Imported here: nodes on SQLite need no gRPC.
    from grey.store import etcd_scratch

    programs = etcd_scratch.find_programs(etcd)
    data_dir = snapshot.parent / "scratch"
    await etcd_scratch.restore(programs, snapshot, data_dir, etcd_scratch.SCRATCH)
    async with etcd_scratch.scratch_engine(programs, data_dir) as access:
        yield access


@asynccontextmanager
async def sqlite_store(path: Path) -> AsyncIterator[Store]:
    """Open an embedded store that nobody else uses."""
    store = await SqliteStore.open(path)
    try:
        yield store
    finally:
        await store.close()


async def check_data(manifest: Manifest, store: Store) -> Contents:
    """Read every record, and demand that all is as the manifest says. Raises StoreDamaged."""
    held = await examine(store)
    if held.identity is None:
        raise StoreDamaged("the snapshot belongs to nobody: it holds no identity")
    if held.copying:
        raise StoreDamaged("the snapshot was taken in the middle of a full copy: it is no consistent state")
    snapshot_manifest.compare(manifest, snapshot_manifest.data_holds(held, held.identity))
    return held


@asynccontextmanager
async def etcd_store(access: EtcdAccess) -> AsyncIterator[Store]:
    """Open the store of a throw-away etcd. Raises EngineUnreachable."""
    from grey.store.etcd import EtcdStore

    store = await EtcdStore.open(access, timeout_seconds=_CALL_SECONDS)
    try:
        yield store
    finally:
        await store.close()


async def _check_federation(manifest: Manifest, data: Path, etcd: str | None) -> None:
    from grey.store.etcd_snapshot import read_all

    root = store_root(manifest.federation).encode()
    async with restored_etcd(data, etcd) as access:
        items = await read_all(access, root, timeout_seconds=_CALL_SECONDS)
    try:
        found = examine_records(manifest.federation, items)
    except DamagedRecord as error:
        raise StoreDamaged(str(error)) from error
    snapshot_manifest.compare(manifest, snapshot_manifest.federation_holds(found))
