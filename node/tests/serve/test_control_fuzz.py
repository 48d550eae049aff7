# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster with a right certificate and a wrong program may send to the control plane.

``support.fuzzing`` says how to search longer.
"""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.control import IDENTITY, REPORT
from support.fuzzing import GROWTH_BYTES, bounded, exchange, requests
from support.serving_process import ServingProcess, serving_process

from grey.config.model import TlsFiles
from grey.link.tls import client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

ANSWER = rb"HTTP/1\.[01] ([1-5][0-9]{2}) "


class Peer(NamedTuple):
    """The node, and how gcp-west dials it."""

    node: ServingProcess
    context: ssl.SSLContext

    def dial(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.node.port), timeout=20)
        return self.context.wrap_socket(plain, server_hostname=IDENTITY)

    def send(self, data: bytes, patience: float = 20.0) -> bytes:
        return exchange(self.dial, data, patience)

    def get(self, path: bytes) -> bytes:
        """Ask for a page; the answer's head and body."""
        return self.send(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)

    def unharmed(self, before: int) -> None:
        assert self.node.alive()
        assert b" 200 OK" in self.get(b"/v1/federation/members")
        assert self.node.faults() == ""
        assert self.node.memory_bytes() - before < GROWTH_BYTES

    def warm(self) -> int:
        """Let the process take what it takes once; return its memory then."""
        for _ in range(50):
            assert self.put(json.dumps(REPORT).encode()) == 204
        return self.node.memory_bytes()

    def put(self, body: bytes) -> int:
        """Send a report; return the answer's status."""
        head = b"PUT /v1/federation/members/gcp-west HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        found = self.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        status = re.match(ANSWER, found)
        assert status, found[:500]
        return int(status[1])


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    folder = tmp_path_factory.mktemp("fuzz")
    with serving_process(folder, "control") as process:
        own = folder / "gcp-west"
        files = TlsFiles(str(own / "cert.pem"), str(own / "key.pem"), str(own / "ca.pem"))
        yield Peer(process, client_context(files))


PIECES = st.sampled_from(
    [
        *b"/v1/federation/ status role members members/ gcp-west aws-east /v1/cluster/state".split(),
        *b"/v1/replication/stream /v1/replication/snapshot ?from= ?after= 1.1 0.0 & = # %00 %zz / ..".split(),
        *(b" ", b"\x00", b"\xff", b"%2F" * 50),
    ]
)
TARGETS = st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=6).map(b"".join)


def test_requests_of_any_kind(peer: Peer) -> None:
    before = peer.warm()

    @bounded
    @given(st.one_of(st.binary(max_size=3000), requests(TARGETS)))
    def check(data: bytes) -> None:
        found = peer.send(data, patience=0.02)
        assert found == b"" or re.match(ANSWER, found), found[:200]
        assert not re.search(rb"HTTP/1\.[01] 500 ", found), found[:500]

    check()
    peer.unharmed(before)


NUMBERS = st.one_of(
    st.integers(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([10**400, -(2**63), 2**64])
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20))
FIELDS = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=5), SCALARS))
NAMES = st.sampled_from([*REPORT, "problem", "oldest", "x"])


def test_reports_of_any_kind(peer: Peer) -> None:
    before = peer.warm()
    seen = set()

    @bounded
    @given(
        st.one_of(
            st.dictionaries(NAMES, FIELDS, max_size=3).map(lambda wrong: {**REPORT, **wrong}),
            st.dictionaries(NAMES, FIELDS),
            FIELDS,
        )
    )
    def check(report: object) -> None:
        status = peer.put(json.dumps(report).encode())
        seen.add(status)
        assert status in {204, 400, 413}
        # What was taken is read by every other cluster.
        found = peer.get(b"/v1/federation/members")
        assert b" 200 OK" in found, (report, found[:500])

    check()
    assert {204, 400} <= seen
    peer.unharmed(before)


def test_pages_and_streams_from_anywhere(peer: Peer) -> None:
    before = peer.warm()
    texts = st.one_of(
        st.sampled_from(
            [*b"1.1 0.0 -1.1 1.99999999999999999999 d%2Fa d r %00 %zz + %ff".split(), b"%2F" * 400]
        ),
        st.binary(max_size=12),
    )
    names = st.sampled_from([*b"from after x".split(), b""])
    queries = st.lists(st.tuples(names, texts).map(b"=".join), max_size=3).map(b"&".join)
    upgrade = (
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )

    @bounded
    @given(st.sampled_from([b"stream", b"snapshot"]), queries, st.booleans(), st.binary(max_size=200))
    def check(what: bytes, query: bytes, switch: bool, then: bytes) -> None:
        head = b"GET /v1/replication/%s?%s HTTP/1.1\r\nHost: x\r\n" % (what, query)
        head += b"Connection: Upgrade\r\n" + upgrade if switch else b"Connection: close\r\n"
        found = peer.send(head + b"\r\n" + then, patience=0.05)
        assert found == b"" or re.match(rb"HTTP/1\.[01] (101|200|400) ", found), found[:500]

    check()
    peer.unharmed(before)
