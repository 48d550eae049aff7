# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the embedded store is, alone and through the writer and the reader, without HTTP."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from _load import VALUE
from _report import Section, Table
from _turns import calm

from grey.data.history import History
from grey.data.reader import Reader
from grey.data.writer import Writer
from grey.record import HybridClock
from grey.store.interface import Write
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from _turns import Pace

CLIENTS = 64


class Row(NamedTuple):
    """What a measurement found; latencies are in milliseconds."""

    name: str
    per_second: float
    median: float
    p99: float


class AlwaysPrimary:
    """A fence that never refuses."""

    def epoch(self) -> int:
        """Return the one epoch of the measurement."""
        return 1


async def _row(name: str, clients: int, seconds: float, call: Callable[[int, int], Awaitable[object]]) -> Row:
    """Let clients call one after the other's heels for a time; ``call`` gets client and number."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client(index: int) -> None:
        number = 0
        while (before := time.perf_counter()) < end:
            await call(index, number)
            latencies.append(time.perf_counter() - before)
            number += 1

    begin = time.perf_counter()
    await asyncio.gather(*(client(index) for index in range(clients)))
    elapsed = time.perf_counter() - begin
    cuts = statistics.quantiles(latencies, n=100)
    return Row(name, len(latencies) / elapsed, cuts[49] * 1000, cuts[98] * 1000)


def fsyncs_per_second(folder: Path, seconds: float) -> float:
    """Return what the disk alone does: the ceiling of commits that do not share an fsync."""
    descriptor = os.open(folder / "fsync", os.O_RDWR | os.O_CREAT)
    count = 0
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds:
        os.pwrite(descriptor, bytes(4096), count % 64 * 4096)
        os.fsync(descriptor)
        count += 1
    elapsed = time.perf_counter() - begin
    os.close(descriptor)
    return count / elapsed


async def run(folder: Path, seconds: float) -> list[Row]:
    """Measure everything on one new store."""
    clients, value = CLIENTS, VALUE
    store = await SqliteStore.create(folder / "data.sqlite")
    writer = Writer(store, AlwaysPrimary(), cluster="bench", clock=HybridClock())
    reader = Reader(store)
    await History(store).claim(1)
    task = asyncio.create_task(writer.run())

    def key(client: int, number: int) -> bytes:
        return b"client-%d/%d" % (client, number)

    async def commit(client: int, number: int) -> None:
        await store.commit([], [Write(b"raw/" + key(client, number), value)])

    async def commit_many(client: int, number: int) -> None:
        writes = [Write(b"many/%d/%s" % (index, key(client, number)), value) for index in range(500)]
        await store.commit([], writes)

    rows = [
        await _row("commit, 1 client", 1, seconds, commit),
        await _row(f"commit, {clients} clients", clients, seconds, commit),
        await _row("commit of 500 keys, 1 client", 1, seconds, commit_many),
        await _row(
            f"fenced put through the writer, {clients} clients",
            clients,
            seconds,
            lambda client, number: writer.put(key(client, number), value),
        ),
        await _row(
            "the same with a request id",
            clients,
            seconds,
            lambda client, number: writer.put(b"id/" + key(client, number), value, f"{client}-{number}"),
        ),
        await _row(
            f"get through the reader, {clients} clients",
            clients,
            seconds,
            lambda client, number: reader.get(key(client, number % 1000)),
        ),
        await _row(
            "list of 100 keys, 1 client",
            1,
            seconds,
            lambda _, number: reader.list(b"client-%d/" % (number % clients), limit=100, after=None),
        ),
    ]
    task.cancel()
    await asyncio.wait([task])
    await store.close()
    return rows


async def measure(pace: Pace) -> Section:
    """Measure the store in the temporary folder."""
    busy = await calm(pace.patience_seconds)
    with tempfile.TemporaryDirectory(prefix="grey-bench-") as name:
        folder = Path(name)
        fsyncs = fsyncs_per_second(folder, min(1.0, pace.seconds))
        rows = await run(folder, pace.seconds)
    columns = ["the store by itself", "per second", "p50 ms", "p99 ms"]
    cells = [[row.name, f"{row.per_second:,.0f}", f"{row.median:.2f}", f"{row.p99:.2f}"] for row in rows]
    cells.append(["the disk: fsync of one page", f"{fsyncs:,.0f}", "", ""])
    return Section("store", [Table(columns, cells)], busy)
