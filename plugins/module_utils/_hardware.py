# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is made of: memory, processor cores, open files, the room and the speed of its disks."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
_MEMORY_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
# Like etcd's log: small records, each on the disk before the next.
_RECORD = b"\0" * 4096
_SYNCS = 50
_SYNC_SECONDS = 2.0


@dataclass(frozen=True)
class Machine:
    """What programs may use here. ``open_files`` is what one process may be allowed at most."""

    memory_mib: int
    cores: int
    open_files: int


@dataclass(frozen=True)
class Disk:
    """A file system that data lies on, with the folders there. ``files`` is 0 where they have no limit.

    ``sync_ms`` is how long a small record takes until it is durable, half of the time and at the worst; both
    None when that was not measured, and ``problem`` says why.
    """

    path: str
    folders: tuple[str, ...]
    free_mib: int
    total_mib: int
    files: int
    files_free: int
    sync_ms: float | None = None
    worst_sync_ms: float | None = None
    problem: str = ""


def machine() -> Machine:
    """Ask the kernel; a limit of a container counts."""
    return Machine(_memory_bytes() // MIB, len(os.sched_getaffinity(0)), _open_files())


def system() -> dict[str, str]:
    """Return what the operating system calls itself, its kernel and its C library."""
    name = "Linux"
    with contextlib.suppress(OSError):
        name = platform.freedesktop_os_release().get("PRETTY_NAME", name)
    library, version = platform.libc_ver()
    return {
        "os": name,
        "kernel": platform.release(),
        "libc": f"{library} {version}".strip(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def memory_faults(wanted_mib: int) -> list[str]:
    """Say when there is too little memory for what the host is to run."""
    found = machine().memory_mib
    if found >= wanted_mib:
        return []
    return [
        (
            f"memory: wanted {wanted_mib} MiB for what this host runs, found {found} MiB; take a larger "
            "host, or lower host_memory_mib, host_engine_memory_mib and host_store_memory_mib"
        )
    ]


def disks(folders: list[str], *, measure: bool) -> list[Disk]:
    """Look at the file systems that folders are on, or would be; ``measure`` how fast they are."""
    places: dict[int, tuple[Path, list[str]]] = {}
    for folder in folders:
        there = _nearest(folder)
        places.setdefault(there.stat().st_dev, (there, []))[1].append(folder)
    return [_disk(there, tuple(uses), measure=measure) for there, uses in places.values()]


def _disk(there: Path, folders: tuple[str, ...], *, measure: bool) -> Disk:
    found = os.statvfs(there)
    median = worst = None
    problem = "" if measure else "not measured in check mode"
    if measure:
        try:
            median, worst = sync_ms(there)
        except OSError as error:
            problem = f"not measured: nothing can be written to {there}: {error.strerror}"
    return Disk(
        str(there),
        folders,
        found.f_bavail * found.f_frsize // MIB,
        found.f_blocks * found.f_frsize // MIB,
        found.f_files,
        found.f_favail,
        median,
        worst,
        problem,
    )


def sync_ms(folder: Path) -> tuple[float, float]:
    """Write small records to a file without a name, each synced, for two seconds at most.

    Return the median and the worst time of one, in milliseconds. Raises OSError.
    """
    took: list[float] = []
    deadline = time.monotonic() + _SYNC_SECONDS
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        while len(took) < _SYNCS and (not took or time.monotonic() < deadline):
            started = time.perf_counter()
            file.write(_RECORD)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took), max(took)


def _memory_bytes() -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            total = min(total, int(Path(path).read_text(encoding="ascii")))
    return total


def _open_files() -> int:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**31 if most == resource.RLIM_INFINITY else most


def _nearest(path: str) -> Path:
    """Return the nearest part of a path that exists."""
    there = Path(path)
    while not there.exists():
        there = there.parent
    return there
