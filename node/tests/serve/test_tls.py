# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports with TLS: whose rate is counted, handshakes that never end, and contexts that are made anew."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
from support.pki import Authority
from support.serving import serving

from grey.config.model import ApiLimits
from grey.link.tls import client_context, server_context
from grey.serve import server
from grey.serve.server import Site

if TYPE_CHECKING:
    from pathlib import Path

    from support.serving import Serving

    from grey.config.model import TlsFiles


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> TlsFiles:
    return authority.issue(tmp_path / "node", "aws-east", dns=["aws-east.test"])


async def listen(node: Serving, files: TlsFiles) -> int:
    def make() -> ssl.SSLContext:
        return server_context(files, mutual=True, node_to_node=False)

    return await node.sites.start(Site("listen.api", "127.0.0.1", 0, node.door, make))


async def ask(port: int, client: TlsFiles) -> tuple[bytes, str]:
    """Ask for a key that is missing; return the answer and the serial of the node's certificate."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(client), server_hostname="aws-east.test"
        )
        try:
            writer.write(b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return await reader.read(), writer.get_extra_info("peercert")["serialNumber"]
        finally:
            writer.transport.abort()


async def test_a_rate_is_that_of_the_name_in_the_certificate(
    tmp_path: Path, authority: Authority, files: TlsFiles
) -> None:
    one = authority.issue(tmp_path / "one", "one", dns=["one.test"])
    two = authority.issue(tmp_path / "two", "operator")
    async with serving(tmp_path, ApiLimits(requests_per_second=1)) as node:
        assert node.door._rates is not None
        node.door._rates._clock = lambda: 0.0
        port = await listen(node, files)
        assert b" 404 " in (await ask(port, one))[0]
        refused = (await ask(port, one))[0]
        assert b" 429 " in refused
        assert b"one.test sends more than 1 requests per second" in refused
        assert b" 404 " in (await ask(port, two))[0]
        assert b"operator sends more than" in (await ask(port, two))[0]


async def test_a_handshake_that_never_ends(
    node: Serving, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.3)
    port = await listen(node, files)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"\x16\x03\x01")
        # Nothing but the end comes, and no answer to a request that was never made.
        assert await asyncio.wait_for(reader.read(), 20) == b""
    finally:
        writer.transport.abort()


async def test_contexts_are_made_anew(
    node: Serving, tmp_path: Path, authority: Authority, files: TlsFiles
) -> None:
    client = authority.issue(tmp_path / "client", "client")
    port = await listen(node, files)
    open_before = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(client), server_hostname="aws-east.test"
    )
    _, before = await ask(port, client)
    next_authority = Authority("the next one")
    next_authority.issue(tmp_path / "node", "aws-east", dns=["aws-east.test"])
    await node.sites.renew(retire=True)
    new = next_authority.issue(tmp_path / "new", "client")
    answer, after = await ask(port, new)
    assert b" 404 " in answer
    assert before != after
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await ask(port, client)
    reader, writer = open_before
    writer.write(b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n")
    last = await asyncio.wait_for(reader.read(), 20)
    assert b" 404 " in last
    assert b"Connection: close" in last
    writer.transport.abort()


async def test_no_connection_is_lost_while_contexts_change(
    node: Serving, tmp_path: Path, authority: Authority, files: TlsFiles
) -> None:
    client = authority.issue(tmp_path / "client", "client")
    port = await listen(node, files)
    going = True

    async def knock() -> int:
        count = 0
        while going:
            assert b" 404 " in (await ask(port, client))[0]
            count += 1
        return count

    knocking = [asyncio.create_task(knock()) for _ in range(4)]
    for _ in range(20):
        await node.sites.renew(retire=True)
        await ask(port, client)
    going = False
    assert sum(await asyncio.gather(*knocking)) > 4
