# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""gzip both ways: limits count unpacked bytes, and nobody gets packed bytes who did not ask."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from grey.serve.documents import MAX_VALUE_BYTES
from grey.serve.encoding import Unpacker, accepts_gzip
from grey.serve.errors import ApiError

if TYPE_CHECKING:
    from support.serving import Serving

GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
async def raw(node: Serving) -> Any:
    """A client that leaves bodies as they come."""
    async with aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session:

        async def ask(path: str, accepted: str | None) -> tuple[Any, bytes]:
            url = URL(f"http://127.0.0.1:{node.port}{path}", encoded=True)
            headers = {} if accepted is None else {"Accept-Encoding": accepted}
            async with session.get(url, headers=headers) as response:
                return response.headers, await response.read()

        yield ask


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5, br", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("", False),
        ("gzipx", False),
        ("gzip;q=2", False),
    ],
)
def test_who_accepts_gzip(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


async def test_packed_values_are_taken(node: Serving) -> None:
    value = b"x" * MAX_VALUE_BYTES
    put = await node.ask("PUT", "/v1/kv/a", data=gzip.compress(value), headers=GZIP)
    assert put.status == 200
    assert (await node.ask("GET", "/v1/kv/a")).body == value
    empty = await node.ask("PUT", "/v1/kv/b", data=gzip.compress(b""), headers=GZIP)
    assert empty.status == 200
    batch = gzip.compress(b'{"operations": [{"op": "delete", "key": "a"}]}')
    assert (await node.ask("POST", "/v1/batch", data=batch, headers=GZIP)).status == 200


async def test_a_bomb_is_refused_at_the_limit(node: Serving) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000, 9)
    assert len(bomb) < 100_000
    answer = await node.ask("PUT", "/v1/kv/a", data=bomb, headers=GZIP)
    assert (answer.status, answer.error["limit_bytes"]) == (413, MAX_VALUE_BYTES)


def test_no_more_than_the_limit_is_ever_unpacked() -> None:
    unpacker = Unpacker(1000, "the value")
    with pytest.raises(ApiError, match="the value is over the limit of 1000 bytes"):
        unpacker.feed(gzip.compress(b"\0" * 10_000_000, 9))
    assert unpacker._left == -1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"plain", "the value is not gzip as its Content-Encoding says"),
        (gzip.compress(b"hello")[:-4], "the value: its gzip form breaks off"),
        (gzip.compress(b"hello") + b"x", "the value: more follows the end of its gzip form"),
        (gzip.compress(b"a") + gzip.compress(b"b"), "the value: more follows the end of its gzip form"),
        (b"", "the value: its gzip form breaks off"),
        (zlib.compress(b"hello"), "the value is not gzip as its Content-Encoding says"),
    ],
    ids=["plain", "cut", "more", "two", "empty", "zlib"],
)
async def test_damaged_bodies(node: Serving, body: bytes, message: str) -> None:
    answer = await node.ask("PUT", "/v1/kv/a", data=body, headers=GZIP)
    assert answer.status == 400
    assert answer.error["message"].startswith(message)
    assert (await node.ask("GET", "/v1/kv/a")).status == 404


async def test_an_unknown_encoding(node: Serving) -> None:
    for encoding in ("br", "gzip, gzip", "deflate"):
        answer = await node.ask("PUT", "/v1/kv/a", data=b"x", headers={"Content-Encoding": encoding})
        assert (answer.status, answer.error["code"]) == (415, "bad_request")
        assert answer.headers["Accept-Encoding"] == "gzip, identity"
    plain = await node.ask("PUT", "/v1/kv/a", data=b"x", headers={"Content-Encoding": "identity"})
    assert plain.status == 200


async def test_long_lists_are_packed(node: Serving, raw: Any) -> None:
    await node.ask("PUT", "/v1/kv/a", data=b"y" * 2000)
    headers, body = await raw("/v1/kv", "gzip, deflate")
    assert (headers["Content-Encoding"], headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert int(headers["Content-Length"]) == len(body) < 2000
    headers, plain = await raw("/v1/kv", None)
    assert "Content-Encoding" not in headers
    assert headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(body) == plain
    headers, _ = await raw("/v1/kv?values=false", "gzip")
    assert "Content-Encoding" not in headers


async def test_values_are_packed_for_who_names_gzip_alone(node: Serving, raw: Any) -> None:
    value = b"z" * 100_000
    await node.ask("PUT", "/v1/kv/a", data=value)
    headers, body = await raw("/v1/kv/a", "gzip, deflate")
    assert ("Content-Encoding" in headers, body) == (False, value)
    headers, body = await raw("/v1/kv/a", "gzip")
    assert (headers["Content-Encoding"], gzip.decompress(body)) == ("gzip", value)
    assert headers["ETag"] == '"1.1"'
