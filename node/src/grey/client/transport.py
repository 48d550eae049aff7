# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to one node: sent over HTTP, and its fate told apart into three."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import weakref
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from yarl import URL

from grey.client.addresses import Health, Target
from grey.link.addresses import Addresses
from grey.link.reload import ReloadingContext
from grey.link.resolver import NamesResolver

if TYPE_CHECKING:
    import random
    from types import SimpleNamespace

MAX_UNPACKED_BYTES = 33_554_432
"""More than the largest page of a listing; what unpacks to more is no answer of the API."""

Tls = ssl.SSLContext | ReloadingContext | None
"""None: plain HTTP."""


class Request(msgspec.Struct, frozen=True):
    """A request. ``path`` is percent-encoded and begins with ``/``; it may have a query."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class Stream:
    """The body of an answer that does not end by itself."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def read(self, timeout_seconds: float) -> bytes:
        """Return the next bytes, none when the answer ended. Raises SendFailed."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise explain(error, timeout_seconds) from error

    def close(self) -> None:
        """Break the connection; whoever reads gets SendFailed."""
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            # At once: a TLS farewell would outlive a program that ends here.
            connection.transport.abort()
        self._response.close()


class Answer(msgspec.Struct, frozen=True):
    """What came back. ``stream`` is there instead of a body when one was asked for and granted."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    stream: Stream | None = None


