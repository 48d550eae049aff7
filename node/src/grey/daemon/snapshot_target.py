# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a snapshot is restored into: the file of an embedded store, or a member of a new etcd cluster.

An engine's members are restored each by itself, on its host, from the same snapshot: they agree since each of
them holds the same keys at the same revisions, the mark of the restore included. The new cluster gets a new
token, so that none of its members ever takes part in the Raft log of the old one.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from grey.config import values
from grey.config.errors import BadValue
from grey.daemon.identity_file import StateRefused
from grey.daemon.init import DATA_FILE
from grey.daemon.snapshot_verify import check_data, etcd_store, restored_etcd, sqlite_store
from grey.data.restored import write_mark
from grey.store.durable import sync
from grey.store.interface import StoreInUse
from grey.store.sqlite_file import FileLock, named_os

if TYPE_CHECKING:
    from grey.config.node import NodeFile
    from grey.daemon.snapshot_manifest import Manifest

RECORD = "restored.json"

_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)


class BadBeginning(Exception):
    """What the new engine is to begin with is not right; the message says what."""


class Beginning(msgspec.Struct, frozen=True):
    """What a restored engine begins with: as in a member's bootstrap file, where ``state`` stands too.

    ``members`` maps the names of all members to ``ADDRESS:PORT``.
    """

    token: str | None = None
    members: dict[str, str] = {}


def read_beginning(path: Path) -> Beginning:
    """Read a bootstrap file. Raises BadBeginning."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Beginning)
    except (msgspec.DecodeError, OSError) as error:
        raise BadBeginning(
            f'{path} must hold {{"token": "...", "members": {{"NAME": "ADDRESS:PORT"}}}}, but cannot be '
            f"read: {error}"
        ) from error


class Target(Protocol):
    """One of the two."""

    data_dir: Path

    def record_file(self, folder: Path) -> Path:
        """Return where a data folder says what it was restored from."""
        ...

    def require_stopped(self) -> None:
        """Raise StateRefused while anything uses the data folder."""
        ...

    async def make(self, manifest: Manifest, snapshot: Path, made: Path) -> None:
        """Make the folder ``made``, whole, checked and durable. Raises StoreDamaged, StoreError."""
        ...


class SqliteTarget:
    """The folder of an embedded store."""

    def __init__(self, config: NodeFile) -> None:
        self.data_dir = Path(config.data_dir)

    def record_file(self, folder: Path) -> Path:
        """Return where a data folder says what it was restored from."""
        return folder / RECORD

    def require_stopped(self) -> None:
        """Raise StateRefused while anything uses the data folder."""
        if not self.data_dir.exists():
            return
        try:
            FileLock(self.data_dir / DATA_FILE).release()
        except StoreInUse as error:
            raise StateRefused(str(error)) from error

    async def make(self, manifest: Manifest, snapshot: Path, made: Path) -> None:
        """Make the folder ``made``, whole, checked and durable. Raises StoreDamaged, StoreError."""
        try:
            path = _move(snapshot, made)
            async with sqlite_store(path) as store:
                held = await check_data(manifest, store)
                await write_mark(store, held, manifest.sha256)
            for each in (path, made):
                sync(each)
        except OSError as error:
            raise named_os(error, made, "restore") from error


def _move(snapshot: Path, made: Path) -> Path:
    """Make the folder with the data in it; return where that is."""
    made.mkdir(mode=0o700)
    return snapshot.rename(made / DATA_FILE)


class EngineTarget:
    """The folder of this host's member of the engine."""

    def __init__(self, config: NodeFile, beginning: Beginning) -> None:
        """Raises BadBeginning."""
        member = config.store.member
        if member is None:
            raise BadBeginning(
                "node.store.member is needed here, but it is absent: restore where a member runs"
            )
        self.data_dir = Path(member.data_dir)
        self._etcd = member.etcd
        self._name = member.name
        self._endpoint = config.store.endpoint or ""
        self._token = _checked_token(beginning)
        self._members = _checked_members(beginning, member.name, str(member.peer))

    def record_file(self, folder: Path) -> Path:
        """Return where a data folder says what it was restored from."""
        return folder / "member" / RECORD

    def require_stopped(self) -> None:
        """Raise StateRefused while anything uses the data folder."""
        from grey.store import etcd_files

        try:
            used = etcd_files.in_use(self.data_dir)
        except OSError as error:
            raise named_os(error, self.data_dir, "look at the data folder") from error
        if used or _listens(self._endpoint):
            raise StateRefused(
                f"the engine runs on {self.data_dir}: stop it, here and on every host of the cluster, before "
                "its data is restored"
            )

    async def make(self, manifest: Manifest, snapshot: Path, made: Path) -> None:
        """Make the folder ``made``, whole, checked and durable. Raises StoreDamaged, StoreError."""
        from grey.store import etcd_scratch, etcd_snapshot

        programs = etcd_scratch.find_programs(self._etcd)
        marked = snapshot.with_name("marked")
        async with restored_etcd(snapshot, self._etcd) as access:
            await etcd_snapshot.lift_space_alarms(access)
            async with etcd_store(access) as store:
                held = await check_data(manifest, store)
                await write_mark(store, held, manifest.sha256)
            await etcd_snapshot.fetch_file(access, marked)
        membership = etcd_scratch.Membership(self._name, self._token, self._members)
        await etcd_scratch.restore(programs, marked, made, membership)
        self._require_new_cluster(made)

    def _require_new_cluster(self, made: Path) -> None:
        """Refuse a token that the engine had before: the old and the new members would mix."""
        from grey.store import etcd_files

        if etcd_files.cluster_id(made) == etcd_files.cluster_id(self.data_dir):
            raise StateRefused(
                f"the token {self._token} is that of the engine whose data is in {self.data_dir}: a restored "
                "engine is another one. Give it a new token, the same on every host"
            )


def _listens(endpoint: str) -> bool:
    """Say whether anything takes connections at ``unix:/PATH`` or ``HOST:PORT``."""
    try:
        if endpoint.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1.0)
                probe.connect(endpoint.removeprefix("unix:"))
        else:
            where = values.endpoint(endpoint)
            socket.create_connection((where.host, where.port), timeout=1.0).close()
    except (OSError, BadValue):
        return False
    return True


def _checked_token(beginning: Beginning) -> str:
    if beginning.token is None or _TOKEN.fullmatch(beginning.token) is None:
        raise BadBeginning(
            "a restored engine needs a new token of letters, digits, dots, dashes and underlines, the same "
            f"on every host, found {beginning.token!r}: --token, or token in the file of --bootstrap"
        )
    return beginning.token


def _checked_members(beginning: Beginning, name: str, peer: str) -> dict[str, str]:
    """Return the peer URLs of all members, of which this one is to be ``name`` at ``peer``."""
    try:
        found = {each: str(values.endpoint(where)) for each, where in beginning.members.items()}
    except BadValue as error:
        raise BadBeginning(f"members: {error}: expected NAME: ADDRESS:PORT") from error
    if found.get(name) != peer:
        raise BadBeginning(
            f"the members of the restored engine must hold this one, {name} at {peer} (node.store.member), "
            f"found {found.get(name) or 'none of that name'}: --member NAME=ADDRESS:PORT for each, or "
            "--bootstrap"
        )
    if len(set(found.values())) != len(found):
        raise BadBeginning("two members of the restored engine have the same address and port")
    return {each: f"https://{where}" for each, where in sorted(found.items())}
