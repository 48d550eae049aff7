# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches over real connections: what is told, in which order, and how a watch ends."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING

import pytest
from support.serving import serving
from support.watching import Event, ScriptedFeed, watching

from grey.config.model import ApiLimits
from grey.data.errors import Copied
from grey.data.feed import Batch
from grey.record import Envelope, Position, Stamp
from grey.serve import watch
from grey.store.interface import Compacted, StoreDamaged

if TYPE_CHECKING:
    from pathlib import Path

    from support.serving import Serving


async def test_what_changes_is_told_in_order(node: Serving) -> None:
    await node.ask("PUT", "/v1/kv/a", data=b"before")
    async with watching(node) as watcher:
        assert await watcher.next() == Event("progress", "1.1", {"position": "1.1"})
        put = (await node.ask("PUT", "/v1/kv/a%00b?ttl=1h", data=b"1")).json
        gone = (await node.ask("DELETE", "/v1/kv/a")).json
        event = await watcher.next()
        assert event is not None
        expires = event.data.pop("expires")
        assert expires == (await node.ask("GET", "/v1/kv/a%00b")).headers["Grey-Expires"]
        told = {"key": "a%00b", "position": "1.2", "stamp": put["stamp"], "origin": "aws-east"}
        assert event == Event("put", "1.2", told | {"value_base64": "MQ=="})
        told = {"key": "a", "position": "1.3", "stamp": gone["stamp"], "origin": "aws-east"}
        assert await watcher.next() == Event("delete", "1.3", told)


async def test_a_prefix_without_values(node: Serving) -> None:
    async with watching(node, "?prefix=user%3A&values=false") as watcher:
        await watcher.next()
        for key in ("other", "user%3A1", "used", "user%3A2"):
            await node.ask("PUT", f"/v1/kv/{key}", data=b"1")
        events = [await watcher.next() for _ in range(2)]
        assert [event.data["key"] for event in events if event] == ["user:1", "user:2"]
        assert all("value_base64" not in event.data for event in events if event)


async def test_a_watch_goes_on_where_it_was(node: Serving) -> None:
    for number in range(5):
        await node.ask("PUT", f"/v1/kv/{number}", data=b"1")
    async with watching(node, "?after=1.2") as watcher:
        assert [(await watcher.next()).id for _ in range(3)] == ["1.3", "1.4", "1.5"]  # type: ignore[union-attr]
    async with watching(node, "?after=1.2", **{"Last-Event-ID": "1.4"}) as watcher:
        assert (await watcher.next()).id == "1.5"  # type: ignore[union-attr]


async def test_a_large_batch_is_told_whole(node: Serving) -> None:
    async with watching(node) as watcher:
        await watcher.next()
        operations = [{"op": "put", "key": f"{n:03}", "value_base64": "eHh4" * 3000} for n in range(100)]
        assert (
            await node.ask(
                "POST", "/v1/batch", data=io.BytesIO(json.dumps({"operations": operations}).encode())
            )
        ).status == 200
        events = [await watcher.next() for _ in range(100)]
        assert [event.data["key"] for event in events if event] == [f"{n:03}" for n in range(100)]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?after=1.1", 410, "compacted"),
        ("?after=7.2", 409, "diverged"),
        ("?after=1.9", 503, "too_stale"),
        ("?after=1", 400, "bad_request"),
        ("?prefix=" + "a" * 1025, 400, "bad_request"),
        ("?values=1", 400, "bad_request"),
    ],
)
async def test_a_watch_that_cannot_begin(node: Serving, query: str, status: int, code: str) -> None:
    for value in (b"1", b"2", b"3"):
        await node.ask("PUT", "/v1/kv/a", data=value)
    await node.store.compact((await node.store.status()).revision - 1)
    answer = await node.ask("GET", f"/v1/watch{query}")
    assert (answer.status, answer.error["code"]) == (status, code)
    assert len(node.api.watches) == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Copied(), "copied"),
        (Compacted(1, 2), "compacted"),
        (StoreDamaged("page 7"), "unavailable"),
        (ZeroDivisionError("secret"), "internal"),
    ],
)
async def test_a_watch_that_breaks_off_says_why(node: Serving, fault: Exception, code: str) -> None:
    go = asyncio.Event()
    node.api.watches._feed = ScriptedFeed(Batch([], Position(1, 1)), go, fault)  # type: ignore[assignment]
    async with watching(node) as watcher:
        await watcher.next()
        go.set()
        last = await watcher.next()
        assert last is not None
        assert (last.name, last.id, last.data["code"]) == ("end", None, code)
        assert "secret" not in last.data["message"]
        assert await watcher.next() is None


