# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API on every engine beside a bare asynchronous client of the same engine, in turns, in one run.

``put``: the bare client sends one put per request, greyd commits in groups. ``get``: the bare client asks the
engine (serializable), greyd answers an eventual read from memory. ``nodes``: the connections spread over one,
two and three greyds on one engine. Everything on loopback; run it with: python bench/engine_bench.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import _load
import psutil
import uvloop
from _bare import BareEtcd, BareSqlite, bare_etcd, bare_sqlite
from _load import Connection, Figures, closed_loop, get_request, http_rate, put_request

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.federation import GreyNode, RunningFederation, Shared, running_federation

from grey.link.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CLUSTER = "aws-east"
KEYS = [f"key-{number:05}" for number in range(10_000)]
ENGINES: dict[str, Shared | None] = {
    "sqlite": None,
    "one etcd": Shared(greyds=1, members=1),
    "three etcds": Shared(greyds=3, members=3),
}


class Pair(NamedTuple):
    """One engine twice: below a greyd, and alone with a bare client."""

    federation: RunningFederation
    bare: BareEtcd | BareSqlite


@asynccontextmanager
async def pair(folder: Path, engine: str, tls: str) -> AsyncIterator[Pair]:
    """Start a cluster on the engine, and the bare client."""
    shared = ENGINES[engine]
    async with AsyncExitStack() as stack:
        federation = await stack.enter_async_context(
            running_federation(
                folder,
                clusters=(CLUSTER,),
                shared={} if shared is None else {CLUSTER: shared},
                api_tls=tls,
                detection_time="10s",
            )
        )
        if shared is None:
            yield Pair(federation, await stack.enter_async_context(bare_sqlite(folder)))
            return
        # The bare client's keys stand beside greyd's in the same engine; greyd does not look at them.
        member = federation.engines[CLUSTER].members[0]
        yield Pair(federation, await stack.enter_async_context(bare_etcd(member.access.endpoint)))


async def connect(federation: RunningFederation, nodes: list[GreyNode], count: int) -> list[Connection]:
    """Open connections, spread over the nodes."""
    context = client_context(federation.operator) if federation.scheme == "https" else None
    found = [
        await _load.connect(
            node.address, federation.api, count // len(nodes), context=context, host=node.host
        )
        for node in nodes
    ]
    return [connection for each in found for connection in each]


async def through_api(
    federation: RunningFederation,
    nodes: list[GreyNode],
    requests: list[bytes],
    clients: int,
    seconds: float,
) -> Figures:
    """Open connections, send requests, close."""
    connections = await connect(federation, nodes, clients)
    try:
        return await http_rate(connections, requests, seconds)
    finally:
        for connection in connections:
            connection.close()


async def in_turns(
    rounds: int, **measure: Callable[[], Awaitable[Figures]]
) -> dict[str, dict[str, float | list[float]]]:
    """Measure each in turn, so that what else the machine does falls on all of them alike."""
    found: dict[str, list[Figures]] = {name: [] for name in measure}
    for _ in range(rounds):
        for name, call in measure.items():
            found[name].append(await call())
    return {name: _middle(figures) for name, figures in found.items()}


def _middle(figures: list[Figures]) -> dict[str, float | list[float]]:
    """Return the round whose rate is the median, and the range of all."""
    rates = sorted(each.per_second for each in figures)
    middle = next(each for each in figures if each.per_second == statistics.median_low(rates))
    return {**middle.plain(), "range": [round(rates[0]), round(rates[-1])]}


async def fill(federation: RunningFederation, keys: list[str]) -> None:
    """Write every key once."""
    connections = await connect(federation, federation.clusters[CLUSTER][:1], 64)
    left = iter(keys)

    async def one(connection: Connection) -> None:
        for key in left:
            await connection.want(put_request(key))

    await asyncio.gather(*map(one, connections))
    for connection in connections:
        connection.close()


async def engine(folder: Path, name: str, options: argparse.Namespace) -> dict[str, object]:
    """Measure one engine."""
    result: dict[str, object] = {}
    puts, gets = [put_request(key) for key in KEYS], [get_request(key) for key in KEYS]
    async with pair(folder, name, options.tls) as (federation, bare):
        nodes = federation.clusters[CLUSTER]
        await fill(federation, KEYS)
        for key in KEYS[:1000]:
            await bare.put(key)
        for clients in options.clients:
            result[f"put, {clients} connections"] = await in_turns(
                options.rounds,
                api=lambda clients=clients: through_api(
                    federation, nodes[:1], puts, clients, options.seconds
                ),
                bare=lambda clients=clients: closed_loop(
                    lambda _, number: bare.put(KEYS[number % 1000]), clients, options.seconds
                ),
            )
            result[f"get, {clients} connections"] = await in_turns(
                options.rounds,
                api=lambda clients=clients: through_api(
                    federation, nodes[:1], gets, clients, options.seconds
                ),
                bare=lambda clients=clients: closed_loop(
                    lambda _, number: bare.get(KEYS[number % 1000]), clients, options.seconds
                ),
            )
        for what, requests in (("put", puts), ("get", gets)) if len(nodes) > 1 else ():
            result[f"{what}, 66 connections, by nodes"] = await in_turns(
                options.rounds,
                **{
                    str(count): lambda requests=requests, count=count: through_api(
                        federation, nodes[:count], requests, 66, options.seconds
                    )
                    for count in range(1, len(nodes) + 1)
                },
            )
        if name == "sqlite":
            result["memory"] = await memory(federation)
    return result


async def memory(federation: RunningFederation) -> dict[str, float]:
    """Return what a restarted greyd holds before and after 90,000 keys more, in MiB."""
    node = federation.primary

    async def resident() -> float:
        node.stop()
        node.start()
        await federation.ready()
        assert node.process is not None
        return psutil.Process(node.process.pid).memory_info().rss / 1048576

    before = await resident()
    await fill(federation, [f"more-{number:06}" for number in range(90_000)])
    after = await resident()
    return {"MiB with 10,000 keys": round(before, 1), "MiB with 100,000 keys": round(after, 1)}


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--tls", choices=("mutual", "server", "off"), default="mutual")
    options = parser.parse_args()
    figures: dict[str, object] = {"cpus": os.cpu_count(), "tls": options.tls}
    for name in options.engines:
        with tempfile.TemporaryDirectory(prefix="grey-bench-") as folder:
            figures[name] = await engine(Path(folder), name, options)
    print(json.dumps(figures, indent=2))  # noqa: T201 - this is what it is run for


if __name__ == "__main__":
    uvloop.run(main())
