# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports close while clients with connections that stay open ask on: no request that was sent fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grey.serve.server import Site

if TYPE_CHECKING:
    from support.serving import Serving

CLIENTS = 32
ENOUGH = 10


async def ask_until_told(port: int, number: int, counts: list[int]) -> None:
    """Write again and again over one connection until an answer says that it will be closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(b"PUT /v1/kv/%d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" % number)
            try:
                head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).lower()
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            except (ConnectionError, asyncio.IncompleteReadError):
                raise AssertionError("a connection broke without notice under a request") from None
            assert head.startswith(b"http/1.1 200 ok")
            counts[number] += 1
            if b"connection: close" in head:
                return
    finally:
        writer.transport.abort()


async def no_request_fails(node: Serving) -> None:
    """Stop the ports of a node under load."""
    counts = [0] * CLIENTS
    clients = [asyncio.create_task(ask_until_told(node.port, number, counts)) for number in range(CLIENTS)]
    try:
        async with asyncio.timeout(60):
            while min(counts) < ENOUGH:  # noqa: ASYNC110 - the clients only count
                await asyncio.sleep(0.01)
            await asyncio.gather(node.sites.stop(), *clients)
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def test_a_stop_under_load_fails_nothing(node: Serving) -> None:
    await no_request_fails(node)


async def test_what_is_being_served_is_answered(node: Serving) -> None:
    """A request whose body still comes when the stop begins, and one on a connection that rested."""
    async with node.connection() as (reader, writer), node.connection() as (resting, other):
        writer.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
        other.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Connection: close" not in await asyncio.wait_for(resting.readuntil(b"\r\n\r\n"), 20)
        node.view.state = "stopping"
        stopping = asyncio.create_task(node.sites.stop())
        await asyncio.sleep(0)
        writer.write(b"world")
        other.write(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"Connection: close" in answer
        late = await asyncio.wait_for(resting.read(), 20)
        assert b"HTTP/1.1 503 " in late
        assert b"the node is stopping" in late
        await stopping


async def test_health_outlives_the_others(node: Serving) -> None:
    node.sites._grace_seconds = 60.0
    port = await node.sites.start(Site("listen.metrics", "127.0.0.1", 0, node.door, None, outlives=True))
    async with node.connection() as (_, busy):
        busy.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
        async with asyncio.timeout(20):
            while not any(each.busy for each in node.server.open()):  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
            stopping = asyncio.create_task(node.sites.stop())
            while await listens(node.port):  # noqa: ASYNC110 - nor here
                await asyncio.sleep(0.01)
        assert await listens(port)
    await asyncio.wait_for(stopping, 20)
    assert not await listens(port)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except (ConnectionRefusedError, ConnectionResetError):
        # Reset: it was closed while the connection waited to be taken.
        return False
    writer.transport.abort()
    return True
