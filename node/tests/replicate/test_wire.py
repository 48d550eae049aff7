# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import msgspec
import pytest

from grey.data.history import Provenance
from grey.record import Position, Stamp
from grey.replicate import wire

FROM_FOLLOWER = [
    wire.Hello(1, "gcp-west", Position(1, 42), Provenance(Stamp(5, 6), "aws-east")),
    wire.Hello(1, "gcp-west", Position(0, 0)),
    wire.Probe(7),
    wire.Confirm(Position(2, 3)),
]
FROM_SOURCE = [
    wire.Welcome(1, "aws-east", 3, Position(3, 9)),
    wire.Records([[b"a", b"b"], [b"c"]], Position(1, 3)),
    wire.Answer(7, Position(1, 3), True, Position(1, 2)),
    wire.Refused("compacted", "gone"),
]


@pytest.mark.parametrize("message", FROM_FOLLOWER, ids=lambda message: type(message).__name__)
def test_a_follower_is_understood(message: wire.FromFollower) -> None:
    assert wire.decode_from_follower(wire.encode(message)) == message
    with pytest.raises(wire.ProtocolError, match="a source's message"):
        wire.decode_from_source(wire.encode(message))


@pytest.mark.parametrize("message", FROM_SOURCE, ids=lambda message: type(message).__name__)
def test_a_source_is_understood(message: wire.FromSource) -> None:
    assert wire.decode_from_source(wire.encode(message)) == message
    with pytest.raises(wire.ProtocolError, match="a follower's message"):
        wire.decode_from_follower(wire.encode(message))


def test_the_form_of_hello_is_fixed() -> None:
    """An older and a newer release must read each other's version."""
    older = ["hello", 1, "gcp-west", [1, 42]]
    last = [[5, 6], "aws-east"]
    assert msgspec.msgpack.decode(wire.encode(FROM_FOLLOWER[0])) == [*older, last]
    assert msgspec.msgpack.decode(wire.encode(FROM_FOLLOWER[1])) == ["hello", 1, "gcp-west", [0, 0], None]
    assert wire.decode_from_follower(msgspec.msgpack.encode(older)) == wire.Hello(
        1, "gcp-west", Position(1, 42)
    )
    newer = msgspec.msgpack.encode(["hello", 2, "gcp-west", [1, 42], last, "something new"])
    assert wire.decode_from_follower(newer) == msgspec.structs.replace(FROM_FOLLOWER[0], version=2)


def test_a_page_or_a_refusal() -> None:
    page = wire.SnapshotPage("aws", 1, Position(1, 1), Position(1, 2), [(b"k/a", b"1")], b"k/a")
    assert wire.decode_page(wire.encode(page)) == page
    with pytest.raises(wire.SourceRefused, match="go away") as caught:
        wire.decode_page(wire.encode(wire.Refused("not_primary", "go away")))
    assert caught.value.refused.code == "not_primary"


@pytest.mark.parametrize("data", [b"", b"\xc1", b"hello", msgspec.msgpack.encode(["probe", "x"]), bytes(100)])
def test_nonsense_is_named(data: bytes) -> None:
    for decode in (wire.decode_from_follower, wire.decode_from_source, wire.decode_page):
        with pytest.raises(wire.ProtocolError, match=f"found {len(data)} bytes that are none"):
            decode(data)


def test_messages_are_bounded() -> None:
    too_long = wire.Records([[bytes(wire.MAX_MESSAGE_BYTES)]], Position(1, 1))
    with pytest.raises(wire.ProtocolError, match="a message may have 8388608 bytes"):
        wire.encode(too_long)
    with pytest.raises(wire.ProtocolError, match="a message may have 8388608 bytes, this one has 8388609"):
        wire.decode_from_source(bytes(wire.MAX_MESSAGE_BYTES + 1))
