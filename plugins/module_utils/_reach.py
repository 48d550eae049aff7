# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether ports of other hosts can be reached from this one, and the round trip to them, by TCP connects."""

from __future__ import annotations

import errno
import os
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 5
TIMEOUT_SECONDS = 2.0
# Threads only wait for answers; so many at once fill no connection table on the way.
_AT_ONCE = 32

State = Literal["open", "refused", "silent", "unreachable"]


@dataclass(frozen=True)
class Reached:
    """What came back from a port. ``round_trip_ms`` is the median, None when nothing came back.

    ``refused``: the host answered that nobody listens, which is a round trip too. ``silent``: nothing came
    back in time, as when a firewall drops it. ``unreachable``: the network said so; ``problem`` is how.
    """

    state: State
    round_trip_ms: float | None = None
    problem: str = ""


def split(endpoint: str) -> tuple[str, int]:
    """Return address and port of ``192.0.2.1:2380`` or ``[2001:db8::1]:2380``."""
    address, _separator, port = endpoint.rpartition(":")
    return address.strip("[]"), int(port)


def reach(address: str, port: int, *, samples: int = 1, timeout_seconds: float = TIMEOUT_SECONDS) -> Reached:
    """Connect ``samples`` times to a port, and hang up; stop at the first that nothing came back from."""
    found: list[float] = []
    state: State = "open"
    for _sample in range(samples):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(timeout_seconds)
            started = time.perf_counter()
            try:
                code = probe.connect_ex((address, port))
            except TimeoutError:
                code = errno.ETIMEDOUT
            took = (time.perf_counter() - started) * 1000
        if code in (errno.EAGAIN, errno.ETIMEDOUT, errno.EINPROGRESS):
            return Reached("silent", problem=f"no answer within {timeout_seconds:g} s")
        if code not in (0, errno.ECONNREFUSED):
            return Reached("unreachable", problem=os.strerror(code))
        state = "open" if code == 0 else "refused"
        found.append(took)
    return Reached(state, statistics.median(found))


def reach_all(
    endpoints: Sequence[tuple[str, int]], *, samples: int = 1, timeout_seconds: float = TIMEOUT_SECONDS
) -> list[Reached]:
    """Try several ports at the same time; return what came back, in order."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return list(
            pool.map(
                lambda each: reach(each[0], each[1], samples=samples, timeout_seconds=timeout_seconds),
                endpoints,
            )
        )


def longest_ms(endpoints: Sequence[str]) -> float | None:
    """Return the longest round trip to some hosts (ADDRESS:PORT); None when none of them answered."""
    found = reach_all([split(each) for each in endpoints], samples=SAMPLES)
    return max((each.round_trip_ms for each in found if each.round_trip_ms is not None), default=None)
