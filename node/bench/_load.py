# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load for the benchmarks: bare keep-alive connections, closed loops, and what they measured."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Sequence

VALUE = b"x" * 100
KEYS = [f"key-{number:05}" for number in range(10_000)]
"""The keys that every side writes and reads, all of them there before anything is measured."""


class Call(Protocol):
    """One operation of one client; ``number`` counts over all clients of a loop."""

    def __call__(self, client: int, number: int) -> Awaitable[object]:
        """Carry it out to its end."""


class Sample(NamedTuple):
    """What a closed loop came to: how long it ran, and the seconds of each of its operations."""

    elapsed: float
    took: list[float]

    @property
    def per_second(self) -> float:
        """Operations per second."""
        return len(self.took) / self.elapsed


async def closed_loop(call: Call, clients: int, seconds: float) -> Sample:
    """Let each of so many clients call again as soon as it is answered."""
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
    return Sample(time.perf_counter() - started, took)


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


async def connect_socket(path: str, count: int) -> list[Connection]:
    """Open so many connections to a unix socket."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_unix_connection(Connection, path))[1] for _ in range(count)]


def put_request(key: str, value: bytes = VALUE) -> bytes:
    """Return a PUT."""
    head = f"PUT /v1/kv/{key} HTTP/1.1\r\nHost: grey\r\nContent-Length: {len(value)}\r\n\r\n"
    return head.encode() + value


def batch_request(keys: Sequence[str], value: bytes = VALUE) -> bytes:
    """Return a batch of PUTs (at most 100)."""
    encoded = b64encode(value).decode()
    operations = [{"op": "put", "key": key, "value_base64": encoded} for key in keys]
    body = json.dumps({"operations": operations})
    return (
        f"POST /v1/batch HTTP/1.1\r\nHost: grey\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def get_request(key: str) -> bytes:
    """Return an eventual GET."""
    return f"GET /v1/kv/{key} HTTP/1.1\r\nHost: grey\r\n\r\n".encode()


def over(connections: Sequence[Connection], requests: Sequence[bytes]) -> Call:
    """Return the call that sends the requests round and round, each client on its own connection."""

    def call(client: int, number: int) -> Awaitable[object]:
        return connections[client].want(requests[number % len(requests)])

    return call
