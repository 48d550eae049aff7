# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenAPI 3.1 document of the key-value API, made from the types that are really sent and read.

It is held to the implementation by tests/serve/test_openapi.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from grey import __version__
from grey.serve import documents, health
from grey.serve.documents import (
    DEFAULT_PAGE_ITEMS,
    DURATION_PATTERN,
    MAX_BATCH_OPERATIONS,
    MAX_KEY_BYTES,
    MAX_PAGE_ITEMS,
    MAX_VALUE_BYTES,
    POSITION_PATTERN,
)
from grey.serve.errors import Primary
from grey.serve.http import JSON_TYPE, VALUE_TYPE
from grey.serve.parameters import CONSISTENCIES
from grey.serve.watch import EVENT_STREAM

PATH = "/v1/openapi.json"

_Plain = dict[str, Any]
_BYTES: _Plain = {"type": "string", "format": "binary", "maxLength": MAX_VALUE_BYTES}
_Codes = Mapping[int, tuple[str, ...]]

_UNIT = "A number and us, ms, s, m, h or d."


class ErrorDetail(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What went wrong, and the next step. The optional fields come with the codes that need them."""

    code: str
    message: str
    hint: str
    primary: Primary | None = None
    lag_seconds: float | None = None
    limit_bytes: int = 0
    key: documents.KeyText = ""
    position: documents.PositionText | None = None
    next: str = ""
    incident: str = ""


class Error(msgspec.Struct):
    """The body of every answer that is no success."""

    error: ErrorDetail


# Which codes a status can carry, of every operation and of single ones.
_EVERYWHERE: _Codes = {
    400: ("bad_request",),
    429: ("rate_limited",),
    500: ("internal",),
    503: ("overloaded", "unavailable"),
}
_READ: _Codes = {404: ("not_found",), 421: ("not_primary",), 503: ("fenced", "too_stale")}
_WRITE: _Codes = {
    408: ("bad_request",),
    412: ("condition_failed",),
    421: ("not_primary",),
    422: ("request_id_reused",),
    503: ("fenced",),
    504: ("outcome_unknown",),
    507: ("disk_full",),
}
_BODY: _Codes = {413: ("value_too_large",), 415: ("bad_request",)}
_WALK: _Codes = {409: ("diverged",), 410: ("compacted",), 503: ("too_stale",)}

_MEANING = {
    400: "The request is wrong; the message says what was wanted and what was found.",
    404: "The key does not exist.",
    408: "The body did not come in time.",
    409: "The position belongs to a history that was given up.",
    410: "What is asked about is no longer kept.",
    412: "The condition does not hold: nothing was written.",
    413: "The body, unpacked, is over the limit.",
    415: "The Content-Encoding is not known.",
    421: "This cluster is a replica; primary says who is not.",
    422: "The request id was used for another request.",
    429: "This client sends too many requests per second.",
    500: "A fault of the node; its log has the same incident.",
    503: "The node cannot serve this now; the code says why.",
    504: "The write may or may not have happened: retry with the same request id.",
    507: "There is no room to write: nothing was written.",
}
_RETRY = {429: True, 503: False}
"""Statuses that come with Retry-After: always, or with some of their codes."""


@functools.cache
def text() -> bytes:
    """Return the document in JSON."""
    return msgspec.json.encode(document())


def document() -> _Plain:
    """Return the document."""
    types = [
        documents.BatchBody,
        documents.Done,
        documents.Deleted,
        documents.BatchDone,
        documents.Listed,
        documents.Changed,
        documents.Progressed,
        documents.Ended,
        health.Health,
        Error,
    ]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    operations = schemas["BatchBody"]["properties"]["operations"]
    operations |= {"minItems": 1, "maxItems": MAX_BATCH_OPERATIONS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Grey key-value API",
            "version": __version__,
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
            "description": "Keys and values of one cluster of a federation; docs/reference/api.md says more.",
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/kv/{key}": {"parameters": [_key()], "get": _get(), "put": _put(), "delete": _delete()},
            "/v1/kv": {"get": _list()},
            "/v1/batch": {"post": _batch()},
            "/v1/watch": {"get": _watch()},
            PATH: {"get": _openapi()},
            **{f"/{name}": {"get": _health(name, meaning)} for name, meaning in _PAGES.items()},
        },
        "components": {"schemas": schemas},
    }


def _get() -> _Plain:
    headers = {
        "ETag": _header("The position in quotes; the same for every encoding of the value.", required=True),
        "Grey-Position": _header("The position of this version.", required=True),
        "Grey-Stamp": _header("The hybrid clock's stamp of this version.", required=True),
        "Grey-Origin": _header("The cluster that took the write.", required=True),
        "Grey-Expires": _header("When the key is deleted (RFC 3339), if it has a time to live."),
        **_who(),
    }
    return _operation(
        "get",
        "Read a key.",
        [
            _query(
                "consistency",
                "How new the answer must be.",
                {"enum": list(CONSISTENCIES), "default": "eventual"},
            ),
            _query(
                "max_staleness",
                f"How old the answer of a bounded read may be; needed there, and only there. {_UNIT}",
                {"type": "string", "pattern": DURATION_PATTERN},
            ),
            _in_header(
                "If-None-Match", "Versions that the client holds: answered with 304.", {"type": "string"}
            ),
        ],
        {
            200: {
                "description": "The value.",
                "headers": headers | {"Vary": _header("Accept-Encoding, for long values.")},
                "content": {VALUE_TYPE: {"schema": _BYTES}},
            },
            304: {"description": "The client holds this version.", "headers": headers},
        },
        _READ,
        not_found_headers=_who(),
    )


def _put() -> _Plain:
    return _operation(
        "put",
        "Set a key.",
        [
            _query(
                "ttl",
                f"Delete the key by itself after this time, from 1s to 3650d. {_UNIT}",
                {"type": "string", "pattern": DURATION_PATTERN},
            ),
            _request_id(),
            _in_header("If-None-Match", "*: only if the key does not exist.", {"enum": ["*"]}),
            _if_match(),
        ],
        {200: _json("What was written.", "Done", _written())},
        _WRITE,
        _BODY,
        body={
            "required": True,
            "description": f"The value, 0 to {MAX_VALUE_BYTES} bytes; gzip with Content-Encoding: gzip.",
            "content": {VALUE_TYPE: {"schema": _BYTES}},
        },
    )


def _delete() -> _Plain:
    return _operation(
        "delete",
        "Delete a key; also when it does not exist.",
        [_request_id(), _if_match()],
        {200: _json("What was written.", "Deleted", _written())},
        _WRITE,
    )


def _list() -> _Plain:
    return _operation(
        "list",
        "List keys in order. All pages of a walk show one state.",
        [
            _prefix(),
            _query(
                "limit",
                "The most keys of one page; it may hold fewer.",
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_ITEMS, "default": DEFAULT_PAGE_ITEMS},
            ),
            _query("after", "The next of the page before.", {"type": "string"}),
            _values(),
        ],
        {200: _json("A page.", "Listed", _who())},
        _WALK,
    )


def _batch() -> _Plain:
    return _operation(
        "batch",
        "Carry out operations on distinct keys, all or nothing.",
        [_request_id()],
        {200: _json("What was written.", "BatchDone", _replayed())},
        _WRITE,
        _BODY,
        body={
            "required": True,
            "content": {JSON_TYPE: {"schema": {"$ref": "#/components/schemas/BatchBody"}}},
        },
    )


def _watch() -> _Plain:
    return _operation(
        "watch",
        "Follow the changes of the keys with a prefix.",
        [
            _prefix(),
            _query("after", "The position after which to begin; without it: now.", _position()),
            _values(),
            _in_header("Last-Event-ID", "The id of the last event seen; wins over after.", _position()),
        ],
        {
            200: {
                "description": (
                    "Server-sent events. put and delete: id is the position. progress: id is the newest "
                    "position; at least every 5 s. end: the last one, without an id. x-events has the schema "
                    "of each one's data."
                ),
                "headers": _who(),
                "content": {EVENT_STREAM: {"schema": {"type": "string"}, "x-events": _EVENTS}},
            }
        },
        _WALK,
    )


def _openapi() -> _Plain:
    found = {"description": "This document.", "content": {JSON_TYPE: {"schema": {"type": "object"}}}}
    return _operation("openapi", "Read this document.", [], {200: found})


_EVENTS = {
    name: {"$ref": f"#/components/schemas/{schema}"}
    for name, schema in (
        ("put", "Changed"),
        ("delete", "Changed"),
        ("progress", "Progressed"),
        ("end", "Ended"),
    )
}
_PAGES = {
    "health": "the process answers",
    "ready": "the node serves reads of a consistent state",
    "primary": "this cluster may write now",
    "replica": "the node is a ready replica, with at most the lag given",
}


def _health(name: str, meaning: str) -> _Plain:
    lag = _query("lag", f"The largest lag. {_UNIT}", {"type": "string", "pattern": DURATION_PATTERN})
    page = {"content": {JSON_TYPE: {"schema": {"$ref": "#/components/schemas/Health"}}}}
    responses: _Plain = {
        "200": {"description": f"Yes: {meaning}.", **page},
        "400": _error(400, ("bad_request",)),
        "503": {"description": "No; problem says why.", **page},
    }
    return {
        "operationId": name,
        "summary": f"Whether {meaning}.",
        "parameters": [lag] if name == "replica" else [],
        "responses": responses,
    }


def _operation(
    name: str,
    summary: str,
    parameters: list[_Plain],
    good: dict[int, _Plain],
    *errors: _Codes,
    body: _Plain | None = None,
    not_found_headers: _Plain | None = None,
) -> _Plain:
    codes: dict[int, tuple[str, ...]] = {}
    for group in (_EVERYWHERE, *errors):
        for status, more in group.items():
            codes[status] = codes.get(status, ()) + more
    answers = good | {status: _error(status, of) for status, of in codes.items()}
    if not_found_headers is not None:
        answers[404]["headers"] = not_found_headers
    found: _Plain = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {str(status): answers[status] for status in sorted(answers)},
    }
    return found if body is None else {**found, "requestBody": body}


def _error(status: int, codes: tuple[str, ...]) -> _Plain:
    code = {"properties": {"error": {"properties": {"code": {"enum": sorted(codes)}}}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Error"}, code]}
    found: _Plain = {"description": _MEANING[status], "content": {JSON_TYPE: {"schema": schema}}}
    if status in _RETRY:
        wait = _header("Seconds to wait before the next try.", required=_RETRY[status])
        found["headers"] = {"Retry-After": wait | {"schema": {"type": "integer", "minimum": 1}}}
    return found


def _json(description: str, name: str, headers: _Plain) -> _Plain:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": description, "headers": headers, "content": {JSON_TYPE: {"schema": schema}}}


def _key() -> _Plain:
    return {
        "name": "key",
        "in": "path",
        "required": True,
        "description": f"The key, 1 to {MAX_KEY_BYTES} bytes of any value, percent-encoded as one segment.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES},
    }


def _query(name: str, description: str, schema: _Plain) -> _Plain:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _in_header(name: str, description: str, schema: _Plain) -> _Plain:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _header(description: str, *, required: bool = False) -> _Plain:
    return {"description": description, "required": required, "schema": {"type": "string"}}


def _position() -> _Plain:
    return {"type": "string", "pattern": f"^{POSITION_PATTERN}$"}


def _prefix() -> _Plain:
    what = f"The prefix of the keys, at most {MAX_KEY_BYTES} bytes, percent-encoded."
    return _query("prefix", what, {"type": "string", "maxLength": MAX_KEY_BYTES})


def _values() -> _Plain:
    return _query("values", "Whether the values are wanted.", {"type": "boolean", "default": True})


def _request_id() -> _Plain:
    schema = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
    return _in_header("Grey-Request-Id", "Makes a retry safe: it is carried out at most once.", schema)


def _if_match() -> _Plain:
    schema = {"type": "string", "pattern": f'^"{POSITION_PATTERN}"$'}
    return _in_header("If-Match", "Only if the key is at this position, in quotes.", schema)


def _who() -> _Plain:
    return {
        "Grey-Cluster": _header("The cluster that answered.", required=True),
        "Grey-Lag-Seconds": _header("How old the answer is at most; on a replica."),
    }


def _written() -> _Plain:
    return _replayed() | {"ETag": _header("The position in quotes, if something was written.")}


def _replayed() -> _Plain:
    return {"Grey-Replayed": _header("true: an earlier request with this id was carried out.")}
