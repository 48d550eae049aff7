# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Too much, too slow, too many: what is over a limit is refused clearly, and the rest goes on."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support.fences import FakeTime
from support.serving import serving

from grey.config.model import ApiLimits
from grey.serve import http, limits
from grey.serve.errors import ApiError
from grey.serve.limits import Budget, Rates

if TYPE_CHECKING:
    from pathlib import Path

    from support.serving import Answer, Serving


def test_a_rate_is_kept_and_as_many_may_come_at_once() -> None:
    now = FakeTime(100.0)
    rates = Rates(10, clock=now)
    assert [rates.wait_seconds("a") for _ in range(10)] == [0.0] * 10
    assert rates.wait_seconds("a") == pytest.approx(0.1)
    assert rates.wait_seconds("b") == 0.0
    now.now += 0.1
    assert rates.wait_seconds("a") == 0.0
    assert rates.wait_seconds("a") > 0
    now.now += 60
    assert [rates.wait_seconds("a") for _ in range(11)].count(0.0) == 10


def test_whoever_is_refused_is_not_punished_for_it() -> None:
    now = FakeTime()
    rates = Rates(1, clock=now)
    assert rates.wait_seconds("a") == 0.0
    assert [round(rates.wait_seconds("a"), 3) for _ in range(100)] == [1.0] * 100
    now.now += 1.0
    assert rates.wait_seconds("a") == 0.0


def test_the_memory_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CLIENTS", 100)
    rates = Rates(1, clock=FakeTime())
    for number in range(1000):
        rates.wait_seconds(str(number))
    assert len(rates._due) == 100
    assert rates.wait_seconds("999") > 0


def test_a_budget_is_given_back() -> None:
    budget = Budget(100)
    with budget.held(60), pytest.raises(ApiError) as caught, budget.held(41):
        pass
    assert (caught.value.status, caught.value.code) == (503, "overloaded")
    with budget.held(100):
        pass


async def test_a_client_that_asks_too_often(tmp_path: Path) -> None:
    async with serving(tmp_path, ApiLimits(requests_per_second=5)) as node:
        now = FakeTime()
        assert node.door._rates is not None
        node.door._rates._clock = now
        answers = [await node.ask("GET", "/v1/kv/a") for _ in range(6)]
        assert [answer.status for answer in answers] == [404] * 5 + [429]
        refused = answers[-1]
        assert refused.error["code"] == "rate_limited"
        assert refused.error["message"] == "127.0.0.1 sends more than 5 requests per second"
        assert refused.headers["Retry-After"] == "1"
        for page in ("/health", "/ready", "/primary", "/replica"):
            assert (await node.ask("GET", page)).status != 429
        now.now += 0.2
        assert (await node.ask("GET", "/v1/kv/a")).status == 404


async def test_overload_is_shed_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    """Four times as many clients as there are places, for real: each gets an answer."""
    async with serving(tmp_path, ApiLimits(concurrent_requests=16)) as node:
        statuses: list[int] = []

        async def client(number: int) -> None:
            for turn in range(8):
                answer = await node.ask("PUT", f"/v1/kv/{number}", data=b"x" * 1000)
                statuses.append(answer.status)
                if answer.status == 503:
                    assert answer.error["code"] == "overloaded"
                    assert answer.headers["Retry-After"] == "1"
                assert (await node.ask("GET", "/health")).status == 200, turn

        async with asyncio.timeout(60):
            await asyncio.gather(*(client(number) for number in range(64)))
        assert set(statuses) == {200, 503}
        assert len(statuses) == 64 * 8
        assert statuses.count(200) > 100
        assert node.door._waiting == 0


async def test_large_bodies_are_bounded_together(node: Serving) -> None:
    node.api._budget = Budget(2_000_000)
    body = b"x" * 1_000_000
    async with AsyncExitStack() as stack:
        for _ in range(2):
            _, writer = await stack.enter_async_context(node.connection())
            head = b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            writer.write(head + body[:500_000])
        await until(lambda: node.api._budget._left == 0)
        shed = await node.ask("PUT", "/v1/kv/b", data=io.BytesIO(body))
        assert (shed.status, shed.error["code"]) == (503, "overloaded")
        assert (await node.ask("PUT", "/v1/kv/small", data=b"1")).status == 200
    await until(lambda: node.api._budget._left == 2_000_000)
    assert (await node.ask("PUT", "/v1/kv/b", data=io.BytesIO(body))).status == 200


