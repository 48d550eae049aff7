# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contenders measured in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import asyncio
import datetime
import os
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

import psutil
from _load import closed_loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _load import Call, Sample

WARM_UP_SECONDS = 0.25
_BUSY_SHARE = 0.15


class Pace(NamedTuple):
    """How long and how often each contender is measured, and how long to wait for a calm machine."""

    seconds: float = 1.3
    rounds: int = 3
    patience_seconds: float = 10.0


class Contender(NamedTuple):
    """One way to carry out an operation; ``greyd`` and ``engine`` are its processes, by their numbers."""

    name: str
    call: Call
    greyd: Sequence[int] = ()
    engine: Sequence[int] = ()


class Outcome(NamedTuple):
    """What a contender came to over all rounds.

    Latencies in milliseconds, over the operations of all rounds; ``low`` and ``high`` are the rates of the
    slowest and the fastest round. The last three are microseconds of processor per operation; ``client`` is
    the program that makes the load (with the engine in it, where that is a library).
    """

    name: str
    per_second: float
    low: float
    high: float
    p50: float
    p99: float
    p999: float
    client: float
    greyd: float
    engine: float


async def in_turns(contenders: Sequence[Contender], clients: int, pace: Pace) -> list[Outcome]:
    """Measure each contender once per round, every other round in the opposite order."""
    samples: dict[str, list[Sample]] = {each.name: [] for each in contenders}
    used: dict[str, list[float]] = {each.name: [0.0, 0.0, 0.0] for each in contenders}
    for each in contenders:
        await closed_loop(each.call, clients, WARM_UP_SECONDS)
    for turn in range(pace.rounds):
        for each in contenders if turn % 2 == 0 else reversed(contenders):
            before = _used(each)
            samples[each.name].append(await closed_loop(each.call, clients, pace.seconds))
            spent = used[each.name]
            spent[:] = [
                so_far + now - then for so_far, now, then in zip(spent, _used(each), before, strict=True)
            ]
    return [_outcome(name, found, used[name]) for name, found in samples.items()]


def _used(contender: Contender) -> list[float]:
    """Return the seconds of processor that the load, greyd and the engine have used."""
    return [time.process_time(), *(sum(map(_seconds, pids)) for pids in (contender.greyd, contender.engine))]


def _seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _outcome(name: str, samples: list[Sample], used: list[float]) -> Outcome:
    rates = sorted(sample.per_second for sample in samples)
    took = sorted(seconds for sample in samples for seconds in sample.took)
    latencies = (1000 * took[int(len(took) * part)] for part in (0.5, 0.99, 0.999))
    each = (1e6 * seconds / len(took) for seconds in used)
    return Outcome(name, statistics.median(rates), rates[0], rates[-1], *latencies, *each)


async def calm(patience_seconds: float) -> str:
    """Wait until nothing else uses much of the machine; return how busy it was, in words.

    The load average decays over a minute, and most of it is our own: what counts is how much of the
    processors is used while we do nothing.
    """
    cores = os.cpu_count() or 1
    end = time.monotonic() + patience_seconds
    while True:
        psutil.cpu_percent(None)
        await asyncio.sleep(1.0)
        busy = psutil.cpu_percent(None) / 100
        if busy < _BUSY_SHARE or time.monotonic() > end:
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
            return f"{now}, {100 * busy:.0f} % of {cores} cores busy with other work before it"
