# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters that speak docs/reference/api.md over real sockets, in a thread, and misbehave on request."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from aiohttp import web
from anyio.from_thread import start_blocking_portal

from grey.client import ClusterEndpoint
from grey.client.keys import from_text, to_text
from grey.link.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anyio.from_thread import BlockingPortal

    from grey.config.model import TlsFiles

Act = Callable[[web.BaseRequest], Awaitable[web.Response | None]]
"""What a cluster does instead of its work; None: go on with it."""


class Seen(NamedTuple):
    """A request that arrived."""

    cluster: str
    method: str
    path: str
    request_id: str | None
    body: bytes


class Stored(NamedTuple):
    value: bytes
    position: str
    stamp: str


def error(status: int, code: str, /, headers: dict[str, str] | None = None, **detail: Any) -> web.Response:
    body = {"error": {"code": code, "message": f"because {code}", "hint": f"do {code}", **detail}}
    return web.json_response(body, status=status, headers=headers)


def answer(status: int, code: str, /, headers: dict[str, str] | None = None, **detail: Any) -> Act:
    """Answer with an error of the API."""

    async def act(request: web.BaseRequest) -> web.Response | None:
        return error(status, code, headers, **detail)

    return act


def raw(status: int, body: bytes, headers: dict[str, str] | None = None) -> Act:
    """Answer with anything."""

    async def act(request: web.BaseRequest) -> web.Response | None:
        return web.Response(status=status, body=body, headers=headers)

    return act


def delay(seconds: float) -> Act:
    """Answer late."""

    async def act(request: web.BaseRequest) -> web.Response | None:
        await asyncio.sleep(seconds)
        return None

    return act


