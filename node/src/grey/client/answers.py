# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer of the API says: the bodies and headers of docs/reference/api.md, read strictly."""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from grey.client.errors import BY_CODE, BadAnswer, GreyError
from grey.client.keys import from_text
from grey.client.model import BatchResult, Deleted, Event, Item, Missing, Page, Value, Written
from grey.record.position import Position

if TYPE_CHECKING:
    from grey.client.transport import Answer

T = TypeVar("T")

_REPLAYED = "Grey-Replayed"


class Problem(msgspec.Struct, frozen=True):
    """An error as the API gives it; ``code`` is None when the answer is not of the API."""

    status: int
    code: str | None
    message: str
    hint: str
    detail: Mapping[str, Any]

    def exception(self, cluster: str) -> GreyError:
        """Return the exception of the code, or BadAnswer for a code that this client does not know."""
        kind = BY_CODE.get(self.code or "", BadAnswer)
        return kind(self.message, hint=self.hint, cluster=cluster, detail=self.detail)


class _PutBody(msgspec.Struct):
    position: str
    stamp: str


class _DeleteBody(msgspec.Struct):
    existed: bool
    position: str | None
    stamp: str | None


class _BatchResult(msgspec.Struct):
    key: str
    position: str
    stamp: str


class _BatchBody(msgspec.Struct):
    results: list[_BatchResult]


class _ListItem(msgspec.Struct):
    key: str
    position: str
    stamp: str
    value_base64: str | None = None
    expires: datetime.datetime | None = None


class _ListBody(msgspec.Struct):
    items: list[_ListItem]
    next: str | None
    position: str


class _Ended(msgspec.Struct):
    code: str
    message: str


class _Change(msgspec.Struct):
    key: str
    position: str
    stamp: str
    origin: str
    value_base64: str | None = None
    expires: datetime.datetime | None = None


def problem(answer: Answer) -> Problem:
    """Read the answer to a request that failed."""
    try:
        body = msgspec.json.decode(answer.body, type=dict[str, dict[str, Any]])
        error = body["error"]
        code, message, hint = (str(error[name]) for name in ("code", "message", "hint"))
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
        found = answer.body[:80].decode(errors="replace").strip() or "an empty body"
        return Problem(
            answer.status,
            None,
            f"wanted an answer of the Grey API, found status {answer.status} with {found!r}",
            "check that the endpoint is that of a Grey cluster and no proxy answers in its place",
            {},
        )
    return Problem(answer.status, code, message, hint, error)


def value(key: bytes, answer: Answer) -> Value:
    """Read the answer to a get. Raises BadAnswer."""
    headers = answer.headers
    try:
        lag, expires = headers.get("Grey-Lag-Seconds"), headers.get("Grey-Expires")
        return Value(
            key=key,
            value=answer.body,
            position=Position.parse(headers["Grey-Position"]),
            stamp=headers["Grey-Stamp"],
            origin=headers["Grey-Origin"],
            cluster=headers["Grey-Cluster"],
            lag_seconds=None if lag is None else float(lag),
            expires=None if expires is None else datetime.datetime.fromisoformat(expires),
        )
    except KeyError as error:
        raise BadAnswer(f"wanted the header {error.args[0]} in the answer to a get, found none") from None
    except ValueError as error:
        raise BadAnswer(f"the headers of the answer to a get are wrong: {error}") from None


def missing(key: bytes, cluster: str, answer: Answer) -> Missing:
    """Read the answer to a get of a key that does not exist. Raises BadAnswer."""
    lag = answer.headers.get("Grey-Lag-Seconds")
    try:
        return Missing(key, cluster, None if lag is None else float(lag))
    except ValueError as error:
        raise BadAnswer(f"the headers of the answer to a get are wrong: {error}") from None


def written(key: bytes, answer: Answer) -> Written:
    """Read the answer to a put. Raises BadAnswer."""
    body = _body(answer, _PutBody)
    return Written(key, position(body.position), body.stamp, _replayed(answer))


def deleted(key: bytes, answer: Answer) -> Deleted:
    """Read the answer to a delete. Raises BadAnswer."""
    body = _body(answer, _DeleteBody)
    at = None if body.position is None else position(body.position)
    return Deleted(key, body.existed, at, body.stamp, _replayed(answer))


def batch(answer: Answer) -> tuple[BatchResult, ...]:
    """Read the answer to a batch. Raises BadAnswer."""
    return tuple(
        BatchResult(_key(result.key), position(result.position), result.stamp)
        for result in _body(answer, _BatchBody).results
    )


def page(cluster: str, answer: Answer) -> Page:
    """Read the answer to a list. Raises BadAnswer."""
    body = _body(answer, _ListBody)
    items = tuple(
        Item(_key(item.key), position(item.position), item.stamp, _decoded(item.value_base64), item.expires)
        for item in body.items
    )
    return Page(items, body.next, cluster, position(body.position))


def change(cluster: str, kind: Literal["put", "delete"], data: bytes) -> Event:
    """Read the data of a watch's event. Raises BadAnswer."""
    body = _decode(data, _Change, "an event")
    return Event(
        kind,
        _key(body.key),
        position(body.position),
        body.stamp,
        body.origin,
        cluster,
        _decoded(body.value_base64),
        body.expires,
    )


def ended(cluster: str, data: bytes) -> GreyError:
    """Read why a watch ended. Raises BadAnswer."""
    body = _decode(data, _Ended, "the end of a watch")
    return BY_CODE.get(body.code, GreyError)(body.message, cluster=cluster, detail={"code": body.code})


def _body(answer: Answer, kind: type[T]) -> T:
    return _decode(answer.body, kind, "the body of the answer")


def _decode(data: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"{what} is not what the API promises: {error}") from None


def position(text: str) -> Position:
    """Read a position. Raises BadAnswer."""
    try:
        return Position.parse(text)
    except ValueError as error:
        raise BadAnswer(str(error)) from None


def _key(text: str) -> bytes:
    try:
        return from_text(text)
    except ValueError as error:
        raise BadAnswer(str(error)) from None


def _decoded(text: str | None) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadAnswer(f"a value is not base64: {error}") from None


def _replayed(answer: Answer) -> bool:
    return answer.headers.get(_REPLAYED) == "true"
