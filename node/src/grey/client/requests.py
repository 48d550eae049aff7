# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests of docs/reference/api.md; what cannot be is refused before it is sent."""

from __future__ import annotations

import base64
import datetime
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from grey.client import keys
from grey.client.errors import BadRequest, ValueTooLarge
from grey.client.model import Delete, Put
from grey.client.transport import Request
from grey.record.position import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.client.consistency import Consistency

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 1_048_576
MAX_BATCH_OPERATIONS = 100
MAX_PAGE_ITEMS = 1000
MIN_TTL_SECONDS = 1.0
MAX_TTL_SECONDS = 3650 * 86_400.0

Ttl = float | datetime.timedelta | None
"""Seconds, or a time span, after which a key is deleted; None: it stays."""

At = Position | str | None
"""A position, or its text such as ``1.42``."""


def key_bytes(key: str | bytes) -> bytes:
    """Return a key as it is stored; text is UTF-8. Raises BadRequest unless it has 1 to 1,024 bytes."""
    data = prefix_bytes(key)
    if not 1 <= len(data) <= MAX_KEY_BYTES:
        raise BadRequest(f"a key has 1 to {MAX_KEY_BYTES} bytes, this one has {len(data)}")
    return data


def prefix_bytes(prefix: str | bytes) -> bytes:
    """Return a prefix as bytes; text is UTF-8. Raises BadRequest for text that UTF-8 cannot hold."""
    if isinstance(prefix, bytes):
        return prefix
    try:
        return prefix.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"a key given as text must be valid Unicode, this one is not at character {error.start}",
            hint="give it as bytes",
        ) from None


def get(key: bytes, consistency: Consistency) -> Request:
    """Return the request that reads a key."""
    query = f"?consistency={consistency.mode}"
    if consistency.max_staleness_seconds is not None:
        # Rounded down, so that nothing staler than asked for is accepted.
        query += f"&max_staleness={max(1, int(consistency.max_staleness_seconds * 1000))}ms"
    return Request("GET", f"/v1/kv/{keys.segment(key)}{query}")


def put(key: bytes, value: bytes, *, ttl: Ttl, if_absent: bool, if_position: At) -> Request:
    """Return the request that sets a key. Raises BadRequest, ValueTooLarge."""
    _check_size(len(value), "the value")
    query = "" if ttl is None else f"?ttl={_duration(ttl)}"
    headers = _condition(if_absent=if_absent, if_position=if_position)
    return Request("PUT", f"/v1/kv/{keys.segment(key)}{query}", headers, body=value)


def delete(key: bytes, *, if_position: At) -> Request:
    """Return the request that removes a key. Raises BadRequest."""
    headers = _condition(if_absent=False, if_position=if_position)
    return Request("DELETE", f"/v1/kv/{keys.segment(key)}", headers)


def batch(operations: Sequence[Put | Delete]) -> Request:
    """Return the request that carries out a batch. Raises BadRequest, ValueTooLarge."""
    if not 1 <= len(operations) <= MAX_BATCH_OPERATIONS:
        raise BadRequest(f"a batch has 1 to {MAX_BATCH_OPERATIONS} operations, not {len(operations)}")
    _check_size(
        sum(len(operation.value) for operation in operations if isinstance(operation, Put)),
        "the values of a batch together",
    )
    written: set[bytes] = set()
    for operation in operations:
        key = key_bytes(operation.key)
        if key in written:
            raise BadRequest(f"a batch names each key once, {keys.to_text(key)} is there twice")
        written.add(key)
    body = msgspec.json.encode({"operations": [_operation(operation) for operation in operations]})
    return Request("POST", "/v1/batch", {"Content-Type": "application/json"}, body)


def page(prefix: bytes, *, after: str | None, limit: int, values: bool) -> Request:
    """Return the request for a page of a listing. Raises BadRequest."""
    if not 1 <= limit <= MAX_PAGE_ITEMS:
        raise BadRequest(f"a page has a limit of 1 to {MAX_PAGE_ITEMS} keys, not {limit}")
    query = f"prefix={quote(prefix, safe='')}&limit={limit}&values={_flag(values)}"
    if after is not None:
        query += f"&after={quote(after, safe='')}"
    return Request("GET", f"/v1/kv?{query}", {"Accept-Encoding": "gzip"})


def watch(prefix: bytes, *, after: Position | None, values: bool) -> Request:
    """Return the request for the changes of all keys with a prefix."""
    query = f"prefix={quote(prefix, safe='')}&values={_flag(values)}"
    if after is not None:
        query += f"&after={after}"
    return Request("GET", f"/v1/watch?{query}", {"Accept": "text/event-stream"})


def position_of(at: At) -> Position | None:
    """Return a position that was given as such or as text. Raises BadRequest."""
    if not isinstance(at, str):
        return at
    try:
        return Position.parse(at)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _operation(operation: Put | Delete) -> dict[str, Any]:
    at = position_of(operation.if_position)
    body: dict[str, Any] = {"op": "delete", "key": keys.to_text(key_bytes(operation.key))}
    if isinstance(operation, Put):
        _check_conditions(if_absent=operation.if_absent, if_position=at)
        body |= {"op": "put", "value_base64": base64.b64encode(operation.value).decode()}
        if operation.ttl is not None:
            body["ttl"] = _duration(operation.ttl)
        if operation.if_absent:
            body["if_absent"] = True
    if at is not None:
        body["if_position"] = str(at)
    return body


def _condition(*, if_absent: bool, if_position: At) -> dict[str, str]:
    at = position_of(if_position)
    _check_conditions(if_absent=if_absent, if_position=at)
    if if_absent:
        return {"If-None-Match": "*"}
    return {} if at is None else {"If-Match": f'"{at}"'}


def _check_conditions(*, if_absent: bool, if_position: Position | None) -> None:
    if if_absent and if_position is not None:
        raise BadRequest("a put takes if_absent or if_position, not both", hint="leave one out")


def _duration(ttl: float | datetime.timedelta) -> str:
    seconds = ttl.total_seconds() if isinstance(ttl, datetime.timedelta) else float(ttl)
    if not MIN_TTL_SECONDS <= seconds <= MAX_TTL_SECONDS:
        raise BadRequest(f"a ttl is 1 second to 10 years, not {seconds:g} seconds")
    # Rounded up, so that nothing is deleted before the time that was asked for.
    return f"{math.ceil(seconds * 1000) / 1000:.3f}s" if seconds % 1 else f"{seconds:.0f}s"


def _check_size(size: int, what: str) -> None:
    if size > MAX_VALUE_BYTES:
        raise ValueTooLarge(
            f"{what} may have {MAX_VALUE_BYTES} bytes, found {size}",
            hint="split it over several keys",
            detail={"limit_bytes": MAX_VALUE_BYTES},
        )


def _flag(value: bool) -> str:
    return "true" if value else "false"
