# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of this host as /proc shows them: whose they are, who listens where, and how to end them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PROC = Path("/proc")
MARKER = "GREY_INSTANCE"
_LISTENING = "0A"


@dataclass(frozen=True)
class Process:
    """A process. ``name`` is the kernel's short name of it."""

    pid: int
    parent: int
    name: str


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket; ``process`` is None when the owner may not be seen."""

    address: str
    port: int
    process: Process | None


def environment(pid: int) -> dict[str, str] | None:
    """Return the environment a process was started with; None when it is gone or another user's."""
    file = PROC / str(pid) / "environ"
    try:
        raw = file.read_bytes()
    except PermissionError:
        raw = _as_owner(pid, file.read_bytes)
    except OSError:
        return None
    if not raw:
        return None
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _separator, value in pairs}


def command_line(pid: int) -> str:
    """Return a process's program and arguments, separated by spaces; empty when it is gone."""
    return " ".join(command(pid))


def command(pid: int) -> list[str]:
    """Return a process's program and arguments; nothing when it is gone."""
    try:
        text = os.fsdecode((PROC / str(pid) / "cmdline").read_bytes()).rstrip("\0")
    except OSError:
        return []
    return text.split("\0") if text else []


def commands_below(folder: Path) -> list[list[str]]:
    """Return the commands of this host's processes that name something below a folder, whoever runs them.

    What runs in a container on this host has another file system, though the names may be the same.
    """
    within = f"{folder}/"
    found = ((pid, command(pid)) for pid in _pids())
    return [
        words
        for pid, words in found
        if any(word.startswith(within) for word in words) and not _contained(pid)
    ]


def process(pid: int) -> Process | None:
    """Return a process by number, None when it is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold any character, parentheses too.
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    return Process(pid, int(stat[stat.rindex(")") + 2 :].split()[1]), name)


def cgroups(pid: int) -> list[str]:
    """Return the names along a process's control groups, such as its unit; none when it is gone."""
    try:
        lines = (PROC / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [name for line in lines for name in line.split(":", 2)[-1].split("/") if name]


def marked(instance: str) -> list[Process]:
    """Return the processes that carry the mark of an instance, without this one and its ancestors.

    What runs in a container on this host is another host's, though it is seen from here.
    """
    mine = _ancestors(os.getpid())
    found = []
    for pid in _pids():
        if pid not in mine and not _contained(pid) and (environment(pid) or {}).get(MARKER) == instance:
            seen = process(pid)
            if seen is not None:
                found.append(seen)
    return found


def outside(processes: Iterable[Process], root: int | None) -> list[Process]:
    """Return those that are not ``root`` and do not descend from it."""
    return [item for item in processes if root is None or root not in _ancestors(item.pid)]


def listeners(ports: Iterable[int]) -> list[Listener]:
    """Return who listens on some TCP ports, on any address."""
    wanted = set(ports)
    sockets: list[tuple[str, int, str]] = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            lines = (PROC / "net" / table).read_text(encoding="ascii").splitlines()[1:]
            for fields in (line.split() for line in lines):
                address, _separator, port = fields[1].rpartition(":")
                if fields[3] == _LISTENING and int(port, 16) in wanted:
                    sockets.append((_address(address), int(port, 16), fields[9]))
    if not sockets:
        return []
    owners = _socket_owners({inode for _address_text, _port, inode in sockets})
    return [Listener(address, port, owners.get(inode)) for address, port, inode in sockets]


def end(processes: Iterable[Process], instance: str, grace_seconds: float) -> list[Process]:
    """End marked processes: TERM, wait ``grace_seconds`` at most, then KILL. Return the ended ones."""
    ended = []
    waiting: dict[int, Process] = {}
    poll = select.poll()
    try:
        for item in processes:
            try:
                handle = os.pidfd_open(item.pid)
            except ProcessLookupError:
                continue
            waiting[handle] = item
            # The number may have gone to another process since it was looked up; the handle cannot.
            if (environment(item.pid) or {}).get(MARKER) != instance:
                os.close(handle)
                del waiting[handle]
                continue
            ended.append(item)
            poll.register(handle, select.POLLIN)
            _send(handle, signal.SIGTERM)
            _send(handle, signal.SIGCONT)
        for strongest in (False, True):
            deadline = time.monotonic() + grace_seconds
            if strongest:
                for handle in waiting:
                    _send(handle, signal.SIGKILL)
            while waiting and time.monotonic() < deadline:
                for handle, _event in poll.poll(max(1, int((deadline - time.monotonic()) * 1000))):
                    poll.unregister(handle)
                    os.close(handle)
                    del waiting[handle]
    finally:
        for handle in waiting:
            os.close(handle)
    return ended


def wait_end(pid: int, seconds: float) -> bool:
    """Wait until a process is gone, at most so many seconds; say whether it is."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(int(seconds * 1000)))
    finally:
        os.close(handle)


def _send(handle: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)


def _contained(pid: int) -> bool:
    """Whether a process has a number of its own inside a container."""
    try:
        status = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(line.startswith("NSpid:") and len(line.split()) > 2 for line in status.splitlines())


def _as_owner(pid: int, read: Callable[[], bytes]) -> bytes:
    """Read what of a process its user may see, as that user; nothing when that fails, too.

    Root in a container may become any user, but without CAP_SYS_PTRACE not look into the processes of others.
    """
    try:
        owner = (PROC / str(pid)).stat()
    except OSError:
        return b""
    if os.geteuid() != 0 or owner.st_uid == 0:
        return b""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(source)
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
            with os.fdopen(sink, "wb") as file:
                file.write(read())
        finally:
            os._exit(0)
    os.close(sink)
    with os.fdopen(source, "rb") as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        seen = process(pid)
        pid = seen.parent if seen is not None else 0
    return found


def _address(text: str) -> str:
    """Read an address of /proc/net/tcp: 32-bit words in the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = b"".join(word.to_bytes(4, "little") for word in words)
    return str(ipaddress.ip_address(packed))


def _open_files(pid: int) -> list[str]:
    """Return what a process has open; nothing when it is gone or another user's."""
    try:
        return _links(pid)
    except PermissionError:
        return _as_owner(pid, lambda: "\n".join(_links(pid)).encode()).decode().splitlines()
    except OSError:
        return []


def _links(pid: int) -> list[str]:
    targets = []
    for entry in (PROC / str(pid) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.append(str(entry.readlink()))
    return targets


def _socket_owners(inodes: set[str]) -> dict[str, Process]:
    links = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[str, Process] = {}
    for pid in _pids():
        for inode in (links.get(target) for target in _open_files(pid)):
            seen = process(pid) if inode is not None else None
            if inode is not None and seen is not None:
                owners.setdefault(inode, seen)
        if len(owners) == len(inodes):
            break
    return owners
