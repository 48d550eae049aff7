# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Request ids: what is kept of a carried out request, so that a retry is answered and not carried out again.

An entry is made from the records alone, so that a replica stores the very same one as the primary.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from grey.data import keyspace
from grey.data.conditions import AnyCondition, describe
from grey.record.clock import Stamp
from grey.record.position import ORIGIN, Position
from grey.store.interface import StoreDamaged, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from grey.record.envelope import Envelope

_DIGEST_BYTES = 16


class RequestEntry(msgspec.Struct, frozen=True, array_like=True):
    """What a request id stands for: its records have the positions ``first`` and the ``count - 1`` after it.

    A ``count`` of 0 is a delete that found nothing: no record tells of it, only this cluster knows its id.
    ``stamp`` is that of all its records; ``wall_seconds`` is when it was carried out, since the Unix epoch.
    """

    first: Position
    count: int
    stamp: Stamp
    digest: bytes
    wall_seconds: int

    def position(self, index: int) -> Position:
        """Return the position of record ``index`` of the request."""
        return Position(self.first.epoch, self.first.sequence + index)


class Operation(msgspec.Struct, frozen=True):
    """Put ``value`` under ``key``, or delete the key (None).

    A put with ``ttl_seconds`` is deleted by the primary that much later. Nothing is written unless
    ``condition`` holds.
    """

    key: bytes
    value: bytes | None
    ttl_seconds: float | None = None
    condition: AnyCondition | None = None


class Written(msgspec.Struct, frozen=True):
    """The outcome of one operation that is durable.

    ``existed`` is False for the delete of a key that was not there: nothing was written then, and
    ``position`` and ``stamp`` are None. ``replayed`` says that an earlier request with the same id did it.
    """

    key: bytes
    position: Position | None
    stamp: Stamp | None
    existed: bool = True
    replayed: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RequestEntry)


def encode_entry(entry: RequestEntry) -> bytes:
    """Return the stored form of an entry."""
    return _encoder.encode(entry)


def decode_entry(data: bytes) -> RequestEntry:
    """Read the stored form of an entry; raises StoreDamaged."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"an entry of a request id cannot be read: {error}; restore a backup") from error


def digest(operations: Sequence[Operation], *, batch: bool) -> bytes:
    """Return a digest of what a request asks for; different requests have different ones."""
    parts = [b"batch" if batch else b"single"]
    for operation in operations:
        key, value = operation.key, operation.value
        parts += (b"%d,%d:" % (len(key), -1 if value is None else len(value)), key, value or b"")
        if operation.ttl_seconds is not None:
            parts.append(b"ttl %r;" % operation.ttl_seconds)
        if operation.condition is not None:
            parts.append(b"if %s;" % describe(operation.condition).encode("ascii"))
    return hashlib.blake2b(b"".join(parts), digest_size=_DIGEST_BYTES).digest()


def needless_write(request_id: str, asked: bytes, stamp: Stamp) -> Write:
    """Return the write that keeps the id of a delete that found nothing; ``asked`` is its digest."""
    entry = RequestEntry(ORIGIN, 0, stamp, asked, stamp.microseconds // 1_000_000)
    return Write(keyspace.request_key(request_id), encode_entry(entry))


def entry_writes(envelopes: Iterable[Envelope]) -> list[Write]:
    """Return the writes that keep the request ids of some records, one for each id.

    The records of a request may be given in part: each of them says where the first one stands.
    """
    entries: dict[str, RequestEntry] = {}
    for envelope in envelopes:
        request = envelope.request
        if request is not None:
            position = envelope.position
            entries[request.id] = RequestEntry(
                first=Position(position.epoch, position.sequence - request.index),
                count=request.count,
                stamp=envelope.stamp,
                digest=request.digest,
                wall_seconds=envelope.stamp.microseconds // 1_000_000,
            )
    return [Write(keyspace.request_key(name), encode_entry(entry)) for name, entry in entries.items()]
