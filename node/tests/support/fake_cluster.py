# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster that speaks docs/reference/api.md over real sockets, and misbehaves on request."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from aiohttp import web
from support.fake_acts import Act, drop, error, event
from support.fake_data import Change, Condition, Refused, Stored

from grey.client.keys import from_text, to_text
from grey.config.units import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.fake_api import FakeFederation


class Seen(NamedTuple):
    """A request that arrived; ``node`` is the address that it came to."""

    cluster: str
    method: str
    path: str
    request_id: str | None
    body: bytes
    headers: Mapping[str, str]
    node: str


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
        self.node_acts: dict[str, Act] = {}
        """What one node (by its address) does with every request."""
        self.hides = False
        """A replica that shows no record."""
        self.shows: int | None = None
        """A replica that got no further than this sequence."""
        self.drops_answers = 0
        """How many writes to carry out without an answer."""
        self.connections: set[object] = set()
        """Where the connections came from that brought requests to this cluster."""
        self.watches: dict[asyncio.Task[Any], tuple[web.BaseRequest, web.StreamResponse]] = {}
        self.silent = False
        """Watches that were opened tell nothing any more."""

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def newest(self) -> int:
        """How far this cluster has come."""
        records = self._federation.records
        return records.sequence if self.shows is None else min(self.shows, records.sequence)

    async def kv(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        node = str(request.transport.get_extra_info("sockname")[0])
        body = await request.read()
        path, _, query = request.raw_path.partition("?")
        request_id = request.headers.get("Grey-Request-Id")
        with self._federation.arrived:
            self._federation.log.append(
                Seen(self.name, request.method, request.raw_path, request_id, body, request.headers, node)
            )
            self._federation.arrived.notify_all()
        act = self.node_acts.get(node) or (self.script.popleft() if self.script else None)
        response = await act(request) if act else None
        if response is not None:
            return response
        try:
            return await self._work(request, path, query, body, request_id)
        except Refused as refused:
            return error(refused.status, refused.code, **refused.detail)

    async def _work(
        self, request: web.BaseRequest, path: str, query: str, body: bytes, request_id: str | None
    ) -> web.StreamResponse:
        parameters = dict(pair.split("=", 1) for pair in query.split("&")) if query else {}
        if path == "/v1/watch":
            return await self._watch(request, parameters)
        if request.method == "GET":
            response = self._read(path, parameters)
            if "gzip" in request.headers.get("Accept-Encoding", "") and len(response.body or b"") > 1024:
                response.enable_compression(web.ContentCoding.gzip)
            return response
        if self._federation.primary != self.name:
            return self._not_primary()
        response = self._write(request, path, parameters, body, request_id)
        if self.drops_answers:
            self.drops_answers -= 1
            return await drop(request) or response
        return response

    async def control(self, request: web.BaseRequest) -> web.StreamResponse:
        act = self.control_script.popleft() if self.control_script else None
        response = await act(request) if act else None
        return response or web.json_response({**self._federation.status, "answered_by": f"{self.name}-1"})

    def _read(self, path: str, query: dict[str, str]) -> web.Response:
        if path == "/v1/kv":
            return self._list(query)
        if query.get("consistency") == "strong" and self._federation.primary != self.name:
            return self._not_primary()
        records = self._federation.records
        data = {} if self.hides else records.data if self.shows is None else records.at(self.newest)
        key = unquote_to_bytes(path.removeprefix("/v1/kv/"))
        headers = {"Grey-Cluster": self.name}
        if self.name != self._federation.primary:
            headers["Grey-Lag-Seconds"] = "0.25"
        if key not in data:
            return error(404, "not_found", headers)
        found = data[key]
        headers |= {
            "ETag": f'"{found.position}"',
            "Grey-Position": found.position,
            "Grey-Stamp": found.stamp,
            "Grey-Origin": "aws-east",
        }
        if found.expires is not None:
            headers["Grey-Expires"] = found.expires
        return web.Response(body=found.value, headers=headers)

    def _list(self, query: dict[str, str]) -> web.Response:
        found, more, position = self._federation.records.page(
            unquote_to_bytes(query["prefix"]),
            int(query["limit"]),
            unquote(query["after"]) if "after" in query else None,
            self.newest,
        )
        items = []
        for key, stored in ({} if self.hides else found).items():
            item = {"key": to_text(key), "position": stored.position, "stamp": stored.stamp}
            if query["values"] == "true":
                item["value_base64"] = base64.b64encode(stored.value).decode()
            if stored.expires is not None:
                item["expires"] = stored.expires
            items.append(item)
        return web.json_response({"items": items, "next": more, "position": position})

    async def _watch(self, request: web.BaseRequest, query: dict[str, str]) -> web.StreamResponse:
        records, prefix = self._federation.records, unquote_to_bytes(query["prefix"])
        told = records.after(query["after"], self.newest) if "after" in query else self.newest
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        with self._federation.arrived:
            self.watches[task] = (request, response)
            self._federation.arrived.notify_all()
        try:
            if "after" not in query:
                await response.write(event("progress", records.position(told)))
            while True:
                news = self._federation.changed
                for change in () if self.silent else list(records.history):
                    if told < change.sequence <= self.newest:
                        told = change.sequence
                        await response.write(self._told(change, prefix, values=query["values"] == "true"))
                await news.wait()
        finally:
            del self.watches[task]

    def _told(self, change: Change, prefix: bytes, *, values: bool) -> bytes:
        stored = change.stored
        if not change.key.startswith(prefix):
            return event("progress", stored.position)
        data: dict[str, Any] = {"key": to_text(change.key), "position": stored.position}
        data |= {"stamp": stored.stamp, "origin": "aws-east"}
        if values and not change.deleted:
            data["value_base64"] = base64.b64encode(stored.value).decode()
        if stored.expires is not None:
            data["expires"] = stored.expires
        return event("delete" if change.deleted else "put", stored.position, data)

    def _write(
        self,
        request: web.BaseRequest,
        path: str,
        query: dict[str, str],
        body: bytes,
        request_id: str | None,
    ) -> web.Response:
        records, headers = self._federation.records, request.headers
        asked = (request.method, path, query, body, headers.get("If-Match"), headers.get("If-None-Match"))
        if request_id in records.outcomes:
            before, done = records.outcomes[request_id]
            if before != asked:
                raise Refused(422, "request_id_reused")
            return web.json_response(done, headers={"Grey-Replayed": "true"})
        if path == "/v1/batch":
            done = self._batch(json.loads(body)["operations"])
        else:
            key = unquote_to_bytes(path.removeprefix("/v1/kv/"))
            at = headers["If-Match"].strip('"') if "If-Match" in headers else None
            records.check(key, Condition(headers.get("If-None-Match") == "*", at))
            existed = key in records.data
            if request.method == "DELETE" and not existed:
                done = {"key": to_text(key), "position": None, "stamp": None}
            else:
                value = body if request.method == "PUT" else None
                done = self._stored(key, records.store(key, value, _seconds(query.get("ttl"))))
            if request.method == "DELETE":
                done["existed"] = existed
        if request_id is not None:
            records.outcomes[request_id] = (asked, done)
        self._federation.tell()
        return web.json_response(done)

    def _batch(self, operations: list[dict[str, Any]]) -> dict[str, Any]:
        records = self._federation.records
        for each in operations:
            records.check(
                from_text(each["key"]), Condition(each.get("if_absent", False), each.get("if_position"))
            )
        results = []
        for each in operations:
            value = base64.b64decode(each["value_base64"]) if each["op"] == "put" else None
            key = from_text(each["key"])
            results.append(self._stored(key, records.store(key, value, _seconds(each.get("ttl")))))
        return {"results": results}

    @staticmethod
    def _stored(key: bytes, stored: Stored) -> dict[str, Any]:
        return {"key": to_text(key), "position": stored.position, "stamp": stored.stamp}

    def _not_primary(self) -> web.Response:
        primary = self._federation.primary
        where = None
        if primary is not None:
            where = {"cluster": primary, "endpoint": self._federation.clusters[primary].endpoint}
        return error(421, "not_primary", primary=where)


def _seconds(ttl: str | None) -> float | None:
    return None if ttl is None else duration(ttl)
