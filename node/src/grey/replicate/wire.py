# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a follower and a source say to each other.

**The stream.** Every message is one MessagePack array whose first element is its name; at most
``MAX_MESSAGE_BYTES`` long. Fields are only ever appended, with a default; what changes the meaning raises
``VERSION``.

=========  =========  ======================================================================================
message    sent by    meaning
=========  =========  ======================================================================================
Hello      follower   first message: "I hold everything up to ``from_position``, go on after it". ``last``
                      is the provenance of its record there, as far as it keeps it: a history that forked
                      within one epoch has other records at the same positions
Welcome    source     the answer: who serves, in which epoch, and the position it stands at
Refused    source     the answer, or at any later time the last message: why there is no stream (any more)
Records    source     the next records: whole engine transactions of the source, in order, without a hole
Confirm    follower   everything up to this position is durable here; makes room for more batches
Probe      follower   "how far are you, and are you still the primary?"
Answer     source     the position that the source stood at after it got the probe. ``fenced`` says that it
                      was allowed to write in the epoch of the stream *after* it read that position. Whoever
                      gets it and does not hold ``shipped`` has lost the end of the stream
=========  =========  ======================================================================================

A transaction is the list of its encoded envelopes in order of position, and it is the unit of atomicity:
client batches never span two. When a follower joins in the middle of a transaction (it followed another
primary before) it gets the rest of it. An Answer may name a head that later Records reach. The source sends
at most a few unconfirmed batches.

**The full copy.** Pages of the source's ranges ``k/`` and ``r/`` in key order: stored keys and stored values
as they are. A page says how far the source stood before (``since``) and after (``until``) it was read. It is
asked for with the token ``next`` of the page before it; the token is the stored key that the next page starts
after, and the page without a token is the last. Instead of a page the body may be a Refused.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from grey.data.history import Provenance
from grey.record import Position

VERSION = 1
MAX_MESSAGE_BYTES = 8 * 1024 * 1024

RefusalCode = Literal["not_primary", "compacted", "diverged", "version"]


class ProtocolError(Exception):
    """The other side sent something that this protocol does not have; the message says what."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """The follower's first message. ``version`` stays the first field in all versions."""

    version: int
    cluster: str
    from_position: Position
    last: Provenance | None = None


class Probe(msgspec.Struct, frozen=True, array_like=True, tag="probe"):
    """Asks for an Answer with the same nonce."""

    nonce: int


class Confirm(msgspec.Struct, frozen=True, array_like=True, tag="confirm"):
    """Everything up to ``position`` is durable at the follower."""

    position: Position


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag="welcome"):
    """The stream begins. ``head`` is the position of the source's newest record."""

    version: int
    cluster: str
    epoch: int
    head: Position


class Records(msgspec.Struct, frozen=True, array_like=True, tag="records"):
    """Whole transactions, each a list of encoded envelopes; ``head`` is the source's newest position."""

    transactions: list[list[bytes]]
    head: Position


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """Answers a Probe. ``shipped`` is the position of the last record that was sent before this message."""

    nonce: int
    head: Position
    fenced: bool
    shipped: Position


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The source does not serve (any more); nothing follows it. ``message`` is for people."""

    code: RefusalCode
    message: str


class SnapshotPage(msgspec.Struct, frozen=True, array_like=True, tag="page"):
    """One page of a full copy; ``items`` are pairs of stored key and stored value in key order."""

    cluster: str
    epoch: int
    since: Position
    until: Position
    items: list[tuple[bytes, bytes]]
    next: bytes | None


FromFollower = Hello | Probe | Confirm
FromSource = Welcome | Records | Answer | Refused


class SourceRefused(Exception):
    """The source said no; ``refused`` is what it sent."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"{refused.message} ({refused.code})")
        self.refused = refused


_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()
_from_follower: msgspec.msgpack.Decoder[FromFollower] = msgspec.msgpack.Decoder(FromFollower)
_from_source: msgspec.msgpack.Decoder[FromSource] = msgspec.msgpack.Decoder(FromSource)
_page: msgspec.msgpack.Decoder[SnapshotPage | Refused] = msgspec.msgpack.Decoder(SnapshotPage | Refused)


def encode(message: FromFollower | FromSource | SnapshotPage) -> bytes:
    """Return the bytes of a message; raises ProtocolError when they are more than may be sent."""
    data = _encoder.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(_too_long(len(data)))
    return data


def decode_from_follower(data: bytes) -> FromFollower:
    """Read a message of a follower; raises ProtocolError."""
    return _decode(_from_follower, data, "a follower's message")


def decode_from_source(data: bytes) -> FromSource:
    """Read a message of a source; raises ProtocolError."""
    return _decode(_from_source, data, "a source's message")


def decode_page(data: bytes) -> SnapshotPage:
    """Read the body of an answer for a page; raises ProtocolError, or SourceRefused when it is a refusal."""
    page = _decode(_page, data, "a page of a full copy")
    if isinstance(page, Refused):
        raise SourceRefused(page)
    return page


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes, wanted: str) -> _T:
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(_too_long(len(data)))
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"wanted {wanted}, found {len(data)} bytes that are none: {error}") from error


def _too_long(length: int) -> str:
    return f"a message may have {MAX_MESSAGE_BYTES} bytes, this one has {length}"