async def test_large_answers_are_bounded_together(node: Serving) -> None:
    """Clients that ask and take nothing must not fill the node's memory."""
    node.door._budget = Budget(8_000_000)
    await node.ask("PUT", "/v1/kv/a", data=io.BytesIO(b"x" * 1_000_000))
    async with AsyncExitStack() as stack:
        takers = [await stack.enter_async_context(node.connection(limit=1024)) for _ in range(60)]
        for _, writer in takers:
            writer.write(b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
        answer = await answered(node, 503)
        assert answer.error["code"] == "overloaded"
        assert node.door._budget._left >= 0
    await until(lambda: node.door._budget._left == 8_000_000)
    assert (await node.ask("GET", "/v1/kv/a")).status == 200


async def answered(node: Serving, status: int) -> Answer:
    async with asyncio.timeout(20):
        while True:
            answer = await node.ask("GET", "/v1/kv/a")
            if answer.status == status:
                return answer


async def until(holds: Any) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what happens inside the node is told to nobody
            await asyncio.sleep(0.01)


async def test_a_head_that_comes_byte_by_byte(node: Serving) -> None:
    server = node.server
    server.head_seconds = 0.3
    async with node.connection() as (reader, writer):
        writer.write(b"GET /v1/kv/a HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                writer.write(b"X: y\r\n")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        answer = await asyncio.wait_for(reader.read(), 20)
        dripping.cancel()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"the head of the request did not arrive within 0.3 s" in answer
    server.head_seconds = 10.0
    assert (await node.ask("GET", "/health")).status == 200


async def test_a_body_that_does_not_come(node: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.2)
    async with node.connection() as (reader, writer):
        writer.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"bad_request"' in answer


async def test_an_idle_connection_is_closed(node: Serving) -> None:
    node.server.idle_seconds = 0.2
    async with node.connection() as (reader, writer):
        assert await asyncio.wait_for(reader.read(), 20) == b""
    async with node.connection() as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(reader.readline(), 20)
        await asyncio.wait_for(reader.read(), 20)


async def test_who_takes_nothing_is_cut_off(node: Serving) -> None:
    node.server.stuck_seconds = 0.3
    await node.ask("PUT", "/v1/kv/a", data=io.BytesIO(b"x" * 1_000_000))
    async with node.connection(limit=1024) as (reader, writer):
        writer.write(b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        await until(lambda: any(each.busy for each in node.server.open()))
        await until(lambda: not node.server.open() or not any(each.busy for each in node.server.open()))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(20 * 1_000_000)


async def test_idle_connections_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grey.serve.protocol.SURELY_IDLE_SECONDS", 0.0)
    monkeypatch.setattr("grey.serve.protocol._SCAN_SECONDS", 0.0)
    async with serving(tmp_path, ApiLimits(connections=8)) as node, AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(node.connection()) for _ in range(8)]
        await until(lambda: len(node.server.open()) == 8)
        assert (await node.ask("GET", "/health")).status == 200
        # The oldest gave way; the others are still there.
        assert await asyncio.wait_for(idle[0][0].read(), 20) == b""
        _, writer = idle[7]
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(idle[7][0].readline(), 20)


async def test_more_connections_than_may_be(tmp_path: Path) -> None:
    async with serving(tmp_path, ApiLimits(connections=8)) as node, AsyncExitStack() as stack:
        for _ in range(8):
            _, writer = await stack.enter_async_context(node.connection())
            writer.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        await until(lambda: sum(each.busy for each in node.server.open()) == 8)
        refused = await node.ask("GET", "/v1/kv/a")
        assert (refused.status, refused.error["code"]) == (503, "overloaded")
        assert refused.error["message"] == "all 8 connections of this port are in use"
        assert refused.headers["Connection"] == "close"
        # Those that do not even ask are cut off, so that they cannot pile up either.
        more = [await stack.enter_async_context(node.connection()) for _ in range(12)]
        ended = 0
        for reader, _ in more:
            try:
                ended += await asyncio.wait_for(reader.read(1), 0.2) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended += 1
        assert ended == 3


async def test_a_write_that_was_carried_out_is_never_refused_for_its_long_answer(node: Serving) -> None:
    node.door._budget = Budget(0)
    keys = [f"{number:02}" + "%00" * 340 for number in range(100)]
    operations = [{"op": "put", "key": key, "value_base64": ""} for key in keys]
    body = io.BytesIO(json.dumps({"operations": operations}).encode())
    done = await node.ask("POST", "/v1/batch", data=body)
    assert len(done.body) > limits.LARGE_BYTES
    assert (done.status, len(done.json["results"])) == (200, 100)
    assert (await node.ask("GET", "/v1/kv?values=false")).error["code"] == "overloaded"


async def test_a_client_that_leaves_before_its_long_answer_is_no_fault_of_the_node(
    node: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    await node.ask("PUT", "/v1/kv/a", data=io.BytesIO(b"x" * 1_000_000))
    async with node.connection(limit=1024) as (reader, writer):
        writer.write(b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        await reader.readexactly(10)
        await until(lambda: any(each.writing_paused for each in node.server.open()))
    await until(lambda: not any(each.busy for each in node.server.open()))
    assert "incident" not in caplog.text
