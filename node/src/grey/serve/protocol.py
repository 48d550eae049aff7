# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP connection, with limits on what it may take: slow heads, answers that nobody takes, too many."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from grey.serve import errors
from grey.serve.http import Handler, error_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import StreamReader
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage

HEAD_SECONDS = 10.0
"""How long the head of one request may take from its first byte on."""
IDLE_SECONDS = 75.0
"""How long a connection stays open between two requests."""
STUCK_SECONDS = 30.0
"""How long an answer may wait for a client that takes nothing of it."""
SURELY_IDLE_SECONDS = 1.0
"""Only a connection that rests for longer makes room for another one."""

_SCAN_SECONDS = 0.2
_MAX_LINE_BYTES = 16384

# aiohttp wants a logger; requests are counted in the metrics instead of logged one by one.
_silent = logging.getLogger("grey.serve.access")
_silent.setLevel(logging.WARNING)


class Connection(web.RequestHandler):
    """Answers what is not HTTP in the form of all other errors, and ends what takes too long."""

    def __init__(self, server: Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=_silent,
            auto_decompress=False,
            lingering_time=1.0,
            keepalive_timeout=server.idle_seconds,
            max_line_size=_MAX_LINE_BYTES,
        )
        self._server = server
        self._head: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._generation = server.generation
        self._refused = False
        self.on_lost: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, if there is room or room can be made."""
        super().connection_made(transport)
        self._server.admit(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget everything, and tell who serves a stream on it."""
        for timer in (self._head, self._stuck):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that is begun must end soon (slow loris)."""
        super().data_received(data)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            if self._head is None:
                loop = asyncio.get_running_loop()
                self._head = loop.call_later(self._server.head_seconds, self._head_is_late)
        elif self._head is not None:
            self._head.cancel()
            self._head = None

    def pause_writing(self) -> None:
        """The client takes less than it is sent: for a while that is right."""
        super().pause_writing()
        loop = asyncio.get_running_loop()
        self._stuck = loop.call_later(self._server.stuck_seconds, self.abort)

    def resume_writing(self) -> None:
        """The client took what was sent."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def abort(self) -> None:
        """Cut the connection off."""
        if self.transport is not None:
            self.transport.abort()

    def refuse(self, handler: Handler) -> None:
        """Answer whatever comes with ``handler``, and close."""
        self._request_handler = handler
        self._refused = True

    @property
    def stays_open(self) -> bool:
        """Whether another request may follow the one that is being answered."""
        server = self._server
        return not (server.draining or self._refused or self._generation != server.generation)

    @property
    def busy(self) -> bool:
        """Whether a request is being served, or waits to be."""
        return self._request_in_progress or bool(self._messages)

    def idle_since(self) -> float | None:
        """Return the loop's time since which nothing came, None when something is under way."""
        if self.busy or self._head is not None:
            return None
        return self._next_keepalive_close_time - self._keepalive_timeout

    def _head_is_late(self) -> None:
        error = errors.too_slow("the head of the request", self._server.head_seconds)
        body = error.body()
        if self.transport is not None:
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read as a request."""
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        error = errors.bad_request(f"this is not a valid HTTP request: {(message or status)!s:.200}")
        response = error_response(error)
        response.force_close()
        return response


class Request(web.BaseRequest):
    """A request whose connection may have to be closed after it, whatever the client wants."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open; asked at the moment in which the answer's head is written."""
        connection = self.protocol
        return super().keep_alive and isinstance(connection, Connection) and connection.stays_open


class Server(web.Server):
    """The connections of one port."""

    def __init__(
        self,
        handler: Handler,
        *,
        connections: int,
        head_seconds: float = HEAD_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        stuck_seconds: float = STUCK_SECONDS,
    ) -> None:
        """``connections`` may be open at once."""
        super().__init__(handler, request_factory=self._request)
        self.head_seconds = head_seconds
        self.idle_seconds = idle_seconds
        self.stuck_seconds = stuck_seconds
        self.generation = 0
        """Connections of an older one are closed after their next answer."""
        self.draining = False
        self._limit = connections
        self._scanned = 0.0

    def __call__(self) -> Connection:
        """Make the protocol of a new connection (asyncio calls this)."""
        return Connection(self)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> Request:
        return Request(message, payload, protocol, writer, task, self._loop)

    def admit(self, connection: Connection) -> None:
        """Count a new connection; over the limit another is closed for it, or it is told to go."""
        count = len(self._connections)
        if count <= self._limit or self._make_room():
            return
        if count > self._limit + self._limit // 8 + 8:
            connection.abort()
        connection.refuse(self._refuse)

    def open(self) -> list[Connection]:
        """Return all connections."""
        return [each for each in self._connections if isinstance(each, Connection)]

    def _make_room(self) -> bool:
        """Close some of those that are idle for the longest; return whether there were any."""
        now = asyncio.get_running_loop().time()
        if now < self._scanned + _SCAN_SECONDS:
            return False
        idle = sorted(
            (
                (since, number, each)
                for number, each in enumerate(self.open())
                if (since := each.idle_since()) is not None and since < now - SURELY_IDLE_SECONDS
            ),
        )
        if not idle:
            self._scanned = now
        # Several at once, so that a rush of connections does not mean a search for each of them.
        for _, _, each in idle[: max(1, self._limit // 16)]:
            each.force_close()
        return bool(idle)

    async def _refuse(self, _: web.BaseRequest) -> web.StreamResponse:
        return error_response(errors.overloaded(f"all {self._limit} connections of this port are in use"))


def when_lost(request: web.BaseRequest, callback: Callable[[], None]) -> None:
    """Call back when the connection of a request is lost, or at once when it is."""
    connection = request.protocol
    if connection.transport is None:
        callback()
    elif isinstance(connection, Connection):
        connection.on_lost = callback
