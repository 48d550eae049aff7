# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane of aws-east on loopback, over real mutual TLS; what stands behind it a test decides."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
from support.model_federation import federation
from support.pki import Authority
from support.serving import Answer, FakeReplication, FakeRole

from grey.federation.deputy import ClusterState
from grey.federation.interface import FederationStoreError, Versioned
from grey.federation.status import StatusDocument, Voters
from grey.link.session import PeerSession
from grey.link.tls import client_context, server_context
from grey.record import Position
from grey.replicate import wire
from grey.replicate.channel import ChannelClosed
from grey.serve.control import ControlApi
from grey.serve.door import Door
from grey.serve.metrics import NodeMetrics
from grey.serve.server import Site, Sites
from grey.serve.translate import Translator
from grey.serve.view import NodeView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from grey.config.model import TlsFiles
    from grey.replicate.channel import Channel
    from grey.replicate.source import Source

IDENTITY = "aws-east.grey.internal"
REPORT = {
    "cluster": "gcp-west",
    "node": "gcp-west-1",
    "counter": 7,
    "epoch": 1,
    "position": [1, 42],
    "lag_seconds": 0.1,
    "lag_records": 0,
    "throughput": 12.5,
    "state": "serving",
    "wall_seconds": 1.0,
}


STATE = ClusterState("aws-east-1", True, 3, 9.5, None, None, True, "3.8")


class FakeStore:
    """A federation store that holds what the test puts there."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.down = False

    async def get(self, key: str) -> Versioned | None:
        if self.down:
            raise FederationStoreError("no majority")
        value = self.records.get(key)
        return None if value is None else Versioned(value, 1)

    async def list(self, prefix: str) -> dict[str, Versioned]:
        return {key: Versioned(value, 1) for key, value in self.records.items() if key.startswith(prefix)}

    async def swap(self, key: str, value: bytes, *, expected: int | None) -> bool:
        raise NotImplementedError

    async def put(self, key: str, value: bytes) -> None:
        self.records[key] = value

    async def close(self) -> None: ...


class EchoSource:
    """Stands for the replication source: returns what it gets, with the peer's name before it."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def serve(self, channel: Channel, peer_cluster: str) -> None:
        with suppress(ChannelClosed):
            while True:
                await channel.send(peer_cluster.encode() + b":" + await channel.receive())
        self.ended.set()

    async def snapshot_page(self, after: bytes | None) -> wire.SnapshotPage:
        if after == b"bad":
            raise wire.ProtocolError("wanted the token of a page of a full copy, found b'bad'")
        if after == b"refuse":
            raise wire.SourceRefused(wire.Refused("not_primary", "the primary is elsewhere"))
        items = [(after or b"first", b"value")]
        return wire.SnapshotPage("aws-east", 1, Position(1, 1), Position(1, 2), items, None)


class Control:
    def __init__(
        self, folder: Path, *, allowed: tuple[str, ...] = (), source: EchoSource | Source | None = None
    ) -> None:
        model = federation()
        if allowed:
            security = msgspec.structs.replace(model.security, allowed_clusters=allowed)
            model = msgspec.structs.replace(model, security=security)
        self.authority = Authority()
        self.folder = folder
        self.store = FakeStore()
        self.source = source or EchoSource()
        view = NodeView(
            model,
            cluster="aws-east",
            node="aws-east-1",
            role=FakeRole(),
            replication=FakeReplication(),
        )
        self.api = ControlApi(
            view,
            self.source,  # type: ignore[arg-type]
            store=self.store,
            status=self._status,
            state=lambda: STATE,
        )
        self.door = Door(self.api.route, translate=Translator(view), watch=NodeMetrics("aws-east"))
        self.port = 0

    async def _status(self) -> StatusDocument:
        return StatusDocument("global-grey", 1, "aws-east", "aws-east-1", Voters(3, 3), [])

    def certificate(self, name: str, *dns: str) -> TlsFiles:
        return self.authority.issue(self.folder / name, name, dns=dns)

    def cluster(self, name: str) -> TlsFiles:
        return self.certificate(name, f"{name}.grey.internal", f"{name}.example.com")

    @asynccontextmanager
    async def session(self, files: TlsFiles) -> AsyncIterator[PeerSession]:
        session = PeerSession(client_context(files), {"aws-east.example.com": ["127.0.0.1"]})
        try:
            yield session
        finally:
            await session.close()

    async def ask(self, files: TlsFiles, method: str, path: str, **options: Any) -> Answer:
        async with (
            self.session(files) as session,
            session.request(method, IDENTITY, "aws-east.example.com", self.port, path, **options) as response,
        ):
            return Answer(response.status, await response.read(), response.headers)


@asynccontextmanager
async def serving_control(control: Control) -> AsyncIterator[Control]:
    context = server_context(control.cluster("aws-east"), mutual=True, node_to_node=True)
    sites = Sites(grace_seconds=1.0)
    control.port = await sites.start(Site("listen.control", "127.0.0.1", 0, control.door, context))
    try:
        yield control
    finally:
        await control.api.close_streams()
        await sites.stop()
