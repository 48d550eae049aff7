# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listening: several HTTP sites on one event loop, started and stopped together."""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from http import HTTPStatus

import msgspec
from aiohttp import web

from grey.serve.errors import CannotListen, bad_request
from grey.serve.http import Handler, error_response


class Site(msgspec.Struct, frozen=True):
    """One listening port. ``setting`` is its name in the node's file."""

    setting: str
    host: str
    port: int
    handler: Handler
    tls: ssl.SSLContext | None


# aiohttp wants a logger; requests are counted in the metrics instead of logged one by one.
_silent = logging.getLogger("grey.serve.access")
_silent.setLevel(logging.WARNING)


class _Protocol(web.RequestHandler):
    """Answers what is not HTTP in the form of all other errors."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        error = bad_request(f"this is not a valid HTTP request: {(message or status)!s:.200}")
        response = error_response(error)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> _Protocol:
        return _Protocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=_silent,
            auto_decompress=False,
            lingering_time=1.0,
            keepalive_timeout=75.0,
            max_line_size=16384,
        )


class Sites:
    """The ports of a node."""

    def __init__(self, grace_seconds: float = 5.0) -> None:
        """``grace_seconds`` is how long a stop waits for requests that are being served."""
        self._grace_seconds = grace_seconds
        self._runners: list[web.ServerRunner] = []

    async def start(self, site: Site) -> int:
        """Listen; return the port (of interest when 0 was asked for). Raises CannotListen."""
        runner = web.ServerRunner(
            _Server(site.handler), handle_signals=False, shutdown_timeout=self._grace_seconds
        )
        await runner.setup()
        listening = web.TCPSite(
            runner, site.host, site.port, ssl_context=site.tls, backlog=1024, reuse_address=True
        )
        try:
            await listening.start()
        except OSError as error:
            await runner.cleanup()
            raise CannotListen(_explain(site, error)) from error
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening, let running requests end within the grace time, close all connections."""
        runners, self._runners = self._runners, []
        await asyncio.gather(*(runner.cleanup() for runner in runners))


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