async def test_silence_is_broken(node: Serving) -> None:
    node.api.watches._heartbeat = node.feed._progress = 0.05
    async with watching(node, "?prefix=user") as watcher:
        assert [await watcher.next() for _ in range(3)] == [Event("progress", "0.0", {"position": "0.0"})] * 3
        await node.ask("PUT", "/v1/kv/other", data=b"1")
        async with asyncio.timeout(20):
            # Nothing matches, and yet the client learns how far it is.
            while (await watcher.next()) == Event("progress", "0.0", {"position": "0.0"}):
                await node.ask("PUT", "/v1/kv/other", data=b"1")


async def test_watches_end_when_the_node_stops(node: Serving) -> None:
    async with watching(node) as idle, watching(node) as other:
        await idle.next()
        await other.next()
        node.api.end_watches()
        for watcher in (idle, other):
            last = await watcher.next()
            assert last is not None
            assert (last.name, last.data["code"]) == ("end", "stopping")
            assert await watcher.next() is None
    refused = await node.ask("GET", "/v1/watch")
    assert (refused.status, refused.error["code"]) == (503, "unavailable")


async def test_watches_are_limited_and_count_for_no_request(tmp_path: Path) -> None:
    async with serving(tmp_path, ApiLimits(concurrent_requests=1, watches=2)) as node:
        async with watching(node) as one, watching(node) as two:
            await one.next()
            await two.next()
            third = await node.ask("GET", "/v1/watch")
            assert (third.status, third.error["code"], third.headers["Retry-After"]) == (
                503,
                "overloaded",
                "1",
            )
            assert (await node.ask("PUT", "/v1/kv/a", data=b"1")).status == 200
        async with asyncio.timeout(10):
            while len(node.api.watches):  # noqa: ASYNC110 - a client that left is noticed by the node alone
                await asyncio.sleep(0.01)
        async with watching(node) as again:
            assert (await again.next()).id == "1.1"  # type: ignore[union-attr]


async def test_a_slow_client_costs_little_and_is_told_to_come_again(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.api.watches._slow = 0.3
    monkeypatch.setattr(watch, "FAREWELL_SECONDS", 10.0)
    async with node.connection(limit=1024) as (reader, writer):
        writer.write(b"GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"event: progress")
        (running,) = node.api.watches._running
        transport = running._request.transport
        assert transport is not None
        async with asyncio.timeout(30):
            # The kernel's buffers take a while to fill; then the node waits for the client, and gives it up.
            while not running._over.done():
                assert (await node.ask("PUT", "/v1/kv/a", data=b"x" * 500_000)).status == 200
                assert transport.get_write_buffer_size() < 2_000_000
        rest = b""
        async with asyncio.timeout(20):
            while part := await reader.read(1_000_000):
                rest = (rest + part)[-2000:]
        assert b"event: end" in rest
        assert b'"code":"slow_consumer"' in rest


async def test_a_client_that_takes_nothing_at_all_is_cut_off(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.api.watches._slow = 0.2
    monkeypatch.setattr(watch, "FAREWELL_SECONDS", 0.2)
    async with node.connection(limit=1024) as (reader, writer):
        writer.write(b"GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"event: progress")
        async with asyncio.timeout(30):
            while len(node.api.watches):
                assert (await node.ask("PUT", "/v1/kv/a", data=b"x" * 500_000)).status == 200
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1_000_000_000)


async def test_a_client_that_leaves_in_the_middle_of_a_batch_leaves_nothing_behind(
    node: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """What its watch had asked the feed for meanwhile would wait, and hold the store's watch, for ever."""
    large = [Envelope(b"k", bytes(500_000), Position(1, n), Stamp(1, 0), "a") for n in range(1, 60)]
    node.api.watches._feed = ScriptedFeed(Batch(large, Position(1, 60)), asyncio.Event())  # type: ignore[assignment]
    before = asyncio.all_tasks()
    async with node.connection(limit=1024) as (reader, writer):
        writer.write(b"GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"event: put")
        (running,) = node.api.watches._running
        async with asyncio.timeout(20):
            while not running._request.protocol.writing_paused:  # noqa: ASYNC110 - the kernel sets no event
                await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while len(node.api.watches) or asyncio.all_tasks() - before:  # noqa: ASYNC110 - nor do ended tasks
            await asyncio.sleep(0.01)
    assert "incident" not in caplog.text


async def test_a_watch_may_be_ended_by_two_sides_at_once(node: Serving) -> None:
    """The node stops just when a client is given up or lost: the second word must not break the stop."""

    class Stuck:
        async def write(self, _: bytes) -> None:
            await asyncio.get_running_loop().create_future()

    ended = watch._Watch(None, Stuck(), watch.Wanted(b"", None, True), 5, 10)  # type: ignore[arg-type]
    sending = asyncio.create_task(ended._send(b"x"))
    await asyncio.sleep(0)
    assert ended._sending is not None
    ended.end(None)
    again: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def end_again() -> None:
        ended.end(None)
        again.set_result(ended._sending is not None and ended._sending.expired())

    asyncio.get_running_loop().call_soon(end_again)
    assert await asyncio.wait_for(again, 20)
    await sending
