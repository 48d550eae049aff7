# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock: is it kept right, and does it agree with those of the other clusters?"""

from __future__ import annotations

import ctypes
import email.utils
from typing import TYPE_CHECKING

import msgspec

from grey.cli.doctor.findings import Area

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from grey.cli.doctor.findings import Finding

AREA = Area("clock")

_UNSYNCHRONISED = 0x40
_KEEP = "start a time service: systemctl enable --now chrony (or systemd-timesyncd)"


class Kernel(msgspec.Struct, frozen=True):
    """What the kernel says of its clock. ``most_error_seconds`` bounds its error while it is kept right."""

    synchronised: bool
    most_error_seconds: float


class Heard(msgspec.Struct, frozen=True):
    """The ``Date`` of a peer, and when it was asked and answered by the clock here (Unix seconds)."""

    peer: str
    date: float
    asked: float
    answered: float

    @property
    def least_offset_seconds(self) -> float:
        """How far the clocks are apart at least: a Date says the second only, and answers take time."""
        early, late = self.date - self.answered, self.date + 1 - self.asked
        return early if early > 0 else min(late, 0.0)


def look(kernel: Kernel | None, heard: Sequence[Heard], most_offset_seconds: float) -> Iterator[Finding]:
    """Judge the clock; ``kernel`` is None where the kernel does not say."""
    if kernel is None:
        yield AREA.warning("synchronised", "the kernel does not say whether a time service keeps it", _KEEP)
    elif kernel.synchronised:
        error = kernel.most_error_seconds * 1000
        yield AREA.ok("synchronised", f"a time service keeps it, the error is at most {error:.0f} ms")
    else:
        yield AREA.warning("synchronised", "no time service keeps this clock right", _KEEP)
    if not heard:
        return
    limit = f"at most {most_offset_seconds:g} s are allowed (max_clock_offset)"
    off = [each for each in heard if abs(each.least_offset_seconds) > most_offset_seconds]
    if not off:
        peers = ", ".join(each.peer for each in heard)
        yield AREA.ok("offset", f"agrees with {peers}, as far as their Date headers say (whole seconds)")
    elif 2 * len(off) > len(heard):
        said = ", ".join(f"{each.peer} {_apart(each.least_offset_seconds)}" for each in off)
        found = f"this clock differs from those of others: {said}; {limit}"
        yield AREA.problem("offset", found, f"set the clock here: {_KEEP}")
    else:
        for each in off:
            found = f"the clock of {each.peer} is {_apart(each.least_offset_seconds)}; {limit}"
            yield AREA.warning("offset", found, f"look at the clock of {each.peer}: grey-ctl doctor there")


def date_of(header: str | None) -> float | None:
    """Read a ``Date`` header; return Unix seconds, None for what is no date."""
    try:
        return email.utils.parsedate_to_datetime(header or "").timestamp()
    except ValueError:
        return None


def _apart(seconds: float) -> str:
    return f"at least {abs(seconds):.1f} s {'ahead' if seconds > 0 else 'behind'}"


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


def kernel_clock() -> Kernel | None:
    """Ask the kernel, which needs no rights; None where it does not answer."""
    asked = _Timex()
    try:
        code = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return None
    if code < 0:
        return None
    return Kernel(not asked.status & _UNSYNCHRONISED, asked.maxerror / 1e6)
