# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-sent events from bytes in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grey.client import BadAnswer
from grey.client.sse import MAX_MESSAGE_BYTES, Message, Parser

STREAM = (
    b": a comment\n\n"
    b"event: progress\nid: 1.1\n\n"
    b'event: put\r\nid: 1.2\r\ndata: {"a": 1}\r\n\r\n'
    b"data: one\rdata:two\rdata\r\r"
    b"id\nretry: 5\nunknown: x\nevent: end\ndata:  {}\n\n"
    b"event: cut"
)
MESSAGES = [
    Message("progress", "1.1", b""),
    Message("put", "1.2", b'{"a": 1}'),
    Message("message", "1.2", b"one\ntwo\n"),
    Message("end", "", b" {}"),
]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    parser, found = Parser(), []
    ends = [*sorted(cuts), len(STREAM)]
    for start, end in zip([0, *ends], ends, strict=False):
        found += parser.feed(STREAM[start:end])
    assert found == MESSAGES


def test_one_byte_at_a_time() -> None:
    parser = Parser()
    assert [message for byte in STREAM for message in parser.feed(bytes([byte]))] == MESSAGES


@given(st.binary(max_size=200))
def test_anything_can_be_read(data: bytes) -> None:
    for message in Parser().feed(data):
        assert message.event


@pytest.mark.parametrize("line", [b"data: " + bytes(1_000_000) + b"\n", bytes(1_000_000)])
def test_what_never_ends_is_not_kept(line: bytes) -> None:
    parser = Parser()
    with pytest.raises(BadAnswer, match=f"more than {MAX_MESSAGE_BYTES} bytes"):
        for _ in range(6):
            list(parser.feed(line))


def test_the_largest_value_fits() -> None:
    data = b"x" * 1_500_000
    assert [len(message.data) for message in Parser().feed(b"data: " + data + b"\n\n")] == [1_500_000]
