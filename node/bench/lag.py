# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long after its acknowledgement a write shows on a replica, at a fixed rate of writes."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from _cluster import RunningFederation, connect, running_federation
from _load import get_request, put_request
from _report import Goal, Section, Table
from _turns import calm

if TYPE_CHECKING:
    from _load import Connection
    from _turns import Pace

RATE = 1000
INTERVAL = "100ms"
GOAL_MILLISECONDS = 250.0
_SAMPLES_PER_SECOND = 40
_LOOK_AGAIN_SECONDS = 0.004


async def measure(pace: Pace) -> Section:
    """Write to the primary of three clusters on SQLite, read at a replica."""
    busy = await calm(pace.patience_seconds)
    seconds = 6 * pace.seconds
    with tempfile.TemporaryDirectory(prefix="grey-bench-") as name:
        async with running_federation(Path(name), interval=INTERVAL, detection_time="10s") as federation:
            took = await _lag(federation, seconds)
    middle, late = (1000 * took[int(len(took) * part)] for part in (0.5, 0.99))
    table = Table(
        [f"replication, {RATE:,} writes/s, `interval: {INTERVAL}`, {len(took)} samples", "ms"],
        [
            ["median from the acknowledgement to visible on the replica", f"{middle:.1f}"],
            ["99th percentile", f"{late:.1f}"],
            ["the longest", f"{1000 * took[-1]:.1f}"],
        ],
    )
    goal = Goal(f"replication lag, p99 at {RATE:,} writes/s", GOAL_MILLISECONDS, late, "ms", most=True)
    return Section("lag", [table], busy, [goal])


async def _lag(federation: RunningFederation, seconds: float) -> list[float]:
    """Return how long after its acknowledgement the replica showed a write, for a sample of them."""
    writers = await connect(federation, federation.primary, 16)
    readers = await connect(federation, federation.nodes["gcp-west"], 64)
    found: list[float] = []
    watching: set[asyncio.Task[None]] = set()
    began = time.perf_counter()
    total = int(RATE * seconds)
    every = RATE // _SAMPLES_PER_SECOND

    async def watch(key: str, acknowledged: float) -> None:
        reader = readers.pop()
        while await reader.ask(get_request(key)) != 200:  # noqa: ASYNC110 - nothing tells a client earlier
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        found.append(time.perf_counter() - acknowledged)
        readers.append(reader)

    async def write(writer: Connection, first: int) -> None:
        for number in range(first, total, len(writers)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            key = f"lag-{number:07}"
            await writer.want(put_request(key))
            if number % every == 0 and readers:
                task = asyncio.create_task(watch(key, time.perf_counter()))
                watching.add(task)
                task.add_done_callback(watching.discard)

    await asyncio.gather(*(write(writer, first) for first, writer in enumerate(writers)))
    written = time.perf_counter() - began
    if written > 1.05 * seconds:
        raise RuntimeError(
            f"{total} writes took {written:.1f} s, not {seconds:.1f}: this is no {RATE} per second"
        )
    async with asyncio.timeout(10):
        await asyncio.gather(*watching)
    for connection in (*writers, *readers):
        connection.close()
    return sorted(found)
