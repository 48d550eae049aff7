# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a request to the key-value API says: keys, parameters, headers, tokens. Raises ApiError."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

import msgspec

from grey.data.conditions import Absent, At, Condition
from grey.data.requests import Operation
from grey.record import Position
from grey.serve import errors, http
from grey.serve.documents import (
    DEFAULT_PAGE_ITEMS,
    MAX_BATCH_OPERATIONS,
    MAX_KEY_BYTES,
    MAX_PAGE_ITEMS,
    MAX_TTL_SECONDS,
    MAX_VALUE_BYTES,
    MIN_TTL_SECONDS,
    BatchBody,
    DeleteOperation,
    PutOperation,
)

if TYPE_CHECKING:
    from aiohttp import web

CONSISTENCIES = ("eventual", "bounded", "strong")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_ETAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e]*)"\s*', re.ASCII)
_LARGEST = 2**63 - 1
_batch_decoder = msgspec.json.Decoder(BatchBody)


def key_of(path: str) -> bytes:
    """Return the key that a path names."""
    encoded = path[len("/v1/kv/") :]
    if "/" in encoded:
        raise errors.bad_request("a key is one path segment, found a raw /", "write / inside a key as %2F")
    return _checked(http.percent_decode(encoded, "the key"))


def prefix_of(parameters: dict[str, bytes]) -> bytes:
    """Return the prefix asked for, the empty one when there is none."""
    prefix = parameters.get("prefix", b"")
    if len(prefix) > MAX_KEY_BYTES:
        raise errors.bad_request(f"a prefix has at most {MAX_KEY_BYTES} bytes, found {len(prefix)}")
    return prefix


def request_id(request: web.BaseRequest) -> str | None:
    """Return the request id, None when there is none."""
    if "Grey-Request-Id" not in request.headers:
        return None
    found = request.headers.getall("Grey-Request-Id")
    if len(found) > 1 or not _REQUEST_ID.fullmatch(found[0]):
        raise errors.bad_request(
            f"Grey-Request-Id is 1 to 64 characters of A-Za-z0-9._-, given once; found {str(found)[:200]}"
        )
    return found[0]


def consistency(parameters: dict[str, bytes]) -> tuple[str, float]:
    """Return the consistency asked for, and how many seconds old a bounded read may be."""
    wanted = http.text_of(parameters, "consistency") or "eventual"
    if wanted not in CONSISTENCIES:
        raise errors.bad_request(
            f"consistency must be one of {', '.join(CONSISTENCIES)}, found {wanted[:100]!r}"
        )
    staleness = http.text_of(parameters, "max_staleness")
    if (staleness is not None) != (wanted == "bounded"):
        found = "nothing" if staleness is None else repr(staleness[:100])
        raise errors.bad_request(
            f"max_staleness belongs to consistency=bounded and is needed there, found {found} "
            f"with consistency={wanted}",
            "for example ?consistency=bounded&max_staleness=5s",
        )
    return wanted, 0.0 if staleness is None else http.seconds_of(staleness, "max_staleness")


def put_condition(request: web.BaseRequest) -> Condition | None:
    """Return what the headers of a PUT demand of the key."""
    headers = request.headers
    absent = "If-None-Match" in headers
    if absent and (headers.getall("If-None-Match") != ["*"] or "If-Match" in headers):
        raise errors.bad_request(
            "on a PUT the one thing to demand is If-None-Match: * (the key does not exist) or "
            'If-Match: "POSITION" (the key is there)'
        )
    return Absent() if absent else _if_match(request)


def delete_condition(request: web.BaseRequest) -> At | None:
    """Return what the headers of a DELETE demand of the key."""
    if "If-None-Match" in request.headers:
        raise errors.bad_request('a DELETE takes If-Match: "POSITION", not If-None-Match')
    return _if_match(request)


def no_condition(request: web.BaseRequest) -> None:
    """Refuse conditions in headers where they would be overlooked."""
    for name in ("If-Match", "If-None-Match"):
        if name in request.headers:
            raise errors.bad_request(
                f"{name} belongs to a single key", "give an operation of a batch if_absent or if_position"
            )


def _if_match(request: web.BaseRequest) -> At | None:
    if "If-Match" not in request.headers:
        return None
    found = request.headers.getall("If-Match")
    tag = _ETAG.fullmatch(found[0])
    if len(found) > 1 or tag is None or tag[1]:
        raise errors.bad_request(f'If-Match is one "POSITION" in quotes, found {str(found)[:200]}')
    return At(position(tag[2], "If-Match"))


