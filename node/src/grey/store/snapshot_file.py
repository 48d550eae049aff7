# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that a snapshot is kept in: a tar archive of ``data`` and, behind it, ``manifest.json``.

``data`` is what the engine itself would restore (an etcd's snapshot, an SQLite file), so that a snapshot can
be used without greyd: ``tar xf FILE data``. It is written in one go, without a second copy on the disk, and
bears its name only when it is whole and durable.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import tarfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from grey.store.durable import sync
from grey.store.interface import StoreDamaged, StoreError
from grey.store.sqlite_file import named_os

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

DATA = "data"
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1024 * 1024

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 4 * 1024 * 1024


class Draft:
    """A snapshot that is being written. Leaving its context without ``finish`` leaves nothing behind."""

    def __init__(self, target: Path) -> None:
        """Raises StoreError when there is something at ``target``, or somebody writes there just now."""
        self.folder = target.parent
        self._target = target
        self._part = target.with_name(target.name + ".part")
        self._digest = hashlib.sha256()
        self._finished = False
        self.size = 0
        if target.exists():
            raise StoreError(f"{target} exists already, and a snapshot replaces nothing: name another file")
        with _told(self._part, "write the snapshot"):
            # Kept open, and locked, until the end.
            self._file: BinaryIO = open(  # noqa: SIM115
                self._part,
                "w+b",
                opener=lambda path, _: os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600),
            )
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                raise StoreError(
                    f"another snapshot is being written to {self._part}: wait for its end"
                ) from None
            self._file.truncate()
            self._file.write(bytes(_BLOCK))

    @property
    def sha256(self) -> str:
        """The sum of the data that was written so far."""
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Append a piece of the data. Raises DiskFull, StoreError."""
        with _told(self._part, "write the snapshot"):
            self._file.write(piece)
        self._digest.update(piece)
        self.size += len(piece)

    def data(self) -> memoryview:
        """Show the data that was written. Raises DiskFull, StoreError."""
        with _told(self._part, "write the snapshot"):
            self._file.flush()
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            return memoryview(mapped)[_BLOCK : _BLOCK + self.size]

    def finish(self, manifest: bytes) -> None:
        """Add the manifest, make everything durable, and give it its name. Raises DiskFull, StoreError."""
        with _told(self._part, "write the snapshot"):
            self._file.write(bytes(-self.size % _BLOCK))
            self._file.write(_head(MANIFEST, len(manifest)) + manifest + bytes(-len(manifest) % _BLOCK))
            self._file.write(bytes(2 * _BLOCK))
            self._file.seek(0)
            self._file.write(_head(DATA, self.size))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._part.rename(self._target)
            sync(self.folder)
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self._part.unlink(missing_ok=True)
        try:
            self._file.close()
        except OSError:
            # What was still to be written belongs to a file that is gone.
            if self._finished:
                raise


def read_manifest(path: Path) -> bytes:
    """Return the manifest of a snapshot. Raises StoreDamaged, StoreError."""
    with _archive(path) as archive:
        member = _member(archive, path, MANIFEST)
        if member.size > MAX_MANIFEST_BYTES:
            raise StoreDamaged(f"{path} is no whole snapshot: its manifest has {member.size} bytes. {_NEXT}")
        file = archive.extractfile(member)
        assert file is not None
        return file.read()


def extract(path: Path, target: Path) -> tuple[int, str]:
    """Copy the data of a snapshot to ``target``; return its size and SHA-256.

    Raises StoreDamaged, StoreError, DiskFull.
    """
    digest, size = hashlib.sha256(), 0
    with _archive(path) as archive:
        file = archive.extractfile(_member(archive, path, DATA))
        assert file is not None
        with _told(target, "unpack the snapshot"), target.open("xb") as copy:
            target.chmod(0o600)
            while piece := file.read(_CHUNK):
                copy.write(piece)
                digest.update(piece)
                size += len(piece)
    return size, digest.hexdigest()


_NEXT = "Take another snapshot, or another copy of this one"


@contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except tarfile.TarError as error:
        raise StoreDamaged(f"{path} is no whole snapshot: {error}. {_NEXT}") from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}. Check its name, owner and mode"
        ) from error


def _member(archive: tarfile.TarFile, path: Path, name: str) -> tarfile.TarInfo:
    try:
        member = archive.getmember(name)
    except KeyError:
        raise StoreDamaged(
            f"{path} is no whole snapshot: it holds no {name}. It may have been cut short. {_NEXT}"
        ) from None
    if not member.isfile():
        raise StoreDamaged(f"{path} is no snapshot: its {name} is no file. {_NEXT}")
    return member


def _head(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o600
    entry.mtime = int(time.time())
    return entry.tobuf(tarfile.GNU_FORMAT)


@contextmanager
def _told(path: Path, doing: str) -> Iterator[None]:
    """Say what an error of the operating system means."""
    try:
        yield
    except OSError as error:
        raise named_os(error, path, doing) from error