class SendFailed(Exception):
    """There was no answer; the message says why.

    ``sent``: the request may have been carried out. ``broken``: a connection was there and broke;
    ``reused``: it had served another request before. ``lasting``: trying again soon would end the same.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool,
        broken: bool = False,
        reused: bool = False,
        lasting: bool = False,
    ) -> None:
        super().__init__(message)
        self.sent = sent
        self.broken = broken
        self.reused = reused
        self.lasting = lasting


class Transport:
    """Connections to the clusters. Belongs to one event loop, from the first request on."""

    def __init__(
        self,
        tls: Tls,
        names: Mapping[str, Sequence[str]],
        *,
        connect_seconds: float,
        connections: int,
        dice: random.Random,
    ) -> None:
        """``connections`` is the most that are open, beside those of streams."""
        self._tls = tls
        self._addresses = Addresses(NamesResolver(names))
        self._health = Health(dice)
        self._connect_seconds = connect_seconds
        self._connections = connections
        self._calls: aiohttp.ClientSession | None = None
        self._watches: aiohttp.ClientSession | None = None
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._closed = False

    async def targets(self, endpoint: str, *, timeout_seconds: float) -> list[Target]:
        """Return the nodes that answer for HOST:PORT, those that work first. Raises SendFailed."""
        self._require_open()
        host, port = _split(endpoint)
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(timeout_seconds):
                found = await self._addresses.of(host, now)
        except TimeoutError as error:
            raise SendFailed("its name was not looked up in time", sent=False) from error
        except OSError as error:
            raise SendFailed("its name is not known here", sent=False) from error
        return self._health.order((Target(host, port, address) for address in found), now)

    def bad(self, target: Target) -> None:
        """Ask this node after the others of its host for a while."""
        self._health.bad(target, asyncio.get_running_loop().time())

    def all_bad(self, endpoint: str) -> None:
        """Look up the addresses of HOST:PORT anew next time, since none of them answers."""
        with suppress(SendFailed):
            self._addresses.doubt(_split(endpoint)[0])

    async def send(
        self, target: Target, request: Request, *, timeout_seconds: float, stream: bool = False
    ) -> Answer:
        """Send a request and return the whole answer, or with ``stream`` a success as it begins.

        Raises SendFailed.
        """
        self._require_open()
        fate = _Fate()
        try:
            answer = await self._send(target, request, fate, timeout_seconds, stream=stream)
        except (_Broken, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(target, fate, error, timeout_seconds) from error
        self._health.good(target)
        return answer

    async def close(self) -> None:
        """Close all connections; requests that are under way fail."""
        self._closed = True
        # The HTTP library would leave whoever reads a stream waiting.
        for stream in list(self._streams):
            stream.close()
        sessions = (self._calls, self._watches)
        self._calls = self._watches = None
        for session in sessions:
            if session is not None:
                await session.close()
        await self._addresses.close()

    async def _send(
        self, target: Target, request: Request, fate: _Fate, timeout_seconds: float, *, stream: bool
    ) -> Answer:
        tls = self._tls.current() if isinstance(self._tls, ReloadingContext) else self._tls
        session = self._session(stream=stream)
        async with asyncio.timeout(timeout_seconds):
            response = await session.request(
                request.method,
                _url("http" if tls is None else "https", target, request.path),
                headers={"Accept-Encoding": "identity", **request.headers, "Host": _host(target)},
                data=request.body,
                ssl=True if tls is None else tls,
                server_hostname=None if tls is None else target.host,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
                allow_redirects=False,
                trace_request_ctx=fate,
            )
            if stream and response.status == 200:
                opened = Stream(response)
                self._streams.add(opened)
                return Answer(response.status, response.headers, b"", opened)
            async with response:
                body = await response.read()
        if response.headers.get("Content-Encoding") == "gzip":
            body = _unpacked(body)
        return Answer(response.status, response.headers, body)

    def _failed(self, target: Target, fate: _Fate, error: Exception, timeout_seconds: float) -> SendFailed:
        failed = explain(error, timeout_seconds, sent=fate.sent)
        failed.reused = fate.reused
        if isinstance(self._tls, ReloadingContext):
            if failed.lasting and self._tls.refresh():
                failed.lasting = False
            why = self._suspicion(self._tls, failed)
            failed.args = (f"{failed} ({why})",) if why else failed.args
        if not (failed.broken and failed.reused):
            self.bad(target)
        return failed

    @staticmethod
    def _suspicion(tls: ReloadingContext, failed: SendFailed) -> str | None:
        """Guess what a failed handshake means: nodes hang up on a certificate without saying so."""
        if failed.lasting and tls.problem is not None:
            return f"newer files are there, but {tls.problem}"
        if failed.broken and not failed.reused:
            return tls.expired(time.time()) or "on a new connection: perhaps it refuses this certificate"
        return None

    def _session(self, *, stream: bool) -> aiohttp.ClientSession:
        if stream:
            self._watches = self._watches or _new_session(0)
            return self._watches
        self._calls = self._calls or _new_session(self._connections)
        return self._calls

    def _require_open(self) -> None:
        if self._closed:
            raise SendFailed("this client was closed", sent=False, lasting=True)


class _Fate:
    """What is known of a request that gets no answer."""

    def __init__(self) -> None:
        self.sent = False
        self.reused = False


async def _mark_sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.sent = True


async def _mark_reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True


def _new_session(connections: int) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_mark_sent)
    trace.on_connection_reuseconn.append(_mark_reused)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_once,),
        auto_decompress=False,
        trace_configs=[trace],
    )


def _split(endpoint: str) -> tuple[str, int]:
    try:
        url = URL(f"http://{endpoint}/", encoded=True)
        if url.host and url.explicit_port and url.path == "/":
            return url.host, url.explicit_port
    except ValueError:
        pass
    raise SendFailed(f"its endpoint is not HOST:PORT but {endpoint!r}", sent=False, lasting=True)


def _url(scheme: str, target: Target, path: str) -> URL:
    shown = f"[{target.address}]" if ":" in target.address else target.address
    return URL(f"{scheme}://{shown}:{target.port}{path}", encoded=True)


def _host(target: Target) -> str:
    return f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"


def _unpacked(body: bytes) -> bytes:
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacking.decompress(body, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise _Broken(f"the answer says gzip and is none: {error}") from error
    if not unpacking.eof:
        raise _Broken(f"the answer is cut short, or unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    return unpacked


class _Broken(Exception):
    """The connection broke after the request may have been sent."""


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    # aiohttp repeats a PUT or DELETE by itself when the connection breaks. If that repetition finds no
    # connection, its error hides that the first one may have been carried out; so it must not happen.
    try:
        return await send(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken(str(error)) from error


def explain(error: Exception, timeout_seconds: float, *, sent: bool = True) -> SendFailed:
    """Return what an exception of aiohttp says about the fate of a request.

    ``sent``: a part of it had been sent when its time was over.
    """
    if isinstance(error, aiohttp.ConnectionTimeoutError) or (isinstance(error, TimeoutError) and not sent):
        return SendFailed("no connection in time", sent=False)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        found = error.certificate_error
        why = found.verify_message if isinstance(found, ssl.SSLCertVerificationError) else str(found)
        return SendFailed(f"its certificate is refused: {why}", sent=False, lasting=True)
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return SendFailed(f"no TLS connection: {_reason(error.os_error)}", sent=False, lasting=True)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return SendFailed("its name is not known here", sent=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return SendFailed(_reason(error.os_error), sent=False)
    if isinstance(error, TimeoutError):
        return SendFailed(f"no answer within {timeout_seconds:.2g} s", sent=True)
    return SendFailed(f"the connection broke: {str(error) or type(error).__name__}", sent=True, broken=True)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return os.strerror(error.errno).lower() if error.errno else str(error)
