# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of the embedded store: its schema; how it is made, checked and locked; what its errors mean."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from grey.store.durable import sync
from grey.store.interface import DiskFull, StoreDamaged, StoreError, StoreInUse

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID = 0x47524559
SCHEMA_VERSION = 1

PLACE_BITS = 10
"""A row's version is its revision, shifted by this, plus its place in the transaction (fewer than 1,024)."""

CHECKED_BELOW_BYTES = 256 * 1024 * 1024
"""Smaller files are checked whole when they are opened; the check of a larger one would delay the start."""

_NO_ROOM_BYTES = 1024 * 1024
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

# Values live in ``history`` only, once; ``current`` says which row of it is the newest of a key.
# ``trimmed`` is the last version whose forerunners are dropped; revision 0 has none, so it begins behind it.
_SCHEMA = """
CREATE TABLE history (version INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB);
CREATE INDEX history_by_key ON history (key);
CREATE TABLE current (key BLOB PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE compaction (compacted INTEGER NOT NULL, trimmed INTEGER NOT NULL);
INSERT INTO compaction VALUES (0, 1023);
"""


class FileLock:
    """Keeps a second process from opening the same file, for as long as this object is held."""

    def __init__(self, path: Path) -> None:
        """Lock the store at ``path``; raises StoreError that names the holder when somebody else has it."""
        side = path.with_name(path.name + ".lock")
        try:
            self._descriptor = os.open(side, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"cannot open the lock file {side}: {error.strerror}; "
                f"check that the folder exists and belongs to the user that runs greyd"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StoreInUse(
                f"{path} is open in another process"
                + (f" (pid {holder})" if holder else "")
                + "; stop that one first: two processes must never write one store"
            ) from error
        # The name of the holder is a help for people only: a full disk must not keep the store from opening.
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Let others open the store. The file stays: removing it would let two processes lock two files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def create_file(path: Path) -> None:
    """Make an empty store at ``path``, whole or not at all; the caller holds the lock.

    Raises StoreError when there is one already, StoreDamaged when parts of an older one lie there.
    """
    if path.exists():
        raise StoreError(f"{path} exists already; an existing store is opened, never made anew")
    for suffix in ("-wal", "-journal"):
        left = path.with_name(path.name + suffix)
        if left.exists():
            raise StoreDamaged(
                f"{path} is missing, but {left.name} of it is still there: data was lost or moved away. "
                f"Put {path.name} back, or restore a backup; remove {left.name} only to give that data up"
            )
    draft = path.with_name(path.name + ".new")
    for suffix in ("", "-wal", "-shm", "-journal"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    try:
        # SQLite gives the log the mode of the file that it belongs to.
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        sync(draft)
        draft.rename(path)
        sync(path.parent)
    except sqlite3.Error as error:
        raise named(error, path, "make the store") from error
    except OSError as error:
        raise named_os(error, path, "make the store") from error


def connect(path: Path, *, cache_mib: int, readonly: bool) -> sqlite3.Connection:
    """Open a connection to an existing store, set up the same way each time. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=10,
    )
    try:
        for pragma in (
            "synchronous = FULL",
            f"cache_size = {-1024 * cache_mib}",
            "cell_size_check = ON",
            "trusted_schema = OFF",
            "secure_delete = OFF",
            "wal_autocheckpoint = 4000",
            "journal_size_limit = 67108864",
            f"query_only = {'ON' if readonly else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def check_present(path: Path) -> None:
    """Raises StoreDamaged that says what to do when there is no store at ``path``."""
    if not path.exists():
        raise StoreDamaged(
            f"the data store {path} is missing. If this host is new, make it with `greyd init`; "
            f"if it held data, restore a backup or let it copy from another cluster: "
            "nothing is made anew by itself"
        )


def check_file(path: Path) -> None:
    """Refuse what is not a whole store of this version; the caller holds the lock.

    Raises StoreDamaged that says what was found and what to do, DiskFull.
    """
    check_present(path)
    try:
        with closing(connect(path, cache_mib=8, readonly=False)) as connection:
            _check_connection(connection, path)
    except sqlite3.Error as error:
        raise named(error, path, "open the store") from error


def _check_connection(connection: sqlite3.Connection, path: Path) -> None:
    application = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if application != APPLICATION_ID:
        raise StoreDamaged(
            f"{path} is not a Grey data store: application id {APPLICATION_ID:#x} was wanted, "
            f"{application:#x} was found. Restore a backup, or correct data_dir in the node's file"
        )
    if version != SCHEMA_VERSION:
        raise StoreDamaged(
            f"{path} has schema version {version}, this greyd knows version {SCHEMA_VERSION} only. "
            f"Run the release that wrote it (an older greyd never opens a newer store)"
        )
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        raise StoreDamaged(f"{path} is in journal mode {mode}, wal was wanted: another program changed it")
    if path.stat().st_size < CHECKED_BELOW_BYTES:
        found = connection.execute("PRAGMA quick_check(3)").fetchall()
        if found != [("ok",)]:
            faults = "; ".join(str(row[0]).replace("\n", ", ") for row in found)
            raise StoreDamaged(f"{path} is corrupt ({faults}). {_REPAIR}")


_REPAIR = (
    "Stop greyd, keep a copy of the file, and restore a backup or let this host copy from another cluster"
)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


_MAYBE_NO_ROOM = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


def named(error: sqlite3.Error, path: Path, doing: str) -> StoreError:
    """Say what an error of SQLite means for the store: DiskFull, StoreDamaged or another StoreError."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    what = f"cannot {doing}: {path}: {error} ({getattr(error, 'sqlite_errorname', 'no code')})"
    if primary == sqlite3.SQLITE_FULL or (primary in _MAYBE_NO_ROOM and no_room(path)):
        return DiskFull(f"{what}. Make room on the disk that holds it; writes work again by themselves")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(f"{what}. {_REPAIR}")
    if primary == sqlite3.SQLITE_IOERR:
        return StoreDamaged(f"{what}. The disk failed: check it (dmesg), then restart greyd")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreDamaged(f"{what}. Check that the file and its folder belong to the user that runs greyd")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{what}. Another program uses the file: end it (`fuser -v {path}` names it)")
    return StoreError(f"{what}. Restart greyd; report this if it comes again")


def named_os(error: OSError, path: Path, doing: str) -> StoreError:
    """Say what an error of the operating system means for the store."""
    what = f"cannot {doing}: {path}: {error.strerror}"
    if error.errno in _NO_SPACE:
        return DiskFull(f"{what}. Make room on the disk that holds it, then try again")
    return StoreError(f"{what}. Check the folder and its owner, then try again")


def no_room(path: Path) -> bool:
    """Whether the file system that holds the store is full."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _NO_ROOM_BYTES or (found.f_files > 0 and found.f_favail == 0)
