# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that no client would send: the node neither fails nor grows, and serves the others meanwhile.

``support.fuzzing`` says how to search longer.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import urllib.request
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fuzzing import GROWTH_BYTES, bounded, exchange, requests
from support.serving_process import ServingProcess, serving_process

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with serving_process(tmp_path_factory.mktemp("fuzz")) as process:
        yield process


PIECES = st.sampled_from(
    [
        *b"/v1/kv/ /v1/kv /v1/batch /v1/watch /v1/openapi.json /health /replica".split(),
        *b"a %00 %zz / .. ? & = # *".split(),
        b"http://x/v1/kv/a",
        *b"prefix= after= limit= values= ttl= lag= consistency= strong bounded true".split(),
        *b"1 1.1 9999999999999999999".split(),
        *(b" ", b"\x00", b"\xff", b"%2F" * 50),
    ]
)
TARGETS = st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=8).map(b"".join)


def send(node: ServingProcess, data: bytes, patience: float = 20.0) -> bytes:
    """Send bytes to the API; see ``exchange``."""
    where = ("127.0.0.1", node.port)
    return exchange(lambda: socket.create_connection(where, timeout=20), data, patience)


def answers(node: ServingProcess, path: str = "/v1/kv") -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{node.port}{path}", timeout=20) as response:
        json.load(response)
        return int(response.status)


def unharmed(node: ServingProcess, before: int) -> None:
    assert node.alive()
    assert answers(node) == 200
    assert node.faults() == ""
    assert node.memory_bytes() - before < GROWTH_BYTES


def warm(node: ServingProcess) -> int:
    """Let the process take what it takes once; return its memory then."""
    head = b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n"
    for _ in range(50):
        assert b" 200 OK" in send(node, head + b"x" * 300_000)
        answers(node)
    return node.memory_bytes()


def test_bytes_of_any_kind(node: ServingProcess) -> None:
    before = warm(node)

    @bounded
    @given(st.one_of(st.binary(max_size=3000), requests(TARGETS)))
    def check(data: bytes) -> None:
        # An answer that comes later is not seen here, but a fault would stand in the log.
        found = send(node, data, patience=0.02)
        assert found == b"" or re.match(rb"HTTP/1\.[01] [1-5][0-9]{2} ", found), found[:200]
        assert not re.search(rb"HTTP/1\.[01] 500 ", found), found[:500]

    check()
    unharmed(node, before)


def test_what_is_cut_off_anywhere(node: ServingProcess) -> None:
    before = warm(node)
    whole = (
        b"PUT /v1/kv/cut?ttl=5m HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
        b"19\r\n" + gzip.compress(b"hello", mtime=0) + b"\r\n0\r\n\r\n"
    )
    assert b" 200 OK" in send(node, whole)
    for length in range(len(whole)):
        with socket.create_connection(("127.0.0.1", node.port), timeout=20) as connection:
            connection.sendall(whole[:length])
    unharmed(node, before)


def test_bombs_and_floods_do_not_stay_in_memory(node: ServingProcess) -> None:
    before = warm(node)
    bomb = gzip.compress(b"\0" * 100_000_000, 9)
    put = b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    for _ in range(30):
        assert b" 413 " in send(node, put + head + bomb)
    refused = (b"", b"HTTP/1.1 400")
    assert send(node, b"GET /" + b"a" * 10_000_000)[:12] in refused
    assert send(node, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1_000_000)[:12] in refused
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    assert send(node, put + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 400)[:12] in (
        b"",
        b"HTTP/1.1 413",
    )
    assert node.memory_bytes() - before < GROWTH_BYTES
    pipelined = b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n" * 3000
    assert send(node, pipelined, patience=1.0).startswith(b"HTTP/1.1 200 OK")
    unharmed(node, before)


def test_batches_of_any_kind(node: ServingProcess) -> None:
    before = warm(node)
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
    texts = st.one_of(st.sampled_from(["put", "delete", "a", "%00", "eA==", "1h", "1.1", "0.0"]), scalars)
    names = st.sampled_from(["op", "key", "value_base64", "ttl", "if_absent", "if_position", "x"])
    operations = st.lists(st.dictionaries(names, texts, max_size=7), max_size=4)
    bodies = st.one_of(
        st.builds(lambda each: {"operations": each}, operations),
        st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner)),
    )

    @bounded
    @given(bodies)
    def check(body: object) -> None:
        data = json.dumps(body).encode()
        head = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(
            data
        )
        found = send(node, head + data)
        assert re.match(rb"HTTP/1\.1 (200|400|412) ", found), found[:500]

    check()
    unharmed(node, before)


def test_who_asks_on_and_takes_nothing_is_not_written_for(node: ServingProcess) -> None:
    before = warm(node)
    value = b"x" * 60_000
    put = b"PUT /v1/kv/many HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(
        value
    )
    assert b" 200 OK" in send(node, put + value)
    asked = b"GET /v1/kv/many HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
    connections = [socket.create_connection(("127.0.0.1", node.port), timeout=1.0) for _ in range(4)]
    try:
        for connection in connections:
            with contextlib.suppress(TimeoutError):
                for _ in range(20):
                    connection.sendall(asked)
        for _ in range(200):
            assert answers(node) == 200
        assert node.memory_bytes() - before < GROWTH_BYTES
    finally:
        for connection in connections:
            connection.close()
    unharmed(node, before)


def test_watches_of_any_kind(node: ServingProcess) -> None:
    before = warm(node)
    texts = st.one_of(
        st.sampled_from(
            [
                *b"true false 1.1 1.51 7.2 0.0 1.99999999999999999999 -1.1 1 1. a %00 %zz + user".split(),
                *(b"", b"%2F" * 400, b"1" * 5000 + b".1"),
            ]
        ),
        st.binary(max_size=12),
    )
    names = st.sampled_from([*b"prefix after values limit x".split(), b""])
    queries = st.lists(st.tuples(names, texts).map(b"=".join), max_size=4).map(b"&".join)
    last = st.none() | texts.filter(lambda text: b"\r" not in text and b"\n" not in text)

    @bounded
    @given(queries, last, st.sampled_from([b"GET", b"GET", b"HEAD", b"PUT"]))
    def check(query: bytes, last: bytes | None, method: bytes) -> None:
        header = b"" if last is None else b"Last-Event-ID: %s\r\n" % last
        # A watch that begins now says so after half a second; that it is left earlier belongs to the test.
        request = b"%s /v1/watch?%s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (method, query, header)
        found = send(node, request, patience=0.05)
        assert found == b"" or re.match(rb"HTTP/1\.[01] (200|400|405|409|410|503) ", found), found[:500]
        assert b"event: end" not in found

    check()
    begun = b"GET /v1/watch?after=%s HTTP/1.1\r\nHost: x\r\n\r\n"
    assert b" 200 OK" in send(node, begun % b"0.0", patience=2.0)
    unharmed(node, before)
