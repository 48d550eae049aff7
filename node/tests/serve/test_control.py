# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane over real mutual TLS: who is admitted, and to what."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest
from support.control import IDENTITY, REPORT, Control, serving_control
from support.pki import Authority

from grey.federation.interface import RoleRecord
from grey.federation.records import encode
from grey.record import Position
from grey.replicate import wire
from grey.replicate.channel import ChannelClosed
from grey.serve.channel import WebSocketChannel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    async with serving_control(Control(tmp_path)) as control:
        yield control


async def test_who_is_admitted(control: Control) -> None:
    path = "/v1/federation/status"
    for files in (control.cluster("gcp-west"), control.certificate("operator")):
        answer = await control.ask(files, "GET", path)
        assert (answer.status, answer.json["answered_by"]) == (200, "aws-east-1")
    for files in (
        control.certificate("stranger", "stranger.grey.internal"),
        control.certificate("nested", "gcp-west.evil.grey.internal"),
        control.certificate("nameless"),
    ):
        for forbidden in (path, "/v1/replication/snapshot", "/nothing"):
            answer = await control.ask(files, "GET", forbidden)
            assert (answer.status, answer.error["code"]) == (403, "forbidden")


async def test_plain_http_is_not_answered(control: Control) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
    writer.write(b"GET /v1/federation/status HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert b"HTTP" not in answer
    writer.close()


async def test_foreign_and_expired_clients_get_no_connection(control: Control, tmp_path: Path) -> None:
    name = ("gcp-west.grey.internal",)
    foreign = Authority("other").issue(tmp_path / "f", "gcp-west", dns=name, bundle=control.authority.pem)
    expired = control.authority.issue(tmp_path / "e", "gcp-west", dns=name, expired=True)
    for files in (foreign, expired):
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await control.ask(files, "GET", "/v1/federation/status")


async def test_the_role(control: Control) -> None:
    files = control.cluster("gcp-west")
    missing = await control.ask(files, "GET", "/v1/federation/role")
    assert (missing.status, missing.error["code"]) == (404, "not_found")
    record = RoleRecord("aws-east", 3, 9, "aws-east-1", Position(3, 8))
    control.store.records["role"] = encode(record)
    found = await control.ask(files, "GET", "/v1/federation/role")
    assert found.json == {
        "cluster": "aws-east",
        "epoch": 3,
        "counter": 9,
        "node": "aws-east-1",
        "position": [3, 8],
    }
    control.store.down = True
    down = await control.ask(files, "GET", "/v1/federation/role")
    assert (down.status, down.error["code"], down.error["message"]) == (503, "unavailable", "no majority")


async def test_only_the_own_nodes_ask_for_the_cluster_s_state(control: Control) -> None:
    path = "/v1/cluster/state"
    own = await control.ask(control.cluster("aws-east"), "GET", path)
    assert own.json == {
        "node": "aws-east-1",
        "leader": True,
        "epoch": 3,
        "remaining_seconds": 9.5,
        "lag_seconds": None,
        "lag_records": None,
        "consistent": True,
        "position": "3.8",
    }
    for files in (control.cluster("gcp-west"), control.certificate("operator")):
        refused = await control.ask(files, "GET", path)
        assert (refused.status, refused.error["code"]) == (403, "forbidden")
        assert refused.error["hint"] == "use the certificate of a node of that cluster"


async def test_only_a_cluster_itself_reports_for_it(control: Control) -> None:
    path = "/v1/federation/members/gcp-west"
    files = control.cluster("gcp-west")
    assert (await control.ask(files, "PUT", path, data=json.dumps(REPORT))).status == 204
    listed = await control.ask(files, "GET", "/v1/federation/members")
    assert listed.json == {"gcp-west": {**REPORT, "problem": None, "oldest": None}}
    for other in (control.cluster("edge-chicago"), control.certificate("operator")):
        refused = await control.ask(other, "PUT", path, data=json.dumps(REPORT))
        assert (refused.status, refused.error["message"]) == (
            403,
            "only gcp-west's own certificate may report for gcp-west",
        )
    for body in ("{", json.dumps({**REPORT, "cluster": "aws-east"})):
        assert (await control.ask(files, "PUT", path, data=body)).status == 400
    assert (await control.ask(files, "PUT", path, data=b"x" * 20_000)).status == 413


async def test_a_name_that_is_no_cluster_reports_for_nobody(tmp_path: Path) -> None:
    """allowed_clusters may admit names that are no cluster's; the empty name must not become theirs."""
    async with serving_control(Control(tmp_path, allowed=("*.grey.internal",))) as control:
        stranger = control.certificate("stranger", "stranger.grey.internal")
        assert (await control.ask(stranger, "GET", "/v1/federation/status")).status == 200
        for name in ("", "stranger", "gcp-west"):
            body = json.dumps({**REPORT, "cluster": name})
            refused = await control.ask(stranger, "PUT", f"/v1/federation/members/{name}", data=body)
            assert (refused.status, refused.error["code"]) == (403, "forbidden")
        assert control.store.records == {}


async def test_a_stream_both_ways(control: Control) -> None:
    path = "/v1/replication/stream?from=1.7"
    async with control.session(control.cluster("gcp-west")) as session:
        async with session.websocket(
            IDENTITY, "aws-east.example.com", control.port, path, max_msg_size=wire.MAX_MESSAGE_BYTES
        ) as socket:
            channel = WebSocketChannel(socket)
            large = b"x" * (4 * 1024 * 1024)
            for message in (b"", b"hello", large):
                await channel.send(message)
                assert await channel.receive() == b"gcp-west:" + message
        async with asyncio.timeout(5):
            await control.source.ended.wait()


async def test_streams_end_with_the_server(control: Control) -> None:
    path = "/v1/replication/stream?from=1.7"
    async with (
        control.session(control.cluster("gcp-west")) as session,
        session.websocket(IDENTITY, "aws-east.example.com", control.port, path) as socket,
    ):
        channel = WebSocketChannel(socket)
        await channel.send(b"a")
        await channel.receive()
        closing = asyncio.create_task(control.api.close_streams())
        async with asyncio.timeout(5):
            with pytest.raises(ChannelClosed):
                await channel.receive()
            await closing
        with pytest.raises(ChannelClosed):
            await channel.send(b"b")


async def test_a_stream_needs_a_cluster_and_a_websocket(control: Control) -> None:
    path = "/v1/replication/stream?from=1.7"
    operator = await control.ask(control.certificate("operator"), "GET", path)
    assert (operator.status, operator.error["code"]) == (403, "forbidden")
    plain = await control.ask(control.cluster("gcp-west"), "GET", path)
    assert (plain.status, plain.error["message"]) == (400, "a WebSocket upgrade was wanted")


async def test_pages_of_a_full_copy(control: Control) -> None:
    files = control.cluster("gcp-west")
    first = wire.decode_page((await control.ask(files, "GET", "/v1/replication/snapshot")).body)
    assert first.items == [(b"first", b"value")]
    next_page = await control.ask(files, "GET", "/v1/replication/snapshot?after=k%2F%00%ff%2b+")
    assert wire.decode_page(next_page.body).items == [(b"k/\x00\xff+ ", b"value")]
    refused = await control.ask(files, "GET", "/v1/replication/snapshot?after=refuse")
    with pytest.raises(wire.SourceRefused, match="the primary is elsewhere"):
        wire.decode_page(refused.body)
    bad = await control.ask(files, "GET", "/v1/replication/snapshot?after=bad")
    assert (bad.status, bad.error["code"]) == (400, "bad_request")
    assert "the token of a page" in bad.error["message"]
