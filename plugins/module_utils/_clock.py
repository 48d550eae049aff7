# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's clock: whether something keeps it right, and how far it is from that of the controller."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils import _systemctl
from ansible_collections.grey.distributed.plugins.module_utils._command import run

if TYPE_CHECKING:
    from collections.abc import Iterable

# Those that a host may have, the one that others replace last.
SERVICES = (
    "chronyd.service",
    "chrony.service",
    "ntpd.service",
    "ntpsec.service",
    "systemd-timesyncd.service",
)
_UNSYNCHRONISED = 0x40
_ENABLED = ("enabled", "enabled-runtime", "static", "alias")
_SECONDS = 30.0


@dataclass(frozen=True)
class Kernel:
    """What the kernel says: whether a time service keeps the clock, and how wrong it may be meanwhile."""

    synchronised: bool
    most_error_ms: float


@dataclass(frozen=True)
class Service:
    """A time service of the host, as systemd knows it."""

    unit: str
    active: bool
    enabled: bool


@dataclass(frozen=True)
class Bounds:
    """How far the host's clock is ahead of the controller's, in seconds: between ``least`` and ``most``."""

    least: float
    most: float

    def beyond(self, allowed: float) -> bool:
        """Whether the clocks are certainly further apart than allowed."""
        return self.least > allowed or self.most < -allowed

    def __str__(self) -> str:
        """Return the middle, and how far off that may be."""
        return f"{(self.least + self.most) / 2:+.3f} s (within {(self.most - self.least) / 2:.3f} s)"


def bounds(asked: float, began: float, ended: float, answered: float) -> Bounds:
    """Return the bounds from one question: the controller's time before and after, the host's in between."""
    return Bounds(ended - answered, began - asked)


def narrowed(found: Iterable[Bounds]) -> Bounds | None:
    """Return what holds for all of several bounds; None without any, or when a clock was set meanwhile."""
    every = list(found)
    if not every:
        return None
    least, most = max(each.least for each in every), min(each.most for each in every)
    return Bounds(least, most) if least <= most else None


def fault(found: Bounds | None, allowed: float, *, kept: bool | None) -> str | None:
    """Say when a clock is certainly further off than allowed; ``kept``: whether a time service keeps it."""
    if found is None or not found.beyond(allowed):
        return None
    keeper = "" if kept else ", and no time service keeps it right"
    return (
        f"clock: wanted at most {allowed:g} s (max_clock_offset) between this host and the controller, found "
        f"{found}{keeper}; set it: systemctl enable --now chrony (or systemd-timesyncd)"
    )


class _Timex(ctypes.Structure):
    """``struct timex`` of <sys/timex.h>, up to what is read here; the rest is room for the kernel."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def kernel() -> Kernel | None:
    """Ask the kernel, which needs no rights; None where it does not answer."""
    asked = _Timex()
    try:
        code = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return None
    return None if code < 0 else Kernel(not asked.status & _UNSYNCHRONISED, asked.maxerror / 1000)


def contained() -> bool:
    """Whether this is a container, whose clock is that of the machine below."""
    return any(map(os.path.exists, ("/run/systemd/container", "/.dockerenv", "/run/.containerenv")))


def _service() -> Service | None:
    """Return the time service that runs, or else the first that is installed; None without systemd or any."""
    if contained() or not _systemctl.booted():
        return None
    command = (
        _systemctl.SYSTEMCTL,
        "show",
        "--property=Id,LoadState,ActiveState,UnitFileState",
        "--",
        *SERVICES,
    )
    said = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in run(command, timeout_seconds=_SECONDS).output.split("\n\n")
    ]
    there = [
        Service(each["Id"], each["ActiveState"] == "active", each["UnitFileState"] in _ENABLED)
        for each in said
        if each.get("LoadState") == "loaded"
    ]
    return next((each for each in there if each.active), next(iter(there), None))


def here(began: float, *, service: bool) -> dict[str, Any]:
    """Return what a module that began at ``began`` says of the clock here.

    The controller takes the times out and compares them with its own.
    """
    said, keeper = kernel(), _service() if service else None
    return {
        "synchronised": said.synchronised if said else None,
        "most_error_ms": said.most_error_ms if said else None,
        "service": dataclasses.asdict(keeper) if keeper else None,
        "began": began,
        "ended": time.time(),
    }
