# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``greyd snapshot restore``: makes this node's data folder from a snapshot, beside the old one.

Nothing is changed before the new folder is whole, checked and durable; then the old one is renamed and the
new one gets its name. The data is marked as restored (``grey.data.restored``): what its cluster wrote after
the snapshot may still be held elsewhere.
"""

from __future__ import annotations

import os
import pwd
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec

from grey.daemon import snapshot_manifest
from grey.daemon.identity_file import StateRefused, read_file
from grey.daemon.snapshot_target import EngineTarget, SqliteTarget
from grey.daemon.snapshot_verify import scratch_folder
from grey.store.durable import replace_file, sync
from grey.store.interface import StoreError
from grey.store.sqlite_file import named_os

if TYPE_CHECKING:
    from pathlib import Path

    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.daemon.snapshot_manifest import Manifest
    from grey.daemon.snapshot_target import Beginning, Target

_CONNECT_SECONDS = 1.0


class _Record(msgspec.Struct, frozen=True):
    """What a restored folder says of itself (JSON): the sum of its snapshot, and what it began with."""

    snapshot: str
    token: str | None
    members: dict[str, str]


async def restore(
    config: NodeFile, federation: Federation, path: Path, beginning: Beginning
) -> dict[str, Any]:
    """Restore a snapshot on this node; return what to print.

    Raises StateRefused, BadBeginning, StoreDamaged when the snapshot is bad, StoreError.
    """
    manifest = snapshot_manifest.read(path)
    _require_own(config, federation, manifest, path)
    target: Target = (
        EngineTarget(config, beginning) if config.store.engine == "etcd" else SqliteTarget(config)
    )
    wanted = _Record(manifest.sha256, beginning.token, beginning.members)
    if _is_done(target, wanted):
        return _result(manifest, target, changed=False, replaced=None)
    _require_owner(target.data_dir)
    _require_no_greyd(config)
    target.require_stopped()
    with scratch_folder(target.data_dir.parent) as scratch:
        data, made = scratch / "snapshot", scratch / "made"
        snapshot_manifest.unpack(path, manifest, data)
        await target.make(manifest, data, made)
        try:
            replace_file(target.record_file(made), msgspec.json.encode(wanted) + b"\n", mode=0o600)
        except OSError as error:
            raise named_os(error, made, "restore") from error
        # It took a while: somebody may have started something.
        _require_no_greyd(config)
        target.require_stopped()
        replaced = _put_in_place(made, target.data_dir)
    return _result(manifest, target, changed=True, replaced=replaced)


def _result(manifest: Manifest, target: Target, *, changed: bool, replaced: Path | None) -> dict[str, Any]:
    return {
        "changed": changed,
        "data_dir": str(target.data_dir),
        "replaced": None if replaced is None else str(replaced),
        "federation": manifest.federation,
        "cluster": manifest.cluster,
        "data_id": manifest.data_id,
        "epoch": manifest.epoch,
        "position": manifest.position,
        "snapshot": manifest.sha256,
    }


def _require_own(config: NodeFile, federation: Federation, manifest: Manifest, path: Path) -> None:
    """Refuse the snapshot of somebody else, and data that this node is known not to hold."""
    if manifest.store != "data":
        raise StateRefused(
            f"{path} is a snapshot of the federation store: it is not restored like a cluster's data, since "
            "the voters that live would not be asked. Restore a cluster's data with a snapshot of that "
            "cluster"
        )
    own = f"{federation.name}/{config.cluster}"
    if (manifest.federation, manifest.cluster) != (federation.name, config.cluster):
        raise StateRefused(
            f"{path} holds the data of {manifest.federation}/{manifest.cluster}, but this node is of {own}: "
            "the data of one cluster is never another's. Take a snapshot of this cluster"
        )
    if manifest.engine != config.store.engine:
        raise StateRefused(
            f"{path} is a snapshot of the engine {manifest.engine}, but node.store.engine is "
            f"{config.store.engine}: it can be restored into an engine of its own kind only"
        )
    if manifest.node is not None and manifest.node != config.name:
        raise StateRefused(
            f"{path} holds the data of the node {manifest.node}, but this node is {config.name}: restore it "
            "there"
        )
    known = read_file(config)
    if known is not None and known.data_id != manifest.data_id:
        raise StateRefused(
            f"{path} holds the data {manifest.data_id}, but {config.identity_file} says that this node holds "
            f"{known.data_id}: {config.cluster} began with new data after that snapshot. Use a newer snapshot"
        )


def _is_done(target: Target, wanted: _Record) -> bool:
    """Say whether this very snapshot was restored here before; refuse half an equality."""
    path = target.record_file(target.data_dir)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Record)
    except FileNotFoundError:
        return False
    except (msgspec.DecodeError, OSError) as error:
        raise StateRefused(
            f"{path} must say what this data was restored from, but cannot be read: {error}. "
            "Remove it to restore again"
        ) from error
    if found == wanted:
        return True
    if wanted.token is not None and found.token == wanted.token:
        raise StateRefused(
            f"{target.data_dir} was restored with the token {found.token} before, from another snapshot or "
            "with other members: each restore needs a new token, the same on every host"
        )
    return False


def _require_owner(data_dir: Path) -> None:
    """Refuse to make, as root, data that the service's user could not use."""
    try:
        owner = (data_dir if data_dir.exists() else data_dir.parent).stat().st_uid
    except OSError as error:
        raise named_os(error, data_dir.parent, "look at the data folder") from error
    if os.geteuid() == 0 and owner != 0:
        raise StateRefused(
            f"{data_dir} belongs to {_user(owner)}, who could not use what root makes there: run this as "
            f"{_user(owner)}"
        )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _require_no_greyd(config: NodeFile) -> None:
    where = config.listen
    for port in (where.metrics, where.control, where.api):
        with socket.socket(socket.AF_INET6 if ":" in where.address else socket.AF_INET) as probe:
            probe.settimeout(_CONNECT_SECONDS)
            if probe.connect_ex((where.address, port)) == 0:
                raise StateRefused(
                    f"something listens on {where.address}:{port}: stop greyd on every node of "
                    f"{config.cluster} before its data is restored"
                )


def _put_in_place(made: Path, data_dir: Path) -> Path | None:
    """Rename the old folder, then the new one; return what the old one is called now. Raises StoreError."""
    replaced = None
    try:
        if data_dir.exists():
            replaced = _free_name(data_dir)
            data_dir.rename(replaced)
        made.rename(data_dir)
        sync(data_dir.parent)
    except OSError as error:
        raise StoreError(
            f"{data_dir} cannot be replaced: {error.strerror}. Nothing is lost: what was there is "
            f"{'there' if replaced is None or data_dir.exists() else f'in {replaced}'}. It must be a folder "
            "that can be renamed, so no place where a disk is mounted, in a folder of this user's"
        ) from error
    return replaced


def _free_name(data_dir: Path) -> Path:
    base = f"{data_dir.name}.replaced-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    found, number = data_dir.with_name(base), 1
    while found.exists():
        number += 1
        found = data_dir.with_name(f"{base}-{number}")
    return found
