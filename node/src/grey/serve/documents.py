# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the key-value API takes and gives as JSON. ``grey.serve.openapi`` describes these very types."""

from __future__ import annotations

import base64
import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from grey.serve import http

if TYPE_CHECKING:
    from grey.data.writer import Written
    from grey.record import Envelope

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 1024 * 1024
MAX_BATCH_OPERATIONS = 100
MAX_BATCH_BODY_BYTES = 2 * 1024 * 1024
"""Room for 1 MiB of values in base64 and 100 long keys, percent-encoded."""
MAX_PAGE_ITEMS = 1000
DEFAULT_PAGE_ITEMS = 100
MIN_TTL_SECONDS = 1.0
MAX_TTL_SECONDS = 3650 * 86400.0

# The patterns are for the document; what arrives is checked in ``grey.serve.parameters``, with better words.
POSITION_PATTERN = r"(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})"
DURATION_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,6})?(us|ms|s|m|h|d)$"
_KEY_PATTERN = "^([!-$&-~]|%([01][0-9A-F]|2[05]|7F|[89A-F][0-9A-F]))+$"
_BASE64_PATTERN = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

KeyText = Annotated[
    str,
    Meta(
        description="A key: printable ASCII in which % and every other byte stand as %XX.",
        extra_json_schema={"pattern": _KEY_PATTERN, "maxLength": 3 * MAX_KEY_BYTES},
    ),
]
PositionText = Annotated[
    str,
    Meta(
        description="EPOCH.SEQUENCE, the same on every cluster.",
        examples=["1.42"],
        extra_json_schema={"pattern": f"^{POSITION_PATTERN}$"},
    ),
]
StampText = Annotated[
    str, Meta(description="Hybrid clock: MICROSECONDS.COUNTER.", examples=["1795390000000000.0"])
]
Base64Text = Annotated[
    str,
    Meta(
        description="The bytes of a value.",
        extra_json_schema={"contentEncoding": "base64", "pattern": _BASE64_PATTERN},
    ),
]
DurationText = Annotated[
    str,
    Meta(
        description="A number and us, ms, s, m, h or d; from 1s to 3650d.",
        examples=["30s"],
        extra_json_schema={"pattern": DURATION_PATTERN},
    ),
]
TimeText = Annotated[
    str,
    Meta(description="When the key is deleted (RFC 3339, UTC).", extra_json_schema={"format": "date-time"}),
]


EndCode = Annotated[
    str,
    Meta(
        description="Why the watch ended.",
        extra_json_schema={
            "enum": [
                "stopping",
                "slow_consumer",
                "copied",
                "compacted",
                "diverged",
                "unavailable",
                "internal",
            ]
        },
    ),
]


class PutOperation(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="put"):
    """Set a key; of ``if_absent`` and ``if_position`` at most one is given."""

    key: KeyText
    value_base64: Base64Text
    ttl: DurationText | None = None
    if_absent: bool = False
    if_position: PositionText | None = None


class DeleteOperation(msgspec.Struct, forbid_unknown_fields=True, tag_field="op", tag="delete"):
    """Delete a key."""

    key: KeyText
    if_position: PositionText | None = None


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a batch: operations on distinct keys."""

    operations: list[PutOperation | DeleteOperation]


class Done(msgspec.Struct):
    """What one operation came to. ``position`` and ``stamp`` are null when nothing was there to delete."""

    key: KeyText
    position: PositionText | None
    stamp: StampText | None


class Deleted(Done):
    """What a delete came to."""

    existed: bool


class BatchDone(msgspec.Struct):
    """What the operations of a batch came to, in their order."""

    results: list[Done]


class ListedItem(msgspec.Struct):
    """One key of a page: without ``value_base64`` with values=false, with ``expires`` if it has a ttl."""

    key: KeyText
    position: PositionText
    stamp: StampText
    value_base64: Base64Text | UnsetType = UNSET
    expires: TimeText | UnsetType = UNSET


class Listed(msgspec.Struct):
    """A page of keys. ``position`` is that of the snapshot to which all pages of the walk belong."""

    items: list[ListedItem]
    next: str | None
    position: PositionText


class Changed(msgspec.Struct):
    """The data of a put or delete event of a watch."""

    key: KeyText
    position: PositionText
    stamp: StampText
    origin: str
    value_base64: Base64Text | UnsetType = UNSET
    expires: TimeText | UnsetType = UNSET


class Progressed(msgspec.Struct):
    """The data of a progress event: nothing up to this position was left out."""

    position: PositionText


class Ended(msgspec.Struct):
    """The data of the last event of a watch that the node ends."""

    code: EndCode
    message: str


def time_text(microseconds: int) -> str:
    """Return a time (microseconds since the Unix epoch) in RFC 3339."""
    seconds, rest = divmod(microseconds, 1_000_000)
    found = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{found:%Y-%m-%dT%H:%M:%S}.{rest:06}Z"


def done(written: Written) -> Done:
    """Say what a put, or a delete in a batch, came to."""
    return Done(
        http.key_text(written.key),
        None if written.position is None else str(written.position),
        None if written.stamp is None else str(written.stamp),
    )


def deleted(written: Written) -> Deleted:
    """Say what a delete came to."""
    what = done(written)
    return Deleted(what.key, what.position, what.stamp, written.existed)


def listed(envelope: Envelope, *, values: bool) -> ListedItem:
    """Return the entry of a key that exists."""
    return ListedItem(
        http.key_text(envelope.key),
        str(envelope.position),
        str(envelope.stamp),
        _value(envelope) if values else UNSET,
        UNSET if envelope.expires is None else time_text(envelope.expires),
    )


def changed(envelope: Envelope, *, values: bool) -> Changed:
    """Return what a watcher is told of a change."""
    return Changed(
        http.key_text(envelope.key),
        str(envelope.position),
        str(envelope.stamp),
        envelope.origin,
        _value(envelope) if values and envelope.value is not None else UNSET,
        UNSET if envelope.expires is None else time_text(envelope.expires),
    )


def _value(envelope: Envelope) -> str:
    return base64.b64encode(envelope.value or b"").decode("ascii")
