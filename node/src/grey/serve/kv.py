# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key-value API (docs/reference/api.md)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Literal

import msgspec
from aiohttp import web

from grey.data.errors import OutcomeUnknown
from grey.data.fence import DeadlinePassed, WriteRefused
from grey.data.requests import Operation
from grey.serve import errors, http

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from grey.data.reader import Reader
    from grey.data.writer import Writer, Written
    from grey.record.envelope import Envelope
    from grey.serve.health import HealthPages
    from grey.serve.view import NodeView

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 1024 * 1024
MAX_BATCH_OPERATIONS = 100
MAX_BATCH_BODY_BYTES = 2 * 1024 * 1024
"""Room for 1 MiB of values in base64 and 100 long keys, percent-encoded."""
MAX_PAGE_ITEMS = 1000
DEFAULT_PAGE_ITEMS = 100

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_CONSISTENCIES = ("eventual", "bounded", "strong")


class BatchOperation(msgspec.Struct, forbid_unknown_fields=True):
    """One operation of a batch as the client sends it."""

    op: Literal["put", "delete"]
    key: str
    value_base64: str | None = None


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a batch."""

    operations: list[BatchOperation]


class Done(msgspec.Struct):
    """What one operation came to. ``existed`` is said of a delete only."""

    key: str
    position: str | None
    stamp: str | None
    existed: bool | msgspec.UnsetType = msgspec.UNSET


class ListedItem(msgspec.Struct, omit_defaults=True):
    """One key of a page."""

    key: str
    position: str
    stamp: str
    value_base64: str | None = None


class Listed(msgspec.Struct):
    """A page of keys."""

    items: list[ListedItem]
    next: str | None


_batch_decoder = msgspec.json.Decoder(BatchBody)


class KeyValueApi:
    """Routes and answers of port 8080."""

    def __init__(self, view: NodeView, reader: Reader, writer: Writer, health: HealthPages) -> None:
        self._view = view
        self._reader = reader
        self._writer = writer
        self._health = health

    def route(self, request: web.BaseRequest) -> tuple[str, Awaitable[web.StreamResponse]]:
        """Name the operation of a request and start it (``grey.serve.door.Route``)."""
        path, query = http.split_target(request)
        method = request.method
        if path.startswith("/v1/kv/"):
            if method == "GET":
                return "get", self._get(path, query)
            if method == "PUT":
                return "put", self._put(request, path, query)
            if method == "DELETE":
                return "delete", self._delete(request, path, query)
            raise errors.method_not_allowed(method, "/v1/kv/{key}", "GET, PUT, DELETE")
        if path == "/v1/kv":
            if method == "GET":
                return "list", self._list(query)
            raise errors.method_not_allowed(method, path, "GET")
        if path == "/v1/batch":
            if method == "POST":
                return "batch", self._batch(request, query)
            raise errors.method_not_allowed(method, path, "POST")
        if self._health.handles(path):
            return "health", self._health.answer(request, path, query)
        raise errors.no_route(method, path[:200])

    async def _put(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        http.query(query, ())
        key = _key_of(path)
        request_id = _request_id(request)
        self._require_serving()
        value = await http.read_body(request, MAX_VALUE_BYTES, "the value")
        done = await self._writer.put(key, value, request_id)
        self._confirm()
        return http.json_response(_written(done), headers=_headers(done))

    async def _delete(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        http.query(query, ())
        key = _key_of(path)
        request_id = _request_id(request)
        self._require_serving()
        done = await self._writer.delete(key, request_id)
        self._confirm()
        answer = _written(done)
        answer.existed = done.existed
        return http.json_response(answer, headers=_headers(done))

    async def _batch(self, request: web.BaseRequest, query: str) -> web.Response:
        http.query(query, ())
        request_id = _request_id(request)
        self._require_serving()
        operations = _operations(await http.read_body(request, MAX_BATCH_BODY_BYTES, "the batch"))
        done = await self._writer.batch(operations, request_id)
        self._confirm()
        return http.json_response({"results": [_written(each) for each in done]}, headers=_headers(done[0]))

    async def _get(self, path: str, query: str) -> web.Response:
        parameters = http.query(query, ("consistency", "max_staleness"))
        key = _key_of(path)
        consistency, bound = _consistency(parameters)
        self._require_serving()
        envelope = await self._read(key, consistency, bound)
        if envelope is None or envelope.value is None:
            raise errors.key_not_found(http.key_text(key))
        headers = {
            "Content-Type": "application/octet-stream",
            "Grey-Position": str(envelope.position),
            "Grey-Stamp": str(envelope.stamp),
            "Grey-Origin": envelope.origin,
            "Grey-Cluster": self._view.cluster,
        }
        if not self._view.holds_role() and (lag := self._view.replication.lag_seconds()) is not None:
            headers["Grey-Lag-Seconds"] = f"{lag:.6f}"
        return web.Response(body=envelope.value, headers=headers)

    async def _read(self, key: bytes, consistency: str, bound: float) -> Envelope | None:
        if consistency == "eventual":
            return await self._reader.get(key)
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

    async def _list(self, query: str) -> web.Response:
        parameters = http.query(query, ("prefix", "limit", "after", "values"))
        prefix = parameters.get("prefix", b"")
        if len(prefix) > MAX_KEY_BYTES:
            raise errors.bad_request(f"a prefix has at most {MAX_KEY_BYTES} bytes, found {len(prefix)}")
        limit = _limit(http.text_of(parameters, "limit"))
        values = _flag(http.text_of(parameters, "values"), "values", default=True)
        after = _after(parameters.get("after"))
        self._require_serving()
        page = await self._reader.list(prefix, limit=limit, after=after)
        items = [_listed(envelope, values=values) for envelope in page.envelopes]
        return http.json_response(Listed(items, None if page.next is None else _token(page.next)))

    def _confirm(self) -> None:
        """Ask the fence once more before the answer: the process may have been frozen since the commit."""
        try:
            self._view.role.epoch()
        except WriteRefused as refused:
            raise OutcomeUnknown(str(refused)) from refused

    def _require_serving(self) -> None:
        if (reason := self._view.not_ready()) is not None:
            raise errors.unavailable(f"{self._view.cluster} cannot serve: {reason}")


def _key_of(path: str) -> bytes:
    encoded = path[len("/v1/kv/") :]
    if "/" in encoded:
        raise errors.bad_request("a key is one path segment, found a raw /", "write / inside a key as %2F")
    return _checked(http.percent_decode(encoded, "the key"))


def _checked(key: bytes) -> bytes:
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        raise errors.bad_request(f"a key has 1 to {MAX_KEY_BYTES} bytes, found {len(key)}")
    return key


def _request_id(request: web.BaseRequest) -> str | None:
    found = request.headers.getall("Grey-Request-Id", [])
    if not found:
        return None
    if len(found) > 1 or not _REQUEST_ID.fullmatch(found[0]):
        raise errors.bad_request(
            f"Grey-Request-Id is 1 to 64 characters of A-Za-z0-9._-, given once; found {str(found)[:200]}"
        )
    return found[0]


def _written(done: Written) -> Done:
    return Done(
        http.key_text(done.key),
        None if done.position is None else str(done.position),
        None if done.stamp is None else str(done.stamp),
    )


def _headers(done: Written) -> dict[str, str] | None:
    return {"Grey-Replayed": "true"} if done.replayed else None


def _consistency(parameters: dict[str, bytes]) -> tuple[str, float]:
    consistency = http.text_of(parameters, "consistency") or "eventual"
    if consistency not in _CONSISTENCIES:
        raise errors.bad_request(
            f"consistency must be one of {', '.join(_CONSISTENCIES)}, found {consistency[:100]!r}"
        )
    staleness = http.text_of(parameters, "max_staleness")
    if (staleness is not None) != (consistency == "bounded"):
        found = "nothing" if staleness is None else repr(staleness[:100])
        raise errors.bad_request(
            f"max_staleness belongs to consistency=bounded and is needed there, found {found} "
            f"with consistency={consistency}",
            "for example ?consistency=bounded&max_staleness=5s",
        )
    return consistency, 0.0 if staleness is None else http.seconds_of(staleness, "max_staleness")


def _operations(body: bytes) -> list[Operation]:
    try:
        wanted = _batch_decoder.decode(body).operations
    except msgspec.DecodeError as error:
        raise errors.bad_request(f"the body of a batch: {error}") from error
    if not 1 <= len(wanted) <= MAX_BATCH_OPERATIONS:
        raise errors.bad_request(
            f"a batch has 1 to {MAX_BATCH_OPERATIONS} operations, found {len(wanted)}", "split the batch"
        )
    operations = [_operation(number, each) for number, each in enumerate(wanted)]
    keys = {operation.key for operation in operations}
    if len(keys) != len(operations):
        raise errors.bad_request("the operations of a batch must be on distinct keys", "drop the earlier one")
    if sum(len(operation.value or b"") for operation in operations) > MAX_VALUE_BYTES:
        raise errors.too_large("the values of the batch together", MAX_VALUE_BYTES)
    return operations


def _operation(number: int, wanted: BatchOperation) -> Operation:
    key = _checked(http.key_from_text(wanted.key))
    if (wanted.op == "put") != (wanted.value_base64 is not None):
        raise errors.bad_request(
            f"operation {number}: put needs value_base64 and delete takes none, found {wanted.op}"
        )
    if wanted.value_base64 is None:
        return Operation(key, None)
    try:
        return Operation(key, base64.b64decode(wanted.value_base64, validate=True))
    except (binascii.Error, ValueError) as error:
        raise errors.bad_request(f"operation {number}: value_base64 is not base64: {error}") from error


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_PAGE_ITEMS
    limit = int(text) if re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) else 0
    if not 1 <= limit <= MAX_PAGE_ITEMS:
        raise errors.bad_request(f"limit must be 1 to {MAX_PAGE_ITEMS}, found {text[:100]!r}")
    return limit


def _flag(text: str | None, name: str, *, default: bool) -> bool:
    if text is None:
        return default
    if text not in {"true", "false"}:
        raise errors.bad_request(f"{name} must be true or false, found {text[:100]!r}")
    return text == "true"


def _token(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode("ascii").rstrip("=")


def _after(token: bytes | None) -> bytes | None:
    if token is None:
        return None
    try:
        key = base64.b64decode(token + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        key = b""
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        raise errors.bad_request(
            "after must be the next of an earlier page, as it was", "start without after"
        )
    return key


def _listed(envelope: Envelope, *, values: bool) -> ListedItem:
    return ListedItem(
        http.key_text(envelope.key),
        str(envelope.position),
        str(envelope.stamp),
        base64.b64encode(envelope.value or b"").decode("ascii") if values else None,
    )
