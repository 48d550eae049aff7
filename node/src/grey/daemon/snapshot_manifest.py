# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a snapshot says of itself: ``manifest.json`` in its file (docs/reference/node-file.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from grey.store import snapshot_file
from grey.store.interface import StoreDamaged

if TYPE_CHECKING:
    from pathlib import Path

    from grey.data.contents import Contents
    from grey.data.identity import Identity
    from grey.federation.contents import FederationContents

FORMAT = 1


class Holds(msgspec.Struct, frozen=True):
    """What a snapshot holds. In one of the federation store, ``epoch`` and ``holder`` are of the role record.

    ``keys`` have a value (there: all records), ``deletions`` are records of keys that are gone.
    """

    federation: str
    cluster: str | None = None
    node: str | None = None
    data_id: str | None = None
    epoch: int | None = None
    position: str | None = None
    holder: str | None = None
    keys: int = 0
    deletions: int = 0
    requests: int = 0


class Manifest(Holds, frozen=True, kw_only=True):
    """A whole manifest. ``size`` and ``sha256`` are of the data, ``taken_at`` is RFC 3339 in UTC."""

    format: int
    store: Literal["data", "federation"]
    engine: Literal["etcd", "sqlite"]
    size: int
    sha256: str
    version: str
    taken_at: str


class _AnyFormat(msgspec.Struct, frozen=True):
    format: int


def data_holds(held: Contents, identity: Identity) -> Holds:
    """Describe what a data store holds."""
    return Holds(
        federation=identity.federation,
        cluster=identity.cluster,
        node=identity.node,
        data_id=identity.data_id,
        epoch=held.newest_epoch,
        position=str(held.position),
        keys=held.keys,
        deletions=held.deletions,
        requests=held.requests,
    )


def federation_holds(held: FederationContents) -> Holds:
    """Describe what a federation store holds."""
    return Holds(
        federation=held.federation,
        epoch=None if held.role is None else held.role.epoch,
        holder=None if held.role is None else held.role.cluster,
        keys=held.records,
    )


def read(path: Path) -> Manifest:
    """Read the manifest of a snapshot. Raises StoreDamaged, StoreError."""
    plain = snapshot_file.read_manifest(path)
    try:
        found = msgspec.json.decode(plain, type=_AnyFormat).format
        if found == FORMAT:
            return msgspec.json.decode(plain, type=Manifest)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"{path} is no whole snapshot: its manifest cannot be read: {error}") from error
    raise StoreDamaged(
        f"{path} is a snapshot of format {found}, this greyd knows format {FORMAT} only: use the release "
        "that wrote it, or a newer one"
    )


def unpack(path: Path, manifest: Manifest, target: Path) -> None:
    """Copy the data of a snapshot to ``target`` and compare its sum. Raises StoreDamaged, StoreError."""
    size, sha256 = snapshot_file.extract(path, target)
    if (size, sha256) != (manifest.size, manifest.sha256):
        raise StoreDamaged(
            f"the data in {path} must have {manifest.size} bytes with SHA-256 {manifest.sha256}, but has "
            f"{size} with {sha256}: the file was changed or damaged. Use another copy, or another snapshot"
        )


def compare(manifest: Manifest, found: Holds) -> None:
    """Demand that a snapshot holds what its manifest says. Raises StoreDamaged."""
    differences = [
        f"{name} must be {getattr(manifest, name)}, but is {getattr(found, name)}"
        for name in Holds.__struct_fields__
        if getattr(manifest, name) != getattr(found, name)
    ]
    if differences:
        raise StoreDamaged(f"the snapshot does not hold what its manifest says: {'; '.join(differences)}")
