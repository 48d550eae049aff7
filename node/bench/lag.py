# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put/s and get/s through the API of a real greyd beside the store alone, and the lag at a fixed rate.

All on loopback with mutual TLS, bounded in time. Run it with: python bench/api_bench.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import _load
import uvloop
from _load import VALUE, Connection, get_request, http_rate, put_request

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.federation import GreyNode, RunningFederation, running_federation

from grey.link.tls import client_context
from grey.store.interface import Write
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KEYS = 10_000


async def connect(federation: RunningFederation, node: GreyNode, count: int) -> list[Connection]:
    """Open connections to the API of a node."""
    context = client_context(federation.operator) if federation.scheme == "https" else None
    return await _load.connect(node.address, federation.api, count, context=context, host=node.host)


async def store_rates(folder: Path, clients: int, seconds: float) -> tuple[float, float]:
    """Return put/s and get/s of the store alone with so many concurrent callers."""
    store = await SqliteStore.create(folder / "alone.sqlite")

    async def rate(call: Callable[[bytes], Awaitable[object]]) -> float:
        end = time.perf_counter() + seconds
        done = 0

        async def one(first: int) -> None:
            nonlocal done
            number = first
            while time.perf_counter() < end:
                await call(b"k/%06d" % (number % KEYS))
                done += 1
                number += clients
                if done % 100 == 0:
                    await asyncio.sleep(0)

        started = time.perf_counter()
        await asyncio.gather(*(one(first) for first in range(clients)))
        return done / (time.perf_counter() - started)

    async def put(key: bytes) -> None:
        await store.commit([], [Write(key, VALUE)])

    puts = await rate(put)
    gets = await rate(store.get)
    await store.close()
    return puts, gets


async def lag(federation: RunningFederation, rate: int, seconds: float) -> list[float]:
    """Write at a rate; return how long after its acknowledgement a replica showed a write, for a sample."""
    primary, replica = federation.primary, federation.nodes["gcp-west"]
    writers = await connect(federation, primary, 16)
    readers = await connect(federation, replica, 64)
    samples: list[float] = []
    watching: set[asyncio.Task[None]] = set()
    began = time.perf_counter()
    total = int(rate * seconds)
    every = max(1, rate // 40)

    async def watch(key: str, acknowledged: float) -> None:
        reader = readers.pop()
        while await reader.ask(get_request(key)) != 200:  # noqa: ASYNC110 - nothing tells a client earlier
            await asyncio.sleep(0.004)
        samples.append(time.perf_counter() - acknowledged)
        readers.append(reader)

    async def write(writer: Connection, first: int) -> None:
        for number in range(first, total, len(writers)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            key = f"lag-{number:07}"
            if await writer.ask(put_request(key)) != 200:
                raise RuntimeError("a write was refused")
            if number % every == 0 and readers:
                task = asyncio.create_task(watch(key, time.perf_counter()))
                watching.add(task)
                task.add_done_callback(watching.discard)

    await asyncio.gather(*(write(writer, first) for first, writer in enumerate(writers)))
    async with asyncio.timeout(10):
        await asyncio.gather(*watching)
    for connection in (*writers, *readers):
        connection.close()
    return sorted(samples)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=int, default=1000, help="writes per second while the lag is measured")
    parser.add_argument("--tls", choices=("mutual", "server", "off"), default="mutual")
    options = parser.parse_args()
    figures: dict[str, object] = {"cpus": os.cpu_count(), "connections": options.connections}
    figures["tls"] = options.tls
    with tempfile.TemporaryDirectory(prefix="grey-bench-") as name:
        folder = Path(name)
        puts, gets = await store_rates(folder, options.connections, options.seconds)
        figures |= {"store_put_per_second": round(puts), "store_get_per_second": round(gets)}
        async with running_federation(folder, api_tls=options.tls, detection_time="10s") as federation:
            connections = await connect(federation, federation.primary, options.connections)
            keys = [f"key-{number:06}" for number in range(KEYS)]
            rate = await http_rate(connections, [put_request(key) for key in keys], options.seconds)
            figures["api_put"] = rate.plain()
            written = keys[: min(KEYS, int(rate.per_second * options.seconds * 0.9))]
            rate = await http_rate(connections, [get_request(key) for key in written], options.seconds)
            figures["api_get"] = rate.plain()
            for connection in connections:
                connection.close()
            await federation.ready()
            samples = await lag(federation, options.rate, options.seconds)
            figures |= {
                "lag_writes_per_second": options.rate,
                "lag_samples": len(samples),
                "lag_p50_ms": round(1000 * samples[len(samples) // 2], 1),
                "lag_p99_ms": round(1000 * samples[int(len(samples) * 0.99)], 1),
            }
    print(json.dumps(figures, indent=2))  # noqa: T201 - this is what it is run for


if __name__ == "__main__":
    uvloop.run(main())
