# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters that speak docs/reference/api.md over real sockets, in a thread, and misbehave on request."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web
from anyio.from_thread import start_blocking_portal
from support.fake_acts import Act, answer, delay, drop, error, event, freeze, raw
from support.fake_cluster import FakeCluster, Seen
from support.fake_data import FakeData, Stored

from grey.client import ClusterEndpoint
from grey.link.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anyio.from_thread import BlockingPortal

    from grey.config.model import TlsFiles

__all__ = [
    "Act",
    "FakeCluster",
    "FakeFederation",
    "Seen",
    "Stored",
    "answer",
    "delay",
    "drop",
    "error",
    "event",
    "freeze",
    "held_ports",
    "raw",
]


class FakeFederation:
    """Clusters over one set of data; what one writes the others show at once."""

    def __init__(self, names: Sequence[str]) -> None:
        self.clusters = {name: FakeCluster(self, name) for name in names}
        self.primary: str | None = names[0]
        self.records = FakeData()
        self.log: list[Seen] = []
        self.arrived = threading.Condition()
        self.status: dict[str, Any] = {}
        self.changed: asyncio.Event
        self._portal: BlockingPortal
        self._runners: dict[str, list[web.ServerRunner]] = {}

    def __getitem__(self, name: str) -> FakeCluster:
        return self.clusters[name]

    @property
    def data(self) -> dict[bytes, Stored]:
        return self.records.data

    @property
    def sequence(self) -> int:
        return self.records.sequence

    @property
    def endpoints(self) -> list[ClusterEndpoint]:
        """What a client is given; the weights fall in the order of the names."""
        return [
            ClusterEndpoint(cluster.name, cluster.endpoint, 100 - number)
            for number, cluster in enumerate(self.clusters.values())
        ]

    @property
    def asked(self) -> list[str]:
        """The clusters that were asked, in order."""
        return [seen.cluster for seen in self.log]

    def seen(self, cluster: str, timeout_seconds: float) -> bool:
        """Wait until a cluster was asked for anything."""
        with self.arrived:
            return self.arrived.wait_for(lambda: cluster in self.asked, timeout_seconds)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Store (or with None delete) a key without a request."""
        self._portal.call(self._put, key, value)

    async def _put(self, key: bytes, value: bytes | None) -> None:
        self.records.store(key, value)
        self.tell()

    def tell(self) -> None:
        """Let the watches look for news."""
        before, self.changed = self.changed, asyncio.Event()
        before.set()

    def shows(self, name: str, sequence: int | None) -> None:
        """Let a replica get this far, and tell its watches."""
        self[name].shows = sequence
        self._portal.call(self._tell)

    async def _tell(self) -> None:
        self.tell()

    def break_watches(self, name: str, last_words: bytes = b"") -> None:
        """Send the watches of a cluster a last piece, if any, and break their connections."""
        self._portal.call(self._break_watches, name, last_words)

    async def _break_watches(self, name: str, last_words: bytes) -> None:
        for task, (request, response) in list(self[name].watches.items()):
            assert request.transport is not None
            if last_words:
                await response.write(last_words)
                request.transport.close()
            else:
                request.transport.abort()
            task.cancel()

    def watched(self, name: str, timeout_seconds: float = 10) -> bool:
        """Wait until a cluster has an open watch."""
        with self.arrived:
            return self.arrived.wait_for(lambda: bool(self[name].watches), timeout_seconds)

    def stop(self, name: str) -> None:
        """Make a cluster refuse connections."""
        self._portal.call(self._stop, name)

    async def _stop(self, name: str) -> None:
        for runner in self._runners.pop(name, []):
            await runner.cleanup()

    async def _start(self, cluster: FakeCluster, held: Sequence[socket.socket], tls: TlsFiles | None) -> None:
        context = None if tls is None else server_context(tls, mutual=True, node_to_node=False)
        *apis, control = held
        for handler, listening in (*((cluster.kv, api) for api in apis), (cluster.control, control)):
            runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.05)
            await runner.setup()
            self._runners.setdefault(cluster.name, []).append(runner)
            await web.SockSite(runner, listening, ssl_context=context).start()

    @contextmanager
    def run(
        self,
        tls: dict[str, TlsFiles] | None = None,
        *,
        spread: bool = False,
        nodes: Sequence[str] = (),
    ) -> Iterator[FakeFederation]:
        """Serve. ``spread``: all on the same ports, each on a loopback address of its own.

        ``nodes``: more addresses at which the first cluster answers, on the same port.
        """
        count = len(self.clusters)
        hosts = [f"127.91.0.{number + 1}" if spread else "127.0.0.1" for number in range(count)]
        groups = [hosts] if spread else [[host] for host in hosts]
        groups[0] = [*groups[0], *nodes]
        apis = [each for group in groups for each in held_ports(group)]
        # Those of the first cluster's other nodes stand behind all others, or behind its own.
        first = count if spread else 1
        more = [apis.pop(first) for _ in nodes]
        controls = held_ports(hosts) if spread else [held_ports([host])[0] for host in hosts]
        with start_blocking_portal("asyncio") as self._portal:
            self.changed = asyncio.Event()
            try:
                for number, cluster in enumerate(self.clusters.values()):
                    cluster.host, cluster.port = apis[number].getsockname()
                    cluster.control_port = controls[number].getsockname()[1]
                    held = [apis[number], *(more if number == 0 else []), controls[number]]
                    self._portal.call(self._start, cluster, held, (tls or {}).get(cluster.name))
                yield self
            finally:
                for name in list(self._runners):
                    self._portal.call(self._stop, name)


def held_ports(hosts: Sequence[str]) -> list[socket.socket]:
    """Return sockets that listen on one port of all the addresses."""
    while True:
        held = [socket.create_server((hosts[0], 0))]
        try:
            for host in hosts[1:]:
                held.append(socket.create_server((host, held[0].getsockname()[1])))
        except OSError:
            for each in held:
                each.close()
        else:
            return held