async def drop(request: web.BaseRequest) -> web.Response | None:
    """Break the connection and do nothing."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class FakeCluster:
    """One cluster. ``script`` is what it does with the next requests, one act each."""

    def __init__(self, federation: FakeFederation, name: str) -> None:
        self._federation = federation
        self.name = name
        self.host = "127.0.0.1"
        self.port = 0
        self.control_port = 0
        self.script: deque[Act] = deque()
        self.control_script: deque[Act] = deque()
        self.hides = False
        """A replica that shows no record."""
        self.drops_answers = 0
        """How many writes to carry out without an answer."""

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    async def kv(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        path, _, query = request.raw_path.partition("?")
        request_id = request.headers.get("Grey-Request-Id")
        with self._federation.arrived:
            self._federation.log.append(Seen(self.name, request.method, request.raw_path, request_id, body))
            self._federation.arrived.notify_all()
        act = self.script.popleft() if self.script else None
        response = await act(request) if act else None
        if response is not None:
            return response
        if request.method == "GET":
            return self._read(path, dict(pair.split("=", 1) for pair in query.split("&")))
        if self._federation.primary != self.name:
            return self._not_primary()
        response = self._write(request.method, path, body, request_id)
        if self.drops_answers:
            self.drops_answers -= 1
            return await drop(request) or response
        return response

    async def control(self, request: web.BaseRequest) -> web.StreamResponse:
        act = self.control_script.popleft() if self.control_script else None
        response = await act(request) if act else None
        return response or web.json_response({**self._federation.status, "answered_by": f"{self.name}-1"})

    def _read(self, path: str, query: dict[str, str]) -> web.Response:
        data = {} if self.hides else self._federation.data
        if path == "/v1/kv":
            return self._list(data, query)
        if query.get("consistency") == "strong" and self._federation.primary != self.name:
            return self._not_primary()
        key = unquote_to_bytes(path.removeprefix("/v1/kv/"))
        if key not in data:
            return error(404, "not_found")
        found = data[key]
        headers = {
            "Grey-Position": found.position,
            "Grey-Stamp": found.stamp,
            "Grey-Origin": "aws-east",
            "Grey-Cluster": self.name,
        }
        if self.name != self._federation.primary:
            headers["Grey-Lag-Seconds"] = "0.25"
        return web.Response(body=found.value, headers=headers)

    def _list(self, data: dict[bytes, Stored], query: dict[str, str]) -> web.Response:
        after = base64.b64decode(unquote(query["after"])) if "after" in query else None
        prefix = unquote_to_bytes(query["prefix"])
        found = [key for key in sorted(data) if key.startswith(prefix) and (after is None or key > after)]
        limit = int(query["limit"])
        items = []
        for key in found[:limit]:
            item = {"key": to_text(key), "position": data[key].position, "stamp": data[key].stamp}
            if query["values"] == "true":
                item["value_base64"] = base64.b64encode(data[key].value).decode()
            items.append(item)
        more = base64.b64encode(found[limit - 1]).decode() if len(found) > limit else None
        return web.json_response({"items": items, "next": more})

    def _write(self, method: str, path: str, body: bytes, request_id: str | None) -> web.Response:
        asked = (method, path, body)
        if request_id in self._federation.outcomes:
            before, done = self._federation.outcomes[request_id]
            if before != asked:
                return error(422, "request_id_reused")
            return web.json_response(done, headers={"Grey-Replayed": "true"})
        if path == "/v1/batch":
            results = []
            for operation in json.loads(body)["operations"]:
                value = base64.b64decode(operation["value_base64"]) if operation["op"] == "put" else None
                results.append(self._store(from_text(operation["key"]), value))
            done: dict[str, Any] = {"results": results}
        else:
            key = unquote_to_bytes(path.removeprefix("/v1/kv/"))
            existed = key in self._federation.data
            if method == "DELETE" and not existed:
                done = {"key": to_text(key), "position": None, "stamp": None}
            else:
                done = self._store(key, body if method == "PUT" else None)
            if method == "DELETE":
                done["existed"] = existed
        if request_id is not None:
            self._federation.outcomes[request_id] = (asked, done)
        return web.json_response(done)

    def _store(self, key: bytes, value: bytes | None) -> dict[str, Any]:
        self._federation.sequence += 1
        position, stamp = f"1.{self._federation.sequence}", f"1700000000.{self._federation.sequence}"
        if value is None:
            self._federation.data.pop(key, None)
        else:
            self._federation.data[key] = Stored(value, position, stamp)
        return {"key": to_text(key), "position": position, "stamp": stamp}

    def _not_primary(self) -> web.Response:
        primary = self._federation.primary
        where = None
        if primary is not None:
            where = {"cluster": primary, "endpoint": self._federation.clusters[primary].endpoint}
        return error(421, "not_primary", primary=where)


class FakeFederation:
    """Clusters over one set of data; what one writes the others show at once."""

    def __init__(self, names: Sequence[str]) -> None:
        self.clusters = {name: FakeCluster(self, name) for name in names}
        self.primary: str | None = names[0]
        self.data: dict[bytes, Stored] = {}
        self.outcomes: dict[str, tuple[tuple[str, str, bytes], dict[str, Any]]] = {}
        self.sequence = 0
        self.log: list[Seen] = []
        self.arrived = threading.Condition()
        self.status: dict[str, Any] = {}
        self._portal: BlockingPortal
        self._runners: dict[str, list[web.ServerRunner]] = {}

    def __getitem__(self, name: str) -> FakeCluster:
        return self.clusters[name]

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

    def put(self, key: bytes, value: bytes) -> None:
        """Store a key without a request."""
        self.sequence += 1
        self.data[key] = Stored(value, f"1.{self.sequence}", f"1700000000.{self.sequence}")

    def stop(self, name: str) -> None:
        """Make a cluster refuse connections."""
        self._portal.call(self._stop, name)

    async def _stop(self, name: str) -> None:
        for runner in self._runners.pop(name, []):
            await runner.cleanup()

    async def _start(self, cluster: FakeCluster, held: Sequence[socket.socket], tls: TlsFiles | None) -> None:
        context = None if tls is None else server_context(tls, mutual=True, node_to_node=False)
        for handler, listening in zip((cluster.kv, cluster.control), held, strict=True):
            runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.05)
            await runner.setup()
            self._runners.setdefault(cluster.name, []).append(runner)
            await web.SockSite(runner, listening, ssl_context=context).start()

    @contextmanager
    def run(
        self, tls: dict[str, TlsFiles] | None = None, *, spread: bool = False
    ) -> Iterator[FakeFederation]:
        """Serve. ``spread``: all on the same ports, each on a loopback address of its own."""
        hosts = [f"127.91.0.{number + 1}" if spread else "127.0.0.1" for number in range(len(self.clusters))]
        groups = [hosts] if spread else [[host] for host in hosts]
        apis, controls = ([each for group in groups for each in held_ports(group)] for _ in range(2))
        with start_blocking_portal("asyncio") as self._portal:
            try:
                for cluster, api, control in zip(self.clusters.values(), apis, controls, strict=True):
                    cluster.host, cluster.port = api.getsockname()
                    cluster.control_port = control.getsockname()[1]
                    self._portal.call(self._start, cluster, (api, control), (tls or {}).get(cluster.name))
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
