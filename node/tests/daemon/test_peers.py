# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a cluster of several nodes, some of which are dead, silent or of no use."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web
from support.fences import FakeTime
from support.model_federation import federation
from support.pki import Authority

from grey.config.model import Endpoint
from grey.daemon.addresses import OrderedAddresses
from grey.daemon.peers import Peers
from grey.federation.deputy import LeaderSilent
from grey.federation.leader import LeaderRecord
from grey.federation.remote_store import TransportError
from grey.link.addresses import KEPT_SECONDS, Addresses
from grey.link.resolver import NamesResolver
from grey.link.session import PeerSession
from grey.link.tls import client_context, server_context
from grey.record import Position
from grey.replicate.channel import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

HOST = "gcp-west.example.com"
ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


class Hosts:
    """The nodes of gcp-west on one port of three loopback addresses."""

    def __init__(self, folder: Path) -> None:
        authority = Authority()
        files = authority.issue(folder / "server", "gcp-west", dns=["gcp-west.grey.internal"])
        self._tls = server_context(files, mutual=True, node_to_node=True)
        self._client = authority.issue(folder / "client", "aws-east", dns=["aws-east.grey.internal"])
        self.port = 0
        self.asked: list[str] = []
        self._runners: list[web.ServerRunner] = []
        self._silent: list[socket.socket] = []

    async def answers(self, address: str, status: int = 200, body: bytes = b"{}") -> None:
        """Let a node answer every request."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            self.asked.append(address)
            if request.headers.get("Upgrade"):
                upgraded = web.WebSocketResponse()
                await upgraded.prepare(request)
                await upgraded.send_bytes(address.encode())
                await upgraded.close()
                return upgraded
            return web.Response(status=status, body=body)

        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        site = web.TCPSite(runner, address, self.port, ssl_context=self._tls)
        await site.start()
        self.port = runner.addresses[0][1]
        self._runners.append(runner)

    def is_frozen(self, address: str) -> None:
        """Let a node take connections and say nothing."""
        listening = socket.create_server((address, self.port))
        self.port = listening.getsockname()[1]
        self._silent.append(listening)

    @asynccontextmanager
    async def peers(self) -> AsyncIterator[Peers]:
        model = federation()
        endpoint = Endpoint("federation.grey.internal", self.port)
        model = msgspec.structs.replace(
            model, control_plane=msgspec.structs.replace(model.control_plane, endpoint=endpoint)
        )
        names = {HOST: ADDRESSES}
        session = PeerSession(client_context(self._client), names, connect_seconds=1.0)
        peers = Peers(model, session, names)
        try:
            yield peers
        finally:
            await peers.close()
            await session.close()

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        for listening in self._silent:
            listening.close()


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[Hosts]:
    made = Hosts(tmp_path)
    yield made
    await made.close()


async def ask(peers: Peers, seconds: float = 9.0) -> Any:
    return await peers.ask("gcp-west", "GET", "/v1/federation/role", None, timeout_seconds=seconds)


async def test_a_dead_node_is_passed_over_and_asked_last_from_then_on(hosts: Hosts) -> None:
    await hosts.answers("127.0.0.2")
    async with hosts.peers() as peers:
        assert (await ask(peers)).status == 200
        assert (await ask(peers)).status == 200
    assert hosts.asked == ["127.0.0.2", "127.0.0.2"]


async def test_a_frozen_node_costs_its_share_of_the_time(hosts: Hosts) -> None:
    hosts.is_frozen("127.0.0.1")
    await hosts.answers("127.0.0.2")
    async with hosts.peers() as peers:
        assert (await ask(peers)).status == 200


async def test_a_node_that_cannot_serve_is_passed_over_but_its_word_counts_in_the_end(hosts: Hosts) -> None:
    await hosts.answers("127.0.0.1", 503, b"no engine")
    await hosts.answers("127.0.0.2", 404)
    async with hosts.peers() as peers:
        assert (await ask(peers)).status == 404
        await hosts._runners.pop().cleanup()
        reply = await ask(peers)
        assert (reply.status, reply.body) == (503, b"no engine")


async def test_all_that_was_tried_is_said(hosts: Hosts) -> None:
    hosts.is_frozen("127.0.0.1")
    async with hosts.peers() as peers:
        with pytest.raises(TransportError, match=r"127\.0\.0\.1: .*; 127\.0\.0\.2: .*; 127\.0\.0\.3: "):
            await ask(peers, seconds=3.0)
        with pytest.raises(TransportError, match="nowhere is not in the federation file"):
            await peers.ask("nowhere", "GET", "/", None, timeout_seconds=1.0)


async def test_each_stream_goes_to_the_next_node(hosts: Hosts) -> None:
    """What ended one may be the node's fault: it may refuse, or have fallen silent."""
    await hosts.answers("127.0.0.1")
    await hosts.answers("127.0.0.3")
    async with hosts.peers() as peers:
        served = []
        for _ in range(4):
            async with peers.connect("gcp-west", Position(1, 7)) as channel:
                served.append((await channel.receive()).decode())
        assert set(served[:2]) == set(served[2:]) == {"127.0.0.1", "127.0.0.3"}
        for runner in hosts._runners:
            await runner.cleanup()
        with pytest.raises(ChannelClosed, match=rf"gcp-west at .*:{hosts.port}: 127\.0\.0\."):
            async with peers.connect("gcp-west", Position(1, 7)):
                raise AssertionError("nobody is there")


