# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``greyd snapshot save``: a consistent snapshot of this cluster's data, or of the federation store.

What it holds is read from the snapshot itself, so that the manifest says what was saved, not what the store
held a moment before or after.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from grey import __version__
from grey.daemon import snapshot_manifest
from grey.daemon.identity_file import StateRefused, read_file, require_own, require_same
from grey.daemon.init import data_path
from grey.daemon.snapshot_manifest import Manifest
from grey.data.contents import Tally, examine
from grey.federation.contents import examine_records
from grey.federation.records import store_root
from grey.store.interface import EngineUnreachable
from grey.store.snapshot_file import Draft
from grey.store.sqlite import SqliteStore
from grey.store.sqlite_file import named_os
from grey.store.sqlite_snapshot import back_up

if TYPE_CHECKING:
    from grey.config.model import Federation, TlsFiles
    from grey.config.node import NodeFile
    from grey.daemon.snapshot_manifest import Holds
    from grey.data.contents import Contents

_CHUNK = 4 * 1024 * 1024


async def save_data(
    config: NodeFile, federation: Federation, target: Path, *, majority: bool = True
) -> dict[str, Any]:
    """Save the data of this cluster; return what to print.

    Without ``majority`` the member beside this node is enough, and it may lag. Raises StateRefused,
    StoreError.
    """
    with Draft(target) as draft:
        if config.store.engine == "etcd":
            assert config.store.endpoint is not None
            await _fetch(config.store.endpoint, config.store.tls, draft, majority=majority)
            held = _tally(draft)
        else:
            held = await _back_up(data_path(config), draft)
        holds = _checked(config, federation, held)
        return _finish(draft, target, holds, store="data", engine=config.store.engine)


async def save_federation_store(
    config: NodeFile, federation: Federation, target: Path, *, majority: bool = True
) -> dict[str, Any]:
    """Save the federation store, from the first member that answers; return what to print.

    Raises StateRefused, StoreError, DamagedRecord.
    """
    from grey.store.etcd_snapshot import SnapshotFile

    access = config.federation_store
    if access is None:
        raise StateRefused(
            f"{config.name} does not reach the federation store (node.federation_store is absent): save it "
            "on a node of a cluster that votes"
        )
    faults = []
    # The member beside this node first, if there is one.
    for endpoint in sorted(access.endpoints, key=lambda each: each.host != config.listen.address):
        with Draft(target) as draft:
            try:
                await _fetch(str(endpoint), access.tls, draft, majority=majority)
            except EngineUnreachable as error:
                faults.append(str(error))
                continue
            items = SnapshotFile(draft.data()).items(store_root(federation.name).encode())
            found = examine_records(federation.name, items)
            if found.records == 0:
                raise StateRefused(
                    f"the federation store at {endpoint} holds nothing of the federation {federation.name}: "
                    "there is nothing to save. Check node.federation_store.endpoints"
                )
            holds = snapshot_manifest.federation_holds(found)
            return _finish(draft, target, holds, store="federation", engine="etcd")
    raise EngineUnreachable("; ".join(faults))


async def _fetch(endpoint: str, tls: TlsFiles | None, draft: Draft, *, majority: bool) -> None:
    # Imported here: nodes on SQLite need no gRPC.
    from grey.link.etcd import Member
    from grey.store import etcd_snapshot

    member = Member(endpoint, tls)
    try:
        await etcd_snapshot.fetch(member, draft.write, majority=majority)
    finally:
        await member.close()


def _tally(draft: Draft) -> Contents:
    from grey.store.etcd_snapshot import SnapshotFile

    tally = Tally()
    for key, value in SnapshotFile(draft.data()).items():
        tally.add(key, value)
    return tally.contents()


async def _back_up(source: Path, draft: Draft) -> Contents:
    """Copy an embedded store beside the draft, read the copy, and put it into the draft."""
    try:
        with tempfile.TemporaryDirectory(prefix=".snapshot-", dir=draft.folder) as folder:
            copy = Path(folder, source.name)
            back_up(source, copy)
            store = await SqliteStore.open(copy)
            try:
                held = await examine(store)
            finally:
                await store.close()
            _append(copy, draft)
            return held
    except OSError as error:
        raise named_os(error, draft.folder, "write the snapshot") from error


def _append(copy: Path, draft: Draft) -> None:
    with copy.open("rb") as file:
        while piece := file.read(_CHUNK):
            draft.write(piece)


def _checked(config: NodeFile, federation: Federation, held: Contents) -> Holds:
    """Refuse data that is another's or no state to go back to."""
    where = f"the data of {config.cluster}"
    if held.identity is None:
        raise StateRefused(f"{where} belongs to nobody: there is nothing to save. Make it with: greyd init")
    require_own(config, federation, held.identity, where)
    known = read_file(config)
    if known is not None:
        require_same(held.identity, known, where, config.identity_file)
    if held.copying:
        raise StateRefused(
            f"a full copy to {config.cluster} is under way: its data is no state that the primary ever had. "
            "Save it when the copy has ended (grey-ctl federation status), or save the primary"
        )
    return snapshot_manifest.data_holds(held, held.identity)


def _finish(
    draft: Draft,
    target: Path,
    holds: Holds,
    *,
    store: Literal["data", "federation"],
    engine: Literal["etcd", "sqlite"],
) -> dict[str, Any]:
    manifest = Manifest(
        **msgspec.structs.asdict(holds),
        format=snapshot_manifest.FORMAT,
        store=store,
        engine=engine,
        size=draft.size,
        sha256=draft.sha256,
        version=__version__,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    draft.finish(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return {"changed": True, "file": str(target), **msgspec.to_builtins(manifest)}
