# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to one cluster: sent over HTTP, and its fate told apart into three."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec
from yarl import URL

from grey.link.resolver import NamesResolver


class Request(msgspec.Struct, frozen=True):
    """A request. ``path`` is percent-encoded and begins with ``/``; it may have a query."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class SendFailed(Exception):
    """There was no answer; the message says why.

    ``sent``: the request may have been carried out. ``broken``: a connection was there and broke.
    ``lasting``: trying again soon would end the same.
    """

    def __init__(self, message: str, *, sent: bool, broken: bool = False, lasting: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.broken = broken
        self.lasting = lasting


class Transport:
    """Connections to the clusters. Belongs to one event loop, from the first request on."""

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        names: Mapping[str, Sequence[str]],
        *,
        connect_seconds: float,
        connections: int,
    ) -> None:
        """Without ``tls`` requests go over plain HTTP. ``connections`` is the most that are open."""
        self._tls = tls
        self._names = names
        self._connect_seconds = connect_seconds
        self._connections = connections
        self._http: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(self, endpoint: str, request: Request, *, timeout_seconds: float) -> Answer:
        """Send a request to HOST:PORT and return the whole answer. Raises SendFailed."""
        scheme = "https" if self._tls is not None else "http"
        if self._closed:
            raise SendFailed("this client was closed", sent=False, lasting=True)
        url = _url(scheme, endpoint, request.path)
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=self._connect_seconds)
        try:
            async with self._session().request(
                request.method,
                url,
                headers=request.headers,
                data=request.body,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                return Answer(response.status, response.headers, await response.read())
        except (_Broken, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise explain(error, timeout_seconds) from error

    async def close(self) -> None:
        """Close all connections; requests that are under way fail."""
        self._closed = True
        session, self._http = self._http, None
        if session is not None:
            await session.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._tls if self._tls is not None else False,
                    resolver=NamesResolver(self._names),
                    limit=self._connections,
                    ttl_dns_cache=30,
                    keepalive_timeout=30,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                middlewares=(_once,),
                auto_decompress=False,
            )
        return self._http


def _url(scheme: str, endpoint: str, path: str) -> URL:
    try:
        url = URL(f"{scheme}://{endpoint}{path}", encoded=True)
        if url.host and url.explicit_port:
            return url
    except ValueError:
        pass
    raise SendFailed(f"its endpoint is not HOST:PORT but {endpoint!r}", sent=False, lasting=True)


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


def explain(error: Exception, timeout_seconds: float) -> SendFailed:
    """Return what an exception of aiohttp says about the fate of the request."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
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
        return SendFailed(f"no answer within {timeout_seconds:.3g} s", sent=True)
    return SendFailed(f"the connection broke: {str(error) or type(error).__name__}", sent=True, broken=True)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return os.strerror(error.errno).lower() if error.errno else str(error)
