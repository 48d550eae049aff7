# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of real greyds on an engine, and the connections to it, for the benchmarks."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import _load
import psutil
from _load import KEYS, Connection, batch_request

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.federation import GreyNode, RunningFederation, Shared, running_federation

from grey.link.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from support.engine_cluster import EngineProcess

__all__ = ["CLUSTER", "Cluster", "GreyNode", "RunningFederation", "Shared", "connect", "one_cluster"]

CLUSTER = "aws-east"
_BATCH = 100
_CALM_SECONDS = 3
_IDLE_SHARE = 0.15


class Cluster:
    """One cluster, which is the primary; ``engine`` is the members of its etcd, none on SQLite."""

    def __init__(self, federation: RunningFederation) -> None:
        self.federation = federation
        self.nodes = federation.clusters[CLUSTER]
        self.engine: Sequence[EngineProcess] = ()
        if CLUSTER in federation.engines:
            self.engine = federation.engines[CLUSTER].members

    def greyd(self, count: int = 1) -> list[int]:
        """Return the processes of the first nodes."""
        return [_pid(node) for node in self.nodes[:count]]

    def etcd(self) -> list[int]:
        """Return the processes of the engine."""
        return [member.pid for member in self.engine]

    async def connect(self, count: int, nodes: int = 1) -> list[Connection]:
        """Open connections, spread over the first nodes."""
        found = [await connect(self.federation, node, count // nodes) for node in self.nodes[:nodes]]
        return [connection for each in found for connection in each]

    async def fill(self, keys: Sequence[str] = KEYS) -> None:
        """Write every key once, in batches."""
        connections = await self.connect(8)
        left = iter(range(0, len(keys), _BATCH))

        async def one(connection: Connection) -> None:
            for begin in left:
                await connection.want(batch_request(keys[begin : begin + _BATCH]))

        await asyncio.gather(*map(one, connections))
        for connection in connections:
            connection.close()

    async def restart(self) -> None:
        """Stop all nodes and start them again."""
        for node in self.nodes:
            await asyncio.to_thread(node.stop)
            node.start()
        await self.federation.ready()

    async def without_tls(self) -> None:
        """Let the API speak plain HTTP from now on."""
        document = json.loads(self.federation.file.read_text())
        document["security"]["api"]["tls"] = "off"
        self.federation.file.write_text(json.dumps(document))
        self.federation.scheme = "http"
        await self.restart()

    async def at_rest(self) -> float:
        """Return the memory that the first node holds once it has loaded its keys, in MiB.

        Nothing tells that from outside but that it and its engine have nothing to do any more.
        """
        processes = [psutil.Process(pid) for pid in (*self.greyd(), *self.etcd())]
        calm, used = 0, _used(processes)
        async with asyncio.timeout(90):
            while calm < _CALM_SECONDS:
                await asyncio.sleep(1.0)
                before, used = used, _used(processes)
                calm = calm + 1 if used - before < _IDLE_SHARE else 0
        return float(processes[0].memory_info().rss) / 1048576


def _used(processes: Sequence[psutil.Process]) -> float:
    """Return the seconds of processor that they have used."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def _pid(node: GreyNode) -> int:
    assert node.process is not None
    return node.process.pid


@asynccontextmanager
async def one_cluster(folder: Path, shared: Shared | None) -> AsyncIterator[Cluster]:
    """Start a cluster on SQLite (``shared`` is None) or an etcd."""
    async with running_federation(
        folder,
        clusters=(CLUSTER,),
        shared={} if shared is None else {CLUSTER: shared},
        detection_time="10s",
    ) as federation:
        yield Cluster(federation)


async def connect(federation: RunningFederation, node: GreyNode, count: int) -> list[Connection]:
    """Open connections to the API of a node."""
    context = client_context(federation.operator) if federation.scheme == "https" else None
    return await _load.connect(node.address, federation.api, count, context=context, host=node.host)
