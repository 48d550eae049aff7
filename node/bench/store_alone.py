# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the embedded store is, alone and through the writer and the reader. Prints a table.

Usage: python bench/store_bench.py [--seconds 3] [--clients 64] [--value-bytes 100] [--folder PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from grey.data.history import History
from grey.data.reader import Reader
from grey.data.writer import Writer
from grey.record import HybridClock
from grey.store.interface import Write
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


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


async def measure(
    name: str, clients: int, seconds: float, call: Callable[[int, int], Awaitable[object]]
) -> Row:
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


async def run(folder: Path, clients: int, seconds: float, value: bytes) -> list[Row]:
    """Measure everything on one new store."""
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
        await measure("store: commit, 1 client", 1, seconds, commit),
        await measure(f"store: commit, {clients} clients", clients, seconds, commit),
        await measure("store: commit of 500 keys, 1 client", 1, seconds, commit_many),
        await measure(
            f"writer: put, {clients} clients",
            clients,
            seconds,
            lambda client, number: writer.put(key(client, number), value),
        ),
        await measure(
            f"writer: put with request id, {clients} clients",
            clients,
            seconds,
            lambda client, number: writer.put(b"id/" + key(client, number), value, f"{client}-{number}"),
        ),
        await measure(
            f"reader: get, {clients} clients",
            clients,
            seconds,
            lambda client, number: reader.get(key(client, number % 1000)),
        ),
        await measure(
            "reader: list of 100 keys, 1 client",
            1,
            seconds,
            lambda _, number: reader.list(b"client-%d/" % (number % clients), limit=100, after=None),
        ),
    ]
    task.cancel()
    await asyncio.wait([task])
    await store.close()
    return rows


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the store is made; default: the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        fsyncs = fsyncs_per_second(folder, 1.0)
        rows = asyncio.run(run(folder, options.clients, options.seconds, bytes(options.value_bytes)))
    lines = [f"{'what':<45} {'per second':>12} {'median ms':>10} {'p99 ms':>10}"]
    lines += [f"{row.name:<45} {row.per_second:>12,.0f} {row.median:>10.2f} {row.p99:>10.2f}" for row in rows]
    lines.append(f"{'disk: fsync of one page':<45} {fsyncs:>12,.0f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
