# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files as they should be: compared, written atomically, removed."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

HIDDEN = "(content hidden)\n"
HIDDEN_NEW = "(other content, hidden)\n"


@dataclass(frozen=True)
class Owner:
    """Whose files are, by name; an empty name leaves that half to whoever writes them."""

    user: str = ""
    group: str = ""


ANYONE = Owner()


@dataclass(frozen=True)
class Folder:
    """A folder, its permission bits and whose it is."""

    path: str
    mode: int
    owner: Owner = ANYONE


@dataclass(frozen=True)
class File:
    """A file's whole content, permission bits and owner. The content of a ``secret`` one is never shown."""

    path: str
    content: str
    mode: int
    secret: bool = False
    owner: Owner = ANYONE


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
    """Make a folder with its parents, or correct mode and owner. Fails when something else is in the way."""
    path = Path(folder.path)
    wanted = f"folder, {_described(folder.mode, folder.owner)}"
    with _explained(path):
        found = _state_of(path, folder.owner)
        if found is None:
            if not check:
                path.mkdir(parents=True)
                _correct(path, folder.mode, folder.owner)
            return Change(folder.path, "", wanted)
        if not path.is_dir():
            raise GreyError(f"{path}: wanted a folder, found a file: move it away and run again")
        if found == (folder.mode, folder.owner):
            return None
        if not check:
            _correct(path, folder.mode, folder.owner)
    return Change(folder.path, f"folder, {_described(*found)}", wanted)


def ensure_file(file: File, *, check: bool) -> Change | None:
    """Give a file content, mode and owner. Readers see the old content or the new one, nothing between."""
    path = Path(file.path)
    with _explained(path):
        state = _state_of(path, file.owner)
        if state is not None and path.is_dir():
            raise GreyError(f"{path}: wanted a file, found a folder: move it away and run again")
        found = path.read_bytes().decode("utf-8", "replace") if state is not None else None
        if found == file.content and state == (file.mode, file.owner):
            return None
        if not check:
            if found == file.content:
                _correct(path, file.mode, file.owner)
            else:
                write_atomically(path, file.content.encode(), file.mode, file.owner)
    return Change(
        file.path,
        _shown(found, state, file),
        _shown(file.content, (file.mode, file.owner), file, new=found != file.content),
    )


def ensure_owner(path: str, mode: int, owner: Owner, *, check: bool) -> Change | None:
    """Correct mode and owner of what is there; what is not there is no fault."""
    target = Path(path)
    with _explained(target):
        found = _state_of(target, owner)
        if found is None or found == (mode, owner):
            return None
        if not check:
            _correct(target, mode, owner)
    return Change(path, _described(*found), _described(mode, owner))


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


def write_atomically(path: Path, content: bytes, mode: int, owner: Owner = ANYONE) -> None:
    """Write beside the target, make it durable, then rename over it. Raises OSError."""
    user, group = _numbers(owner)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchown(file.fileno(), user, group)
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


def _state_of(path: Path, owner: Owner) -> tuple[int, Owner] | None:
    """Return mode and owner, the owner only as far as one is wanted; None when nothing is there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    found = Owner(
        _name_of(pwd.getpwuid, status.st_uid) if owner.user else "",
        _name_of(grp.getgrgid, status.st_gid) if owner.group else "",
    )
    return stat.S_IMODE(status.st_mode), found


def _correct(path: Path, mode: int, owner: Owner) -> None:
    """Set mode and owner of what a path names now.

    The folder above may be the owner's, who could put a link there and be given what it points to: only links
    that this user or root made are followed.
    """
    link = path.is_symlink()
    if link and path.lstat().st_uid not in (0, os.geteuid()):
        raise GreyError(f"{path}: wanted a file or folder, found a link of another user: remove it")
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if link else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except PermissionError:
        # A file that its owner may not read: the owner may change its mode all the same.
        path.chmod(mode)
        descriptor = os.open(path, flags)
    try:
        os.fchown(descriptor, *_numbers(owner))
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _numbers(owner: Owner) -> tuple[int, int]:
    """Return the numbers of user and group, -1 for those that stay as they are."""
    try:
        user = pwd.getpwnam(owner.user).pw_uid if owner.user else -1
    except KeyError:
        raise _unknown("user", owner.user) from None
    try:
        return user, grp.getgrnam(owner.group).gr_gid if owner.group else -1
    except KeyError:
        raise _unknown("group", owner.group) from None


def _unknown(kind: str, name: str) -> GreyError:
    return GreyError(f"owner: wanted the {kind} {name} on this host, found none: make it, then run again")


def _name_of(look: Callable[[int], tuple[object, ...]], number: int) -> str:
    try:
        return str(look(number)[0])
    except KeyError:
        return str(number)


def _described(mode: int, owner: Owner) -> str:
    return f"mode {mode:04o}" + (f", owner {owner.user}:{owner.group}" if owner != ANYONE else "")


def _shown(content: str | None, state: tuple[int, Owner] | None, file: File, *, new: bool = False) -> str:
    if content is None or state is None:
        return ""
    if file.secret:
        content = HIDDEN_NEW if new else HIDDEN
    return f"# {_described(*state)}\n{content}"
