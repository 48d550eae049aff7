# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks: room and file numbers where the node writes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from grey.cli.doctor.findings import Area

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from grey.cli.doctor.findings import Finding

AREA = Area("disk")

_MIB = 1024 * 1024
LEAST_FREE_BYTES = 256 * _MIB
LOW_FREE_BYTES = 1024 * _MIB
LEAST_SHARE = 0.05
LOW_SHARE = 0.15


class Room(msgspec.Struct, frozen=True):
    """What a file system has; ``files`` is 0 where their number has no limit."""

    bytes_total: int
    bytes_free: int
    files: int
    files_free: int
    read_only: bool = False


def look(folders: Mapping[str, str], quotas: Mapping[str, int]) -> Iterator[Finding]:
    """Look at the file systems of folders (what for, to path); ``quotas`` are the bytes each may grow to."""
    uses: dict[int, list[str]] = {}
    places: dict[int, Path] = {}
    for what, folder in folders.items():
        path = _existing(Path(folder))
        try:
            device = path.stat().st_dev
        except OSError as error:
            yield AREA.unreadable(what, path, error)
            continue
        uses.setdefault(device, []).append(what)
        places.setdefault(device, path)
    for device, path in places.items():
        quota = sum(quotas.get(what, 0) for what in uses[device])
        yield from judge(f"{path} ({', '.join(uses[device])})", room(path), quota)


def judge(where: str, found: Room, quota: int = 0) -> Iterator[Finding]:
    """Judge one file system; ``quota`` is how much the node may still want of it (bytes)."""
    if found.read_only:
        yield AREA.problem(
            "writable",
            f"{where} is mounted read-only",
            "look for a fault of the disk: dmesg; then remount it",
        )
    share = found.bytes_free / found.bytes_total if found.bytes_total else 1.0
    said = f"{where}: {size(found.bytes_free)} of {size(found.bytes_total)} are free ({share:.0%})"
    if found.bytes_free < LEAST_FREE_BYTES or share < LEAST_SHARE:
        yield AREA.problem("space", said, "make room: without it writes are refused (disk_full)")
    elif found.bytes_free < LOW_FREE_BYTES or share < LOW_SHARE:
        yield AREA.warning("space", said, "make room, or enlarge the disk")
    elif found.bytes_free < quota:
        next_step = "enlarge the disk, or lower store.quota in the node's file"
        yield AREA.warning("space", f"{said}, the engine's quota is {size(quota)}", next_step)
    else:
        yield AREA.ok("space", said)
    if not found.files:
        return
    left = found.files_free / found.files
    said = f"{where}: {found.files_free:,} of {found.files:,} file numbers (inodes) are free"
    if left < LEAST_SHARE / 5:
        yield AREA.problem("inodes", said, "remove small files: no new file can be made")
    elif left < LEAST_SHARE:
        yield AREA.warning("inodes", said, "look for what makes so many small files there")
    else:
        yield AREA.ok("inodes", said)


def room(path: Path) -> Room:
    """Ask the file system. Raises OSError."""
    found = os.statvfs(path)
    return Room(
        bytes_total=found.f_blocks * found.f_frsize,
        bytes_free=found.f_bavail * found.f_frsize,
        files=found.f_files,
        files_free=found.f_favail,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )


def size(count: int) -> str:
    """Return a number of bytes in the unit that fits."""
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    for candidate in (path, *path.parents):
        with suppress(PermissionError):
            if candidate.exists():
                return candidate
    return path
