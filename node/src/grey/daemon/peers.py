# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the other nodes: streams, pages and requests over their control planes.

A cluster's host has an address per node. All of them are tried, those that answered last first: a node may be
dead or frozen, or be up without an engine beside it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import aiohttp
import msgspec

from grey.daemon.addresses import OrderedAddresses
from grey.federation.deputy import ClusterState, LeaderSilent
from grey.federation.remote_store import Reply, TransportError
from grey.link.addresses import Addresses
from grey.link.resolver import NamesResolver
from grey.replicate import wire
from grey.replicate.channel import Channel, ChannelClosed
from grey.serve.channel import CLOSE_SECONDS, HEARTBEAT_SECONDS, WebSocketChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from grey.config.model import Cluster, Endpoint, Federation
    from grey.federation.deputy import AskLeader
    from grey.federation.leader import LeaderRecord
    from grey.link.session import PeerSession
    from grey.record.position import Position

UNAVAILABLE = 503
CONNECT_SECONDS = 3.0
PAGE_SECONDS = 60.0

_FAULTS = (aiohttp.ClientError, TimeoutError, OSError)
_state = msgspec.json.Decoder(ClusterState)


class Peers:
    """Implements ``Connect`` and ``FetchPage`` of replication and the federation's ``ControlTransport``."""

    def __init__(
        self, federation: Federation, session: PeerSession, names: Mapping[str, Sequence[str]]
    ) -> None:
        """``names`` maps host names to addresses, before the system's resolver is asked."""
        self._federation = federation
        self._session = session
        self._addresses = OrderedAddresses(Addresses(NamesResolver(names)))

    @asynccontextmanager
    async def connect(self, cluster: str, position: Position, /) -> AsyncIterator[Channel]:
        """Open a stream of the records after ``position``; raises ChannelClosed.

        The next one is opened to another node, if there is one: this one may refuse, or have fallen silent.
        """
        found = self._cluster(cluster)
        where = self._federation.control_endpoint(found)
        path = f"/v1/replication/stream?from={position}"
        channel, address = await self._open(cluster, where, path)
        try:
            yield channel
        finally:
            self._addresses.bad(where.host, address)
            await channel.close()

    async def fetch_page(self, cluster: str, after: bytes | None, /) -> wire.SnapshotPage:
        """Ask for one page of a full copy; raises ChannelClosed and ``wire.SourceRefused``."""
        found = self._cluster(cluster)
        query = "" if after is None else f"?after={quote(after, safe='')}"
        try:
            reply = await self._ask(
                found, "GET", f"/v1/replication/snapshot{query}", None, seconds=PAGE_SECONDS, patient=True
            )
        except TransportError as error:
            raise ChannelClosed(f"{cluster}: {error}") from error
        if reply.status != 200:
            raise ChannelClosed(f"{cluster}: answered {reply.status}: {reply.body[:300]!r}")
        try:
            return wire.decode_page(reply.body)
        except wire.ProtocolError as error:
            raise ChannelClosed(f"{cluster}: {error}") from error

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
        return await self._ask(found, method, path, body, seconds=timeout_seconds)

    def ask_leader(self, cluster: str) -> AskLeader:
        """Return what asks a node of the own cluster for its state."""
        identity = self._federation.identity(cluster)

        async def ask(leader: LeaderRecord, *, timeout_seconds: float) -> ClusterState:
            host, _, port = leader.control.rpartition(":")
            limit = aiohttp.ClientTimeout(total=timeout_seconds)
            try:
                async with self._session.request(
                    "GET", identity, host, int(port), "/v1/cluster/state", timeout=limit
                ) as response:
                    body = await response.read()
            except (*_FAULTS, ValueError) as error:
                raise LeaderSilent(f"{leader.control}: {_words(error)}") from error
            try:
                return _state.decode(body)
            except msgspec.DecodeError as error:
                raise LeaderSilent(f"{leader.control}: answered {response.status}: {body[:300]!r}") from error

        return ask

    async def _ask(
        self,
        cluster: Cluster,
        method: str,
        path: str,
        body: bytes | None,
        *,
        seconds: float,
        patient: bool = False,
    ) -> Reply:
        """Ask one node after the other until one answers; a last refusal for want of something is an answer.

        Each gets its share of the time, or with ``patient`` all of it once it is connected.
        """
        where = self._federation.control_endpoint(cluster)
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            nodes = await self._addresses.of(where.host)
        except OSError as error:
            raise TransportError(f"{where}: {_words(error)}") from error
        unavailable: Reply | None = None
        faults: list[str] = []
        for number, address in enumerate(nodes):
            left = max(deadline - asyncio.get_running_loop().time(), 0.001)
            share = left if patient else left / (len(nodes) - number)
            limit = aiohttp.ClientTimeout(total=share, sock_connect=min(CONNECT_SECONDS, share))
            identity = self._federation.identity(cluster.name)
            try:
                async with self._session.request(
                    method, identity, address, where.port, path, data=body, timeout=limit
                ) as response:
                    reply = Reply(response.status, await _read(response))
            except _FAULTS as error:
                faults.append(f"{address}: {_words(error)}")
            else:
                if reply.status != UNAVAILABLE:
                    self._addresses.good(where.host, address)
                    return reply
                unavailable = reply
            self._addresses.bad(where.host, address)
        if unavailable is not None:
            return unavailable
        raise TransportError(f"{where}: {'; '.join(faults)}")

    async def close(self) -> None:
        """Release the resolver; the session belongs to the caller."""
        await self._addresses.close()

    async def _open(self, cluster: str, where: Endpoint, path: str) -> tuple[WebSocketChannel, str]:
        """Open a WebSocket to one node after the other until one takes it; raises ChannelClosed."""
        faults: list[str] = []
        try:
            for address in await self._addresses.of(where.host):
                try:
                    socket = await self._session.websocket(
                        self._federation.identity(cluster),
                        address,
                        where.port,
                        path,
                        heartbeat=HEARTBEAT_SECONDS,
                        max_msg_size=wire.MAX_MESSAGE_BYTES,
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                    )
                except _FAULTS as error:
                    faults.append(f"{address}: {_words(error)}")
                    self._addresses.bad(where.host, address)
                else:
                    return WebSocketChannel(socket), address
        except OSError as error:
            faults.append(_words(error))
        raise ChannelClosed(f"{cluster} at {where}: {'; '.join(faults)}")

    def _cluster(self, name: str) -> Cluster:
        found = self._federation.cluster(name)
        if found is None:
            raise ChannelClosed(f"{name} is not in the federation file of this node")
        return found


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer of bounded size."""
    body = await response.content.read(wire.MAX_MESSAGE_BYTES + 1)
    while more := await response.content.read(wire.MAX_MESSAGE_BYTES + 1 - len(body)):
        body += more
    return body


def _words(error: Exception) -> str:
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else repr(error))
