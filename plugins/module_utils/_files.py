# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files as they should be: compared, written atomically, removed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

HIDDEN = "(content hidden)\n"
HIDDEN_NEW = "(other content, hidden)\n"


@dataclass(frozen=True)
class Folder:
    """A folder and its permission bits."""

    path: str
    mode: int


@dataclass(frozen=True)
class File:
    """A file's whole content and permission bits. The content of a ``secret`` one is never shown."""

    path: str
    content: str
    mode: int
    secret: bool = False


def parse_mode(text: str) -> int:
    """Read permission bits such as ``0640``."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise GreyError(f"mode: wanted octal permission bits such as 0640, found {text!r}")
    return mode


def ensure_folder(folder: Folder, *, check: bool) -> Change | None:
    """Make a folder with its parents, or correct its mode. Fails when something else is in the way."""
    path = Path(folder.path)
    with _explained(path):
        found = _mode_of(path)
        if found is None:
            if not check:
                path.mkdir(parents=True)
                path.chmod(folder.mode)
            return Change(folder.path, "", f"folder, mode {folder.mode:04o}")
        if not path.is_dir():
            raise GreyError(f"{path}: wanted a folder, found a file: move it away and run again")
        if found == folder.mode:
            return None
        if not check:
            path.chmod(folder.mode)
    return Change(folder.path, f"folder, mode {found:04o}", f"folder, mode {folder.mode:04o}")


def ensure_file(file: File, *, check: bool) -> Change | None:
    """Give a file its content and mode. Readers see the old content or the new one, nothing between."""
    path = Path(file.path)
    with _explained(path):
        found_mode = _mode_of(path)
        if found_mode is not None and path.is_dir():
            raise GreyError(f"{path}: wanted a file, found a folder: move it away and run again")
        found = path.read_bytes().decode("utf-8", "replace") if found_mode is not None else None
        if found == file.content and found_mode == file.mode:
            return None
        if not check:
            if found == file.content:
                path.chmod(file.mode)
            else:
                write_atomically(path, file.content.encode(), file.mode)
    return Change(
        file.path,
        _shown(found, found_mode, file),
        _shown(file.content, file.mode, file, new=found != file.content),
    )


def ensure_absent(path: str, *, check: bool) -> Change | None:
    """Remove a file, or a folder with all it holds."""
    target = Path(path)
    if not target.is_absolute() or len(target.parts) < 3:
        raise GreyError(f"refused to remove {path!r}: wanted an absolute path of at least two levels")
    with _explained(target):
        if not os.path.lexists(target):
            return None
        kind = "folder" if target.is_dir() and not target.is_symlink() else "file"
        if not check:
            if kind == "folder":
                shutil.rmtree(target)
            else:
                target.unlink()
    return Change(path, kind, "")


def prune(path: str, removed: Container[str], *, check: bool) -> Change | None:
    """Remove a folder when nothing is left in it; leave it when it holds anything.

    ``removed`` are paths that are gone already, or would be in check mode.
    """
    target = Path(path)
    with _explained(target):
        if not target.is_dir() or target.is_symlink():
            return None
        if not all(str(entry) in removed for entry in target.iterdir()):
            return None
        if not check:
            target.rmdir()
    return Change(path, "empty folder", "")


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Write beside the target, make it durable, then rename over it. Raises OSError."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explain(error: OSError, path: Path) -> GreyError:
    """Say what an operating system's error means for the operator."""
    hint = {
        errno.EACCES: "the connecting user may not do this: check owner and mode of the folder above",
        errno.EPERM: "the connecting user may not do this: check owner and mode of the folder above",
        errno.ENOSPC: "the file system is full: make room and run again",
        errno.EDQUOT: "the quota is used up: make room and run again",
        errno.EROFS: "the file system is mounted read-only",
        errno.ENOENT: _why_missing(Path(os.fsdecode(error.filename or path))),
        errno.ENOTDIR: "a file stands where a folder is wanted: move it away",
    }.get(error.errno or 0, "look at the path on the host")
    return GreyError(f"{error.filename or path}: {error.strerror or error}; {hint}")


def _why_missing(path: Path) -> str:
    if path.parent.is_dir():
        return (
            "the folder above is there, so something removed or renamed this file meanwhile: see that no "
            "other program and no other key of the configuration uses this path, then run again"
        )
    return "the folder above does not exist: run the phase 'prepare' first"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def _mode_of(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _shown(content: str | None, mode: int | None, file: File, *, new: bool = False) -> str:
    if content is None or mode is None:
        return ""
    if file.secret:
        content = HIDDEN_NEW if new else HIDDEN
    return f"# mode {mode:04o}\n{content}"