async def test_the_leader_is_asked_where_its_record_says(hosts: Hosts) -> None:
    state = (
        b'{"node":"gcp-west-2","leader":true,"epoch":null,"remaining_seconds":0.0,'
        b'"lag_seconds":0.5,"lag_records":4,"consistent":true,"position":"3.8"}'
    )
    await hosts.answers("127.0.0.2", body=state)
    await hosts.answers("127.0.0.3", 403, b"forbidden")
    async with hosts.peers() as peers:
        asking = peers.ask_leader("gcp-west")
        leader = LeaderRecord("gcp-west-2", f"127.0.0.2:{hosts.port}", 1)
        found = await asking(leader, timeout_seconds=5.0)
        assert (found.node, found.lag_seconds, found.position) == ("gcp-west-2", 0.5, "3.8")
        for control, said in (
            (f"127.0.0.3:{hosts.port}", "answered 403"),
            (f"127.0.0.1:{hosts.port}", "127.0.0.1"),
            ("nonsense", "nonsense"),
        ):
            with pytest.raises(LeaderSilent, match=said):
                await asking(LeaderRecord("gcp-west-3", control, 1), timeout_seconds=5.0)


class TestAddresses:
    @staticmethod
    async def test_what_works_comes_first_and_what_failed_last() -> None:
        names = {"host": ["127.0.0.1", "127.0.0.2", "127.0.0.3"]}
        addresses = OrderedAddresses(Addresses(NamesResolver(names)))
        addresses.bad("host", "127.0.0.1")  # not asked for yet: nothing to remember
        assert await addresses.of("host") == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        addresses.bad("host", "127.0.0.1")
        assert await addresses.of("host") == ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
        addresses.good("host", "127.0.0.3")
        assert await addresses.of("host") == ["127.0.0.3", "127.0.0.2", "127.0.0.1"]
        addresses.good("host", "127.0.0.9")
        await addresses.close()

    @staticmethod
    async def test_a_new_answer_keeps_what_was_learned() -> None:
        names = {"host": ["127.0.0.1", "127.0.0.2"]}
        clock = FakeTime()
        resolver = NamesResolver(names)
        addresses = OrderedAddresses(Addresses(resolver), monotonic=clock)
        await addresses.of("host")
        addresses.bad("host", "127.0.0.1")
        answers: list[Sequence[str]] = [["127.0.0.1", "127.0.0.2", "127.0.0.3"]]

        async def resolve(*_: object) -> list[dict[str, str]]:
            if not answers:
                raise OSError("no such host")
            return [{"host": address} for address in answers.pop()]

        resolver.resolve = resolve  # type: ignore[assignment,method-assign]
        assert len(await addresses.of("host")) == 2, "the answer is kept for a while"
        clock.now = KEPT_SECONDS
        assert await addresses.of("host") == ["127.0.0.2", "127.0.0.1", "127.0.0.3"]
        clock.now += KEPT_SECONDS
        assert len(await addresses.of("host")) == 3, "an old answer is better than none"
        with pytest.raises(OSError, match="no such host"):
            await addresses.of("other")

    @staticmethod
    async def test_an_address_is_its_own() -> None:
        addresses = OrderedAddresses(Addresses(NamesResolver({})))
        assert await addresses.of("127.0.0.7") == ["127.0.0.7"]
        assert await addresses.of("::1") == ["::1"]
        await asyncio.sleep(0)
