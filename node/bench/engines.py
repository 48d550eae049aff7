# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API on every engine beside bare clients of the same engine, in turns.

Every side puts and gets the same keys and values in closed loops of the same program over loopback. greyd
commits in groups and answers eventual reads from memory; a bare client sends one put per request and asks
the engine itself (serializable).
"""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from _bare import bare_etcd, bare_sqlite, gateway_gets, gateway_puts, shared_commit
from _cluster import Cluster, Shared, one_cluster
from _load import KEYS, connect_socket, get_request, over, put_request
from _report import Goal, Section, latency_table, times
from _turns import Contender, Outcome, Pace, calm, in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _load import Connection

# greyd starts its etcd without the gateway, which costs nothing unless it is asked.
_WITH_GATEWAY = {"enable-grpc-gateway": "true"}
# One greyd only: on one machine the memory of further nodes would take processors that they have elsewhere.
ENGINES: dict[str, Shared | None] = {
    "SQLite": None,
    "one etcd": Shared(greyds=1, members=1, etcd_options=_WITH_GATEWAY),
    "three etcds": Shared(greyds=1, members=3, etcd_options=_WITH_GATEWAY),
}
CONNECTIONS = (1, 64, 256)
PLAIN_CONNECTIONS = (64,)
REQUESTS = {"put": [put_request(key) for key in KEYS], "get": [get_request(key) for key in KEYS]}

_API = "API, mutual TLS"
_PLAIN = "API, `tls: off`"
_Cells = dict[tuple[str, str, int], list[Outcome]]


async def measure(engine: str, pace: Pace) -> Section:
    """Measure one engine: puts and gets with mutual TLS, then without."""
    busy = await calm(pace.patience_seconds)
    cells: _Cells = {}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grey-bench-")))
        cluster = await stack.enter_async_context(one_cluster(folder, ENGINES[engine]))
        await cluster.fill()
        bare = await _bare(stack, folder, cluster)
        for clients in CONNECTIONS:
            for what in REQUESTS:
                async with AsyncExitStack() as opened:
                    sides = [await _through_api(opened, cluster, _API, what, clients), *bare[what]]
                    if cluster.engine:
                        sides.append(await _through_gateway(opened, cluster, what, clients))
                    cells[_API, what, clients] = await in_turns(sides, clients, pace)
        await cluster.without_tls()
        for clients in PLAIN_CONNECTIONS:
            for what in REQUESTS:
                async with AsyncExitStack() as opened:
                    sides = [await _through_api(opened, cluster, _PLAIN, what, clients), bare[what][0]]
                    cells[_PLAIN, what, clients] = await in_turns(sides, clients, pace)
    tables = [
        latency_table(
            f"{what}, {engine}",
            [(clients, found) for (_, each, clients), found in cells.items() if each == what],
        )
        for what in REQUESTS
    ]
    return Section(engine, tables, busy, _goals(engine, cells))


async def _bare(stack: AsyncExitStack, folder: Path, cluster: Cluster) -> dict[str, list[Contender]]:
    """Return the clients of the engine itself; the first is the one that goals speak of."""
    if not cluster.engine:
        sqlite = await stack.enter_async_context(bare_sqlite(folder))
        shared = await stack.enter_async_context(shared_commit(folder))
        return {
            "put": [
                Contender("SQLite, bare", sqlite.put),
                Contender("the store's shared commit", shared.put),
            ],
            "get": [Contender("SQLite, bare", sqlite.get)],
        }
    # Its keys stand beside greyd's in the same engine; greyd does not look at them.
    etcd = await stack.enter_async_context(bare_etcd(cluster.engine[0].access.endpoint))
    pids = cluster.etcd()
    for number in range(len(KEYS)):
        await etcd.put(0, number)
    return {
        "put": [Contender("etcd, gRPC", etcd.put, engine=pids)],
        "get": [Contender("etcd, gRPC", etcd.get, engine=pids)],
    }


async def _through_api(
    opened: AsyncExitStack, cluster: Cluster, name: str, what: str, clients: int
) -> Contender:
    connections = await cluster.connect(clients)
    opened.callback(_close, connections)
    return Contender(name, over(connections, REQUESTS[what]), cluster.greyd(), cluster.etcd())


async def _through_gateway(opened: AsyncExitStack, cluster: Cluster, what: str, clients: int) -> Contender:
    member = cluster.engine[0]
    connections = await connect_socket(f"{member.access.endpoint.removeprefix('unix:')}", clients)
    opened.callback(_close, connections)
    requests = gateway_puts() if what == "put" else gateway_gets()
    return Contender("etcd, its HTTP gateway", over(connections, requests), engine=cluster.etcd())


def _close(connections: Sequence[Connection]) -> None:
    for connection in connections:
        connection.close()


def _goals(engine: str, cells: _Cells) -> list[Goal]:
    """Compare the API with the bare client at 64 connections, with TLS and without.

    A read of SQLite is a call within the process: there is no goal for it.
    """
    wanted = {"put": 1.0} if ENGINES[engine] is None else {"put": 1.0, "get": 3.0}
    return [
        Goal(f"{what}/s on {engine}, {name}, beside the bare client", least, times(api, bare))
        for what, least in wanted.items()
        for name in (_API, _PLAIN)
        for api, bare, *_ in (cells[name, what, 64],)
    ]
