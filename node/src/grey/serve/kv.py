# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key-value API (docs/reference/api.md): which request is carried out by what, and how it is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from grey.data.errors import OutcomeUnknown
from grey.data.fence import DeadlinePassed, WriteRefused
from grey.serve import documents, errors, http, openapi, parameters
from grey.serve.answer import Answer
from grey.serve.documents import MAX_BATCH_BODY_BYTES, MAX_VALUE_BYTES
from grey.serve.limits import Budget
from grey.serve.watch import Wanted, Watches
from grey.store.interface import Compacted

if TYPE_CHECKING:
    from grey.data.feed import Feed
    from grey.data.reader import Reader
    from grey.data.writer import Writer, Written
    from grey.record.envelope import Envelope
    from grey.serve.health import HealthPages
    from grey.serve.view import NodeView

_Answer = Callable[[web.BaseRequest, str, str], Awaitable[web.StreamResponse]]


class KeyValueApi:
    """Routes and answers of port 8080."""

    def __init__(
        self, view: NodeView, reader: Reader, writer: Writer, feed: Feed, health: HealthPages
    ) -> None:
        self._view = view
        self._reader = reader
        self._writer = writer
        self._health = health
        self._budget = Budget()
        self.watches = Watches(feed, most=view.federation.api_limits.watches)
        self._on_keys: dict[str, tuple[str, _Answer]] = {
            "GET": ("get", self._get),
            "PUT": ("put", self._put),
            "DELETE": ("delete", self._delete),
        }
        self._others: dict[str, tuple[str, str, _Answer]] = {
            "/v1/kv": ("GET", "list", self._list),
            "/v1/batch": ("POST", "batch", self._batch),
            "/v1/watch": ("GET", "watch", self._watch),
            openapi.PATH: ("GET", "openapi", self._openapi),
        }

    def route(self, request: web.BaseRequest) -> tuple[str, Awaitable[web.StreamResponse]]:
        """Name the operation of a request and start it (``grey.serve.door.Route``)."""
        path, query = http.split_target(request)
        method = request.method
        if path.startswith("/v1/kv/"):
            found = self._on_keys.get(method)
            if found is None:
                raise errors.method_not_allowed(method, "/v1/kv/{key}", ", ".join(self._on_keys))
            operation, answer = found
            return operation, answer(request, path, query)
        if self._health.handles(path):
            return "health", self._health.answer(request, path, query)
        if path not in self._others:
            raise errors.no_route(method, path[:200])
        wanted, operation, answer = self._others[path]
        if method != wanted:
            raise errors.method_not_allowed(method, path, wanted)
        return operation, answer(request, path, query)

    def end_watches(self) -> None:
        """Tell all watchers that the node stops."""
        self.watches.end("stopping", f"{self._view.node} stops: go on at another node after the last id")

    async def _put(self, request: web.BaseRequest, path: str, query: str) -> Answer:
        given = http.query(query, ("ttl",))
        key = parameters.key_of(path)
        ttl = parameters.ttl(http.text_of(given, "ttl"))
        condition = parameters.put_condition(request)
        request_id = parameters.request_id(request)
        self._require_serving()
        with self._budget.held(http.large_body(request, MAX_VALUE_BYTES)):
            value = await http.read_body(request, MAX_VALUE_BYTES, "the value")
            done = await self._writer.put(key, value, request_id, ttl_seconds=ttl, condition=condition)
        self._confirm()
        return http.json_response(documents.done(done), headers=_headers(done))

    async def _delete(self, request: web.BaseRequest, path: str, query: str) -> Answer:
        http.query(query, ())
        key = parameters.key_of(path)
        condition = parameters.delete_condition(request)
        request_id = parameters.request_id(request)
        self._require_serving()
        done = await self._writer.delete(key, request_id, condition=condition)
        self._confirm()
        return http.json_response(documents.deleted(done), headers=_headers(done))

    async def _batch(self, request: web.BaseRequest, _: str, query: str) -> Answer:
        http.query(query, ())
        parameters.no_condition(request)
        request_id = parameters.request_id(request)
        self._require_serving()
        with self._budget.held(http.large_body(request, MAX_BATCH_BODY_BYTES)):
            body = await http.read_body(request, MAX_BATCH_BODY_BYTES, "the batch")
            done = await self._writer.batch(parameters.operations(body), request_id)
        self._confirm()
        results = documents.BatchDone([documents.done(each) for each in done])
        return http.json_response(results, headers=_replayed(done[0]))

    async def _get(self, request: web.BaseRequest, path: str, query: str) -> Answer:
        given = http.query(query, ("consistency", "max_staleness"))
        key = parameters.key_of(path)
        consistency, bound = parameters.consistency(given)
        held = parameters.none_match(request)
        self._require_serving()
        envelope = await self._read(key, consistency, bound)
        headers = self._who_answers()
        if envelope is None or envelope.value is None:
            raise errors.key_not_found(http.key_text(key), headers)
        position = str(envelope.position)
        headers["Grey-Position"] = position
        headers["Grey-Stamp"] = str(envelope.stamp)
        headers["Grey-Origin"] = envelope.origin
        headers["ETag"] = f'"{position}"'
        if envelope.expires is not None:
            headers["Grey-Expires"] = documents.time_text(envelope.expires)
        if held is not None and (position in held or "*" in held):
            return Answer(304, fields=headers)
        headers["Content-Type"] = http.VALUE_TYPE
        return Answer(200, envelope.value, headers)

    async def _read(self, key: bytes, consistency: str, bound: float) -> Envelope | None:
        if consistency == "eventual":
            return await self._reader.get(key, serializable=True)
        if consistency == "bounded" and not self._view.holds_role():
            lag = self._view.replication.lag_seconds()
            # The lag is taken before the read: the data read later is at least as new.
            if lag is None or lag > bound:
                raise errors.too_stale(self._view.cluster, bound, lag, self._view.primary())
            return await self._reader.get(key)
        epoch = self._view.role.epoch()
        envelope = await self._reader.get(key)
        if self._view.role.epoch() != epoch:
            raise DeadlinePassed
        return envelope

    async def _list(self, _: web.BaseRequest, __: str, query: str) -> Answer:
        given = http.query(query, ("prefix", "limit", "after", "values"))
        prefix = parameters.prefix_of(given)
        limit = parameters.limit(http.text_of(given, "limit"))
        values = parameters.flag(http.text_of(given, "values"), "values", default=True)
        after, at = parameters.after(given.get("after"))
        self._require_serving()
        try:
            page = await self._reader.list(prefix, limit=limit, after=after, at=at)
        except Compacted as error:
            if after is None:
                raise
            raise errors.list_compacted(parameters.token(after, None)) from error
        token = None if page.next is None else parameters.token(page.next, page.position)
        items = [documents.listed(envelope, values=values) for envelope in page.envelopes]
        return http.json_response(
            documents.Listed(items, token, str(page.position)), headers=self._who_answers()
        )

    async def _watch(self, request: web.BaseRequest, _: str, query: str) -> web.StreamResponse:
        given = http.query(query, ("prefix", "after", "values"))
        prefix = parameters.prefix_of(given)
        values = parameters.flag(http.text_of(given, "values"), "values", default=True)
        # A client that connects again by itself repeats the address and adds this header.
        last = request.headers.get("Last-Event-ID")
        text = http.text_of(given, "after") if last is None else last
        after = (
            None if text is None else parameters.position(text, "after" if last is None else "Last-Event-ID")
        )
        self._require_serving()
        try:
            return await self.watches.answer(request, Wanted(prefix, after, values), self._who_answers())
        except Compacted as error:
            if after is None:
                raise
            raise errors.watch_compacted(after) from error

    async def _openapi(self, _: web.BaseRequest, __: str, query: str) -> Answer:
        http.query(query, ())
        return Answer(200, openapi.text(), {"Content-Type": http.JSON_TYPE})

    def _who_answers(self) -> dict[str, str]:
        """Return the headers that say which cluster answers, and how late it is."""
        headers = {"Grey-Cluster": self._view.cluster}
        if not self._view.holds_role() and (lag := self._view.shown_lag()) is not None:
            headers["Grey-Lag-Seconds"] = f"{lag:.6f}"
        return headers

    def _confirm(self) -> None:
        """Ask the fence once more before the answer: the process may have been frozen since the commit."""
        try:
            self._view.role.epoch()
        except WriteRefused as refused:
            raise OutcomeUnknown(str(refused)) from refused

    def _require_serving(self) -> None:
        if (reason := self._view.cannot_serve()) is not None:
            raise errors.unavailable(f"{self._view.cluster} cannot serve: {reason}")


def _replayed(done: Written) -> dict[str, str]:
    return {"Grey-Replayed": "true"} if done.replayed else {}


def _headers(done: Written) -> dict[str, str]:
    headers = _replayed(done)
    if done.position is not None:
        headers["ETag"] = f'"{done.position}"'
    return headers
