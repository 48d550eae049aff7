# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that no client would send, and how many of them.

They are the same in each run, so that CI fails for what was changed alone. A longer search: set
GREY_FUZZ_SEED (a number, for each of which the run is another one) and GREY_FUZZ_EXAMPLES (of each test; 400
unless told), for example ``GREY_FUZZ_SEED=$RANDOM GREY_FUZZ_EXAMPLES=20000 pytest tests/serve/test_fuzz.py``.
"""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING, TypeVar

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from contextlib import AbstractContextManager

T = TypeVar("T", bound="Callable[..., None]")

GROWTH_BYTES = 48 * 1024 * 1024
"""More than what a process takes once for its buffers and caches; a leak of 100 KiB a request would show."""

_SEED = os.environ.get("GREY_FUZZ_SEED")
_EXAMPLES = int(os.environ.get("GREY_FUZZ_EXAMPLES", "400"))


def bounded(test: T) -> T:
    """Set how many examples a test of Hypothesis takes, and which."""
    limited = settings(
        max_examples=_EXAMPLES,
        derandomize=_SEED is None,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )(test)
    return limited if _SEED is None else seed(int(_SEED))(limited)


METHODS = st.sampled_from(b"GET PUT DELETE POST HEAD OPTIONS PATCH PRI get".split())
NAMES = st.sampled_from(
    [
        *b"Host Content-Length Transfer-Encoding Content-Encoding Accept-Encoding Connection Expect".split(),
        *b"If-Match If-None-Match Grey-Request-Id Last-Event-ID Upgrade Range X Content-Type Cookie".split(),
        b"",
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *b"x 0 5 -1 99999999999999 chunked gzip identity close keep-alive 100-continue *".split(),
            *b'websocket h2c upgrade "1.1" W/"1.1" "" "1.99999999999999999999" +5 0x5 \xff\xfe'.split(),
            *(b"gzip, chunked", b"1, 1", b"a" * 9000),
        ]
    ),
    st.binary(max_size=20),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
BODIES = st.one_of(
    st.just(b""),
    st.binary(max_size=64),
    st.sampled_from(
        [
            b"5\r\nhello\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b"-1\r\n\r\n",
            b"5;x=y\r\nhel",
            b"0\r\nX: y\r\n\r\n",
            b"hello",
            gzip.compress(b"\0" * 5_000_000, mtime=0),
            gzip.compress(b"{}", mtime=0)[:-3],
            b'{"operations":[' * 300,
            b'{"operations":[{}]}',
            b"\r\n" * 100,
        ]
    ),
)


@st.composite
def requests(draw: st.DrawFn, targets: st.SearchStrategy[bytes]) -> bytes:
    """One to three requests that are wrong in one way or several, or not at all."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        method, target, headers, body = draw(METHODS), draw(targets), draw(HEADERS), draw(BODIES)
        version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""]))
        if draw(st.booleans()):
            headers = [(b"Host", b"x"), (b"Content-Length", b"%d" % len(body)), *headers]
        parts.append(b"%s %s %s\r\n" % (method, target, version))
        parts += [b"%s: %s\r\n" % pair for pair in headers]
        parts += [b"\r\n", body]
    return b"".join(parts)


def exchange(
    connect: Callable[[], AbstractContextManager[socket.socket]], data: bytes, patience: float = 20.0
) -> bytes:
    """Send bytes; return what comes until the node closes, or says nothing for ``patience`` seconds."""
    found = b""
    with connect() as connection:
        try:
            connection.sendall(data)
            connection.settimeout(patience)
            while part := connection.recv(65536):
                found = (found + part)[:100_000]
        except OSError:
            pass  # a node that refuses early closes, and what was sent too late destroys its answer
    return found
