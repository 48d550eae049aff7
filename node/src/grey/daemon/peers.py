# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the other clusters: streams, pages and requests over their control planes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import aiohttp

from grey.federation.remote_store import Reply, TransportError
from grey.replicate import wire
from grey.replicate.channel import Channel, ChannelClosed
from grey.serve.channel import CLOSE_SECONDS, HEARTBEAT_SECONDS, WebSocketChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grey.config.model import Cluster, Federation
    from grey.link.session import PeerSession
    from grey.record.position import Position


class Peers:
    """Implements ``Connect`` and ``FetchPage`` of replication and the federation's ``ControlTransport``."""

    def __init__(self, federation: Federation, session: PeerSession) -> None:
        self._federation = federation
        self._session = session

    @asynccontextmanager
    async def connect(self, cluster: str, position: Position, /) -> AsyncIterator[Channel]:
        """Open a stream of the records after ``position``; raises ChannelClosed."""
        found = self._cluster(cluster)
        where = self._federation.control_endpoint(found)
        try:
            socket = await self._session.websocket(
                self._federation.identity(cluster),
                where.host,
                where.port,
                f"/v1/replication/stream?from={position}",
                heartbeat=HEARTBEAT_SECONDS,
                max_msg_size=wire.MAX_MESSAGE_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ChannelClosed(f"{cluster} at {where}: {_words(error)}") from error
        channel = WebSocketChannel(socket)
        try:
            yield channel
        finally:
            await channel.close()

    async def fetch_page(self, cluster: str, after: bytes | None, /) -> wire.SnapshotPage:
        """Ask for one page of a full copy; raises ChannelClosed and ``wire.SourceRefused``."""
        found = self._cluster(cluster)
        where = self._federation.control_endpoint(found)
        query = "" if after is None else f"?after={quote(after, safe='')}"
        try:
            async with self._session.request(
                "GET",
                self._federation.identity(cluster),
                where.host,
                where.port,
                f"/v1/replication/snapshot{query}",
                timeout=aiohttp.ClientTimeout(total=60, sock_connect=5),
            ) as response:
                body = await response.content.read(wire.MAX_MESSAGE_BYTES + 1)
                while more := await response.content.read(wire.MAX_MESSAGE_BYTES + 1 - len(body)):
                    body += more
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ChannelClosed(f"{cluster} at {where}: {_words(error)}") from error
        if status != 200:
            raise ChannelClosed(f"{cluster} at {where}: answered {status}: {body[:300]!r}")
        try:
            return wire.decode_page(body)
        except wire.ProtocolError as error:
            raise ChannelClosed(f"{cluster} at {where}: {error}") from error

    async def ask(
        self,
        cluster: str,
        method: Literal["GET", "PUT"],
        path: str,
        body: bytes | None,
        *,
        timeout_seconds: float,
    ) -> Reply:
        """Ask the control plane of a cluster; raises TransportError."""
        found = self._federation.cluster(cluster)
        if found is None:
            raise TransportError(f"{cluster} is not in the federation file of this node")
        where = self._federation.control_endpoint(found)
        try:
            async with self._session.request(
                method,
                self._federation.identity(cluster),
                where.host,
                where.port,
                path,
                data=body,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            ) as response:
                return Reply(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransportError(_words(error)) from error

    def _cluster(self, name: str) -> Cluster:
        found = self._federation.cluster(name)
        if found is None:
            raise ChannelClosed(f"{name} is not in the federation file of this node")
        return found


def _words(error: Exception) -> str:
    return str(error) or ("no answer in time" if isinstance(error, asyncio.TimeoutError) else repr(error))
