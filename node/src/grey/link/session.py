# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one HTTP session with which a node talks to the control planes of other nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from grey.link.resolver import NamesResolver

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence


class PeerSession:
    """Requests over mutual TLS in which the peer must prove the name that the caller names.

    Addresses come from the node's ``names`` map or the system; who answers is checked by the certificate
    alone, so a wrong address can delay a request but never misdirect it.
    """

    def __init__(
        self,
        context: ssl.SSLContext | Callable[[], ssl.SSLContext],
        names: Mapping[str, Sequence[str]],
        *,
        connect_seconds: float = 3.0,
        total_seconds: float = 10.0,
    ) -> None:
        """``context`` is ``grey.link.tls.client_context``, or gives the one for a new connection.

        Must be called inside a running event loop.
        """
        self._context = context if callable(context) else lambda: context
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=NamesResolver(names),
                ttl_dns_cache=30,
                keepalive_timeout=30,
            ),
            timeout=aiohttp.ClientTimeout(total=total_seconds, sock_connect=connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
        )

    def request(
        self, method: str, identity: str, host: str, port: int, path: str, **options: Any
    ) -> aiohttp.client._RequestContextManager:
        """Start ``METHOD https://host:port/path`` at the peer whose certificate names ``identity``.

        ``path`` is already percent-encoded. ``options`` are those of ``aiohttp.ClientSession.request``.
        """
        return self._http.request(
            method,
            peer_url(host, port, path),
            ssl=self._context(),
            server_hostname=identity,
            allow_redirects=False,
            **options,
        )

    def websocket(
        self, identity: str, host: str, port: int, path: str, **options: Any
    ) -> aiohttp.client._WSRequestContextManager:
        """Open a WebSocket to the peer whose certificate names ``identity``."""
        return self._http.ws_connect(
            peer_url(host, port, path), ssl=self._context(), server_hostname=identity, **options
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


def peer_url(host: str, port: int, path: str) -> URL:
    """Return the HTTPS URL of a path that is already percent-encoded."""
    shown = f"[{host}]" if ":" in host else host
    return URL(f"https://{shown}:{port}{path}", encoded=True)
