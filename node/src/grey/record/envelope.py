# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The envelope in which a value is stored and shipped (design, section 4).

Encoded as a MessagePack array: fields are only ever appended, with a default, so that a node reads the
envelopes of an older one and ignores what a newer one adds.
"""

from __future__ import annotations

import msgspec

from grey.record.clock import Stamp
from grey.record.position import Position


class RequestRef(msgspec.Struct, frozen=True, array_like=True):
    """The client request that wrote a record; a batch writes ``count`` records, this is number ``index``.

    ``digest`` is a digest of what was asked, so that one id used for two different requests is noticed.
    """

    id: str
    index: int
    count: int
    digest: bytes


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """One version of one key. ``value`` is None for a deletion, which is kept and replicated (tombstone).

    ``expires`` is when the primary deletes the version, in microseconds since the Unix epoch on the
    primary's clock (None: never). Nobody else judges it by a clock: the deletion is a record like any other.
    """

    key: bytes
    value: bytes | None
    position: Position
    stamp: Stamp
    origin: str
    request: RequestRef | None = None
    expires: int | None = None

    @property
    def deleted(self) -> bool:
        """Whether this version says that the key is gone."""
        return self.value is None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    """Return the stored form of an envelope."""
    return _encoder.encode(envelope)


def decode(data: bytes) -> Envelope:
    """Read the stored form of an envelope; raises msgspec.DecodeError when it is damaged."""
    return _decoder.decode(data)


def is_deletion(data: bytes) -> bool:
    """Say whether a stored envelope has no value, without reading the rest of it; damage says no.

    Source: the MessagePack specification, formats ``bin 8``, ``bin 16`` and ``nil``.
    """
    form = data[1:2]
    if form == b"\xc4":
        place = 3 + data[2] if len(data) > 2 else 0
    elif form == b"\xc5":
        place = 4 + int.from_bytes(data[2:4], "big")
    else:
        return False
    return data[place : place + 1] == b"\xc0"