def none_match(request: web.BaseRequest) -> frozenset[str] | None:
    """Return the versions that the client of a GET holds ("*": any); None when it named none.

    What is not an entity tag names no version, so that the client gets the value.
    """
    if "If-None-Match" not in request.headers:
        return None
    text = ",".join(request.headers.getall("If-None-Match"))
    if text.strip() == "*":
        return frozenset(["*"])
    return frozenset(tag[2] for part in text.split(",") if (tag := _ETAG.fullmatch(part)))


def position(text: str, what: str) -> Position:
    """Read a position."""
    try:
        found = Position.parse(text)
    except ValueError as error:
        raise errors.bad_request(f"{what}: {str(error)[:200]}") from None
    if max(found.epoch, found.sequence) > _LARGEST:
        raise errors.bad_request(f"{what}: no position has a number above {_LARGEST}, found {text[:100]}")
    return found


def ttl(text: str | None) -> float | None:
    """Return the seconds of a time to live, None when there is none."""
    if text is None:
        return None
    seconds = http.seconds_of(text, "ttl")
    if not MIN_TTL_SECONDS <= seconds <= MAX_TTL_SECONDS:
        raise errors.bad_request(f"ttl must be 1s to 3650d, found {text[:100]!r}")
    return seconds


def limit(text: str | None) -> int:
    """Return how many keys a page may hold."""
    if text is None:
        return DEFAULT_PAGE_ITEMS
    found = int(text) if re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) else 0
    if not 1 <= found <= MAX_PAGE_ITEMS:
        raise errors.bad_request(f"limit must be 1 to {MAX_PAGE_ITEMS}, found {text[:100]!r}")
    return found


def flag(text: str | None, name: str, *, default: bool) -> bool:
    """Return a parameter that is true or false."""
    if text is None:
        return default
    if text not in {"true", "false"}:
        raise errors.bad_request(f"{name} must be true or false, found {text[:100]!r}")
    return text == "true"


def token(key: bytes, at: Position | None) -> str:
    """Return what to pass as ``after``: the last key seen, and the snapshot (None: the newest state)."""
    plain = (b"" if at is None else str(at).encode("ascii")) + b"/" + key
    return base64.urlsafe_b64encode(plain).decode("ascii").rstrip("=")


def after(given: bytes | None) -> tuple[bytes | None, Position | None]:
    """Read what ``token`` gave."""
    if given is None:
        return None, None
    try:
        plain = base64.b64decode(given + b"=" * (-len(given) % 4), altchars=b"-_", validate=True)
        at, slash, key = plain.partition(b"/")
        if slash and 1 <= len(key) <= MAX_KEY_BYTES:
            return key, position(at.decode("ascii"), "after") if at else None
    except (binascii.Error, ValueError, errors.ApiError):
        pass
    raise errors.bad_request("after must be the next of an earlier page, as it was", "start without after")


def operations(body: bytes) -> list[Operation]:
    """Return the operations of a batch."""
    try:
        wanted = _batch_decoder.decode(body).operations
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.bad_request(f"the body of a batch: {error}") from error
    if not 1 <= len(wanted) <= MAX_BATCH_OPERATIONS:
        raise errors.bad_request(
            f"a batch has 1 to {MAX_BATCH_OPERATIONS} operations, found {len(wanted)}", "split the batch"
        )
    found = [_operation(f"operation {number}", each) for number, each in enumerate(wanted)]
    if len({each.key for each in found}) != len(found):
        raise errors.bad_request("the operations of a batch must be on distinct keys", "drop the earlier one")
    if sum(len(each.value or b"") for each in found) > MAX_VALUE_BYTES:
        raise errors.too_large("the values of the batch together", MAX_VALUE_BYTES)
    return found


def _operation(what: str, wanted: PutOperation | DeleteOperation) -> Operation:
    key = _checked(http.key_from_text(wanted.key))
    condition: Condition | None = None
    if wanted.if_position is not None:
        condition = At(position(wanted.if_position, f"{what}: if_position"))
    if isinstance(wanted, DeleteOperation):
        return Operation(key, None, condition=condition)
    if wanted.if_absent:
        if condition is not None:
            raise errors.bad_request(f"{what}: if_absent and if_position cannot both hold")
        condition = Absent()
    try:
        value = base64.b64decode(wanted.value_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise errors.bad_request(f"{what}: value_base64 is not base64: {error}") from error
    return Operation(key, value, ttl_seconds=ttl(wanted.ttl), condition=condition)


def _checked(key: bytes) -> bytes:
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        raise errors.bad_request(f"a key has 1 to {MAX_KEY_BYTES} bytes, found {len(key)}")
    return key
