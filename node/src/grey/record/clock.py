# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hybrid logical clock: wall time where it can be trusted, a counter where it cannot.

Source: Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots", 2014.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


class Stamp(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A point on the hybrid clock: microseconds since the Unix epoch and a counter within them."""

    microseconds: int
    counter: int

    def __str__(self) -> str:
        return f"{self.microseconds}.{self.counter}"


class HybridClock:
    """Gives stamps that never go back, whatever the wall clock does."""

    def __init__(self, wall: Callable[[], int] | None = None, last: Stamp | None = None) -> None:
        """``wall`` returns microseconds since the Unix epoch; ``last`` is the newest stamp already given."""
        self._wall = wall or _wall_microseconds
        self._last = last or Stamp(0, 0)

    def now(self) -> Stamp:
        """Return a stamp that is greater than every stamp given or observed before."""
        wall = self._wall()
        last = self._last
        if wall > last.microseconds:
            self._last = Stamp(wall, 0)
        else:
            self._last = Stamp(last.microseconds, last.counter + 1)
        return self._last

    def observe(self, stamp: Stamp) -> None:
        """Take note of a stamp from elsewhere, so that later stamps are greater than it."""
        self._last = max(self._last, stamp)


class SteadyClock:
    """Wall time that neither jumps nor goes back: times to live are counted by it.

    It begins with the wall clock and follows it, but never runs faster or slower than the time that really
    passes by more than a tenth. So a wall clock that is set forward expires nothing before its time, and one
    that is set back neither stops expiry nor shows again what was gone.
    """

    def __init__(
        self, wall: Callable[[], int] | None = None, elapsed: Callable[[], int] | None = None
    ) -> None:
        """Both give microseconds; ``elapsed`` counts what really passes, also while the machine sleeps."""
        self._wall = wall or _wall_microseconds
        self._elapsed = elapsed or _boottime_microseconds
        self._seen = self._elapsed()
        self._now = self._wall()

    def now(self) -> int:
        """Return microseconds since the Unix epoch."""
        elapsed = self._elapsed()
        passed = elapsed - self._seen
        self._seen = elapsed
        most = passed // 10
        self._now += passed
        self._now += max(-most, min(most, self._wall() - self._now))
        return self._now


def _wall_microseconds() -> int:
    return time.time_ns() // 1000


def _boottime_microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
