# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listening: several HTTP sites on one event loop, started, renewed and stopped together."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Callable

import msgspec

from grey.serve.errors import CannotListen
from grey.serve.http import Handler
from grey.serve.protocol import Server

BACKLOG = 1024
HANDSHAKE_SECONDS = 10.0
USER_TIMEOUT_SECONDS = 30.0
"""A peer that acknowledges nothing for this long is gone: its host may have died without a word."""
REST_SECONDS = 1.0
"""How long a stop leaves idle connections open, so that a request under way is answered, not cut off."""

_ACCEPT_SECONDS = 0.05
_POLL_SECONDS = 0.02
_OTHER_FILES = 128

MakeContext = Callable[[], ssl.SSLContext]


class Site(msgspec.Struct, frozen=True):
    """One listening port. ``setting`` is its name in the node's file, ``tls`` makes its context anew.

    ``outlives`` says that the port answers until the other ones have stopped: health and metrics.
    """

    setting: str
    host: str
    port: int
    handler: Handler
    tls: ssl.SSLContext | MakeContext | None
    connections: int = 1024
    outlives: bool = False


class _Listening:
    """A site that listens."""

    def __init__(self, site: Site, socket_: socket.socket) -> None:
        self.site = site
        self.socket = socket_
        self.server = Server(site.handler, connections=_affordable(site.connections))
        self.listener: asyncio.Server | None = None

    async def listen(self) -> None:
        """Take connections with a newly made context; those that are open stay as they are."""
        tls = self.site.tls
        context = tls() if callable(tls) else tls
        # Each listener has its own descriptor of the one socket: between two of them no connection is lost.
        listener = await asyncio.get_running_loop().create_server(
            self.server,
            sock=self.socket.dup(),
            ssl=context,
            backlog=BACKLOG,
            ssl_handshake_timeout=None if context is None else HANDSHAKE_SECONDS,
        )
        before, self.listener = self.listener, listener
        if before is not None:
            await _close(before)

    async def stop(self, grace_seconds: float) -> None:
        """Answer what comes while the listener closes, let what runs end, then close all connections."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        server = self.server
        server.draining = True
        # Who waits to be accepted is: closing the listener would reset them.
        await asyncio.sleep(_ACCEPT_SECONDS)
        if self.listener is not None:
            await _close(self.listener)
        self.socket.close()
        while connections := server.open():
            passed = loop.time() - began
            if passed > grace_seconds or (
                passed > min(REST_SECONDS, grace_seconds) and not any(each.busy for each in connections)
            ):
                break
            await asyncio.sleep(_POLL_SECONDS)
        server.pre_shutdown()
        await server.shutdown(_POLL_SECONDS)


class Sites:
    """The ports of a node."""

    def __init__(self, grace_seconds: float = 5.0) -> None:
        """``grace_seconds`` is how long a stop waits for requests that are being served."""
        self._grace_seconds = grace_seconds
        self._listening: list[_Listening] = []

    async def start(self, site: Site) -> int:
        """Listen; return the port (of interest when 0 was asked for). Raises CannotListen."""
        family = socket.AF_INET6 if ":" in site.host else socket.AF_INET
        try:
            socket_ = socket.create_server((site.host, site.port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise CannotListen(_explain(site, error)) from error
        # Accepted connections inherit it.
        socket_.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT_SECONDS * 1000))
        socket_.setblocking(False)
        listening = _Listening(site, socket_)
        await listening.listen()
        self._listening.append(listening)
        return int(socket_.getsockname()[1])

    async def renew(self, *, retire: bool) -> None:
        """Take new connections with contexts made anew, where the site makes them.

        ``retire`` closes the older connections, each after its next answer. Raises what making one does.
        """
        for each in self._listening:
            if callable(each.site.tls):
                each.server.generation += retire
                await each.listen()

    async def stop(self) -> None:
        """Stop listening, let running requests end within the grace time, close all connections."""
        listening, self._listening = self._listening, []
        for outlives in (False, True):
            await asyncio.gather(
                *(each.stop(self._grace_seconds) for each in listening if each.site.outlives is outlives)
            )


async def _close(listener: asyncio.Server) -> None:
    """Close a listener without those that it has just accepted: asyncio would drop them on the floor."""
    loop = asyncio.get_running_loop()
    for listening in listener.sockets:
        loop.remove_reader(listening)
    await asyncio.sleep(0)
    listener.close()


def _affordable(connections: int) -> int:
    """Return how many connections a port may hold, so that other ports and files have descriptors left."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return connections
    return min(connections, max(8, (allowed - _OTHER_FILES) // 2))


def _explain(site: Site, error: OSError) -> str:
    where = f"{site.setting}: cannot listen on {site.host} port {site.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where}: another program uses it. See which with: ss -ltnp 'sport = :{site.port}' ; "
            "stop that program, or choose another port in the node's file"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this host has no such address. Correct listen.address in the node's file"
    if error.errno == errno.EACCES:
        return f"{where}: not allowed for this user. Ports below 1024 need CAP_NET_BIND_SERVICE"
    return f"{where}: {error.strerror or error}"
