# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node's interfaces on loopback, over a real store and with a role that the test decides."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec
from support.model_federation import federation
from yarl import URL

from grey.config.model import ApiLimits
from grey.data.feed import Feed
from grey.data.fence import DeadlinePassed, NotPrimary, WriteRefused
from grey.data.history import History
from grey.data.reader import Reader
from grey.data.writer import Writer
from grey.federation.interface import RoleRecord
from grey.record import HybridClock, Position
from grey.serve.door import Door
from grey.serve.health import HealthPages
from grey.serve.kv import KeyValueApi
from grey.serve.metrics import NodeMetrics
from grey.serve.server import Site, Sites
from grey.serve.translate import Translator
from grey.serve.view import NodeView
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from grey.serve.protocol import Server


class FakeRole:
    """A RoleView: primary of epoch 1 until told otherwise."""

    def __init__(self) -> None:
        self.record: RoleRecord | None = RoleRecord("aws-east", 1, 1, "aws-east-1")
        self.refusal: WriteRefused | None = None
        self.epochs: list[int | WriteRefused] = []
        """What the next calls of epoch() come to; then ``refusal`` or 1."""

    def epoch(self) -> int:
        answer: int | WriteRefused = self.epochs.pop(0) if self.epochs else (self.refusal or 1)
        if isinstance(answer, WriteRefused):
            raise answer
        return answer

    def holder(self) -> RoleRecord | None:
        return self.record

    def is_primary(self) -> bool:
        return self.refusal is None

    def become_replica(self, primary: str | None = "gcp-west") -> None:
        self.record = None if primary is None else RoleRecord(primary, 1, 7, f"{primary}-1")
        self.refusal = NotPrimary(primary)

    def miss_deadline(self) -> None:
        self.refusal = DeadlinePassed()


class FakeReplication:
    """A ReplicationView."""

    def __init__(self) -> None:
        self.lag: float | None = 0.25
        self.whole = True

    def lag_seconds(self) -> float | None:
        return self.lag

    def lag_records(self) -> int | None:
        return None if self.lag is None else 3

    def consistent(self) -> bool:
        return self.whole

    def position(self) -> Position:
        return Position(1, 42)


class Answer(NamedTuple):
    """What the node answered."""

    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.json["error"])


class Serving:
    """The key-value API of aws-east."""

    def __init__(self, store: SqliteStore, limits: ApiLimits) -> None:
        self.store = store
        self.limits = limits
        self.sites = Sites(grace_seconds=1.0)
        self.role = FakeRole()
        self.replication = FakeReplication()
        self.writer = Writer(store, self.role, cluster="aws-east", clock=HybridClock())
        self.view = NodeView(
            msgspec.structs.replace(federation(), api_limits=limits),
            cluster="aws-east",
            node="aws-east-1",
            role=self.role,
            replication=self.replication,
        )
        self.view.state = "serving"
        self.metrics = NodeMetrics("aws-east")
        self.feed = Feed(store, History(store))
        self.api = KeyValueApi(self.view, Reader(store), self.writer, self.feed, HealthPages(self.view))
        self.door = Door(
            self.api.route,
            translate=Translator(self.view),
            watch=self.metrics,
            limits=limits,
            gzip=True,
        )
        self.port = 0
        self.http: aiohttp.ClientSession

    @property
    def server(self) -> Server:
        """The connections."""
        return self.sites._listening[0].server

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request; ``path`` goes out as it is."""
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.http.request(method, url, **options) as response:
            return Answer(response.status, await response.read(), response.headers)

    @asynccontextmanager
    async def connection(
        self, limit: int = 64 * 1024
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection for bytes that no HTTP client would send."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)


@asynccontextmanager
async def serving(folder: Path, limits: ApiLimits | None = None) -> AsyncIterator[Serving]:
    """Serve the key-value API on a free port."""
    store = await SqliteStore.create(folder / "data.sqlite")
    await History(store).claim(1)
    served = Serving(store, limits or ApiLimits())
    served.port = await served.sites.start(
        Site("listen.api", "127.0.0.1", 0, served.door, None, connections=served.limits.connections)
    )
    writing = asyncio.create_task(served.writer.run())
    served.http = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=20)
    )
    try:
        yield served
    finally:
        await served.http.close()
        served.api.end_watches()
        await served.sites.stop()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await store.close()
