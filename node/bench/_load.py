# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load for the benchmarks: bare keep-alive connections, closed loops, and what they measured."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

import msgspec

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

VALUE = b"x" * 100


class Figures(msgspec.Struct, frozen=True):
    """What a closed loop came to: operations per second, and latencies in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float

    def plain(self) -> dict[str, float]:
        """Return the figures rounded for printing."""
        return {
            "per_second": round(self.per_second),
            "p50_ms": round(self.p50_ms, 2),
            "p99_ms": round(self.p99_ms, 2),
            "p999_ms": round(self.p999_ms, 2),
        }


async def closed_loop(call: Callable[[int, int], Awaitable[object]], clients: int, seconds: float) -> Figures:
    """Let each of so many clients call again as soon as it is answered. ``call(client, number)``."""
    took: list[float] = []
    started = time.perf_counter()
    end = started + seconds

    async def one(client: int) -> None:
        number = client
        before = time.perf_counter()
        while before < end:
            await call(client, number)
            number += clients
            after = time.perf_counter()
            took.append(after - before)
            before = after

    await asyncio.gather(*map(one, range(clients)))
    elapsed = time.perf_counter() - started
    took.sort()
    return Figures(len(took) / elapsed, *(1000 * took[int(len(took) * part)] for part in (0.5, 0.99, 0.999)))


class Connection(asyncio.Protocol):
    """One keep-alive connection that sends the next request as soon as the last one is answered."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answered: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's TLS transport is no subclass

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        if len(body) >= length and self._answered is not None:
            self._buffer = body[length:]
            self._answered.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that waits."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError())

    async def ask(self, request: bytes) -> int:
        """Send a request; return the status of its answer."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered

    async def want(self, request: bytes) -> None:
        """Send a request that must be answered with 200."""
        status = await self.ask(request)
        if status != 200:
            raise RuntimeError(f"status {status} to {request[:60]!r}")

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


async def connect(
    address: str, port: int, count: int, *, context: ssl.SSLContext | None, host: str
) -> list[Connection]:
    """Open so many connections; ``host`` is the name in the certificate."""
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(count):
        _, connection = await loop.create_connection(
            Connection, address, port, ssl=context, server_hostname=host if context else None
        )
        connections.append(connection)
    return connections


def put_request(key: str, value: bytes = VALUE) -> bytes:
    """Return a PUT."""
    head = f"PUT /v1/kv/{key} HTTP/1.1\r\nHost: grey\r\nContent-Length: {len(value)}\r\n\r\n"
    return head.encode() + value


def get_request(key: str) -> bytes:
    """Return an eventual GET."""
    return f"GET /v1/kv/{key} HTTP/1.1\r\nHost: grey\r\n\r\n".encode()


async def http_rate(connections: Sequence[Connection], requests: Sequence[bytes], seconds: float) -> Figures:
    """Send the requests round and round over all connections."""
    return await closed_loop(
        lambda client, number: connections[client].want(requests[number % len(requests)]),
        len(connections),
        seconds,
    )
