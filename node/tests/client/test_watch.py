# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches: every change once, in order, over broken connections and from cluster to cluster."""

from __future__ import annotations

import asyncio
import datetime
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.fake_api import FakeFederation, answer, event, freeze, raw

from grey.client import (
    AsyncClient,
    BadAnswer,
    BadRequest,
    Client,
    Compacted,
    Diverged,
    Event,
    GreyError,
    Unavailable,
    Watch,
)
from grey.record.position import Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STREAM = {"Content-Type": "text/event-stream"}
CHANGE = {"key": "k", "stamp": "1.1", "origin": "aws-east"}


@pytest.fixture
async def client(fake: FakeFederation) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.endpoints, primary="aws-east", prefer="gcp-west") as client:
        yield client


async def numbers(watch: Watch, count: int) -> list[int]:
    """Return the sequences of the next events."""
    async with asyncio.timeout(20):
        return [(await anext(watch)).position.sequence for _ in range(count)]


async def test_tells_changes_of_a_prefix_from_now_on(fake: FakeFederation, client: AsyncClient) -> None:
    fake.put(b"user:0", b"before")
    async with client.watch("user:") as watch:
        assert (watch.position, watch.cluster) == (Position(1, 1), "gcp-west")
        await client.put("user:1", b"\x00\xff", ttl=60)
        await client.put("other", b"")
        await client.delete("user:1")
        assert await anext(watch) == Event(
            "put",
            b"user:1",
            Position(1, 2),
            "1700000000.2",
            "aws-east",
            "gcp-west",
            b"\x00\xff",
            datetime.datetime(2030, 1, 1, 0, 1, tzinfo=datetime.UTC),
        )
        assert await anext(watch) == Event(
            "delete", b"user:1", Position(1, 4), "1700000000.4", "aws-east", "gcp-west"
        )
        assert watch.position == Position(1, 4)
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    assert [seen.path for seen in fake.log if "watch" in seen.path] == [
        "/v1/watch?prefix=user%3A&values=true"
    ]


async def test_progress_moves_the_position_while_nothing_matches(
    fake: FakeFederation, client: AsyncClient
) -> None:
    async with client.watch("user:", values=False) as watch:
        waiting = asyncio.create_task(anext(watch))  # type: ignore[arg-type]
        fake.put(b"other", b"")
        async with asyncio.timeout(20):
            while watch.position != Position(1, 1):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
        fake.put(b"user:1", b"v")
        found = await waiting
        assert (found.value, found.kind) == (None, "put")


@pytest.mark.parametrize("after", ["1.2", Position(1, 2)])
async def test_goes_on_from_a_position(
    fake: FakeFederation, client: AsyncClient, after: str | Position
) -> None:
    for number in range(5):
        fake.put(b"%d" % number, b"")
    assert await numbers(client.watch(after=after), 3) == [3, 4, 5]
    assert await numbers(client.watch("3", after), 1) == [4]
    with pytest.raises(BadRequest, match=r"a position is written EPOCH\.SEQUENCE"):
        client.watch(after="soon")


async def test_a_listing_and_a_watch_from_it_miss_nothing(fake: FakeFederation, client: AsyncClient) -> None:
    fake.put(b"a", b"1")
    page = await client.page()
    fake.put(b"b", b"2")
    fake.put(b"a", None)
    async with client.watch(after=page.position) as watch:
        assert [(each.kind, each.key) for each in [await anext(watch), await anext(watch)]] == [
            ("put", b"b"),
            ("delete", b"a"),
        ]


async def test_broken_connections_lose_and_double_nothing(fake: FakeFederation, client: AsyncClient) -> None:
    """Writes go on while watches are broken in all the ways there are, and the nearest cluster goes away."""
    ways = [b"", event("end", "1.1", {"code": "stopping", "message": ""}), b"event: put\nid: 1."]

    async def write() -> None:
        for number in range(200):
            await client.put(f"k{number}", b"x" * 100)
            if number % 10 == 5:
                for name in fake.clusters:
                    fake.break_watches(name, ways[number // 10 % len(ways)])
            if number == 100:
                fake.stop("gcp-west")

    async with client.watch("k") as watch:
        writing = asyncio.create_task(write())
        async with asyncio.timeout(60):
            found = [await anext(watch) for _ in range(200)]
        await writing
    assert [each.position.sequence for each in found] == list(range(1, 201))
    assert found[-1].cluster == "aws-east"


async def test_goes_on_at_another_cluster_which_tells_some_again(
    fake: FakeFederation, client: AsyncClient
) -> None:
    for number in range(3):
        fake.put(b"%d" % number, b"")
    async with client.watch(after="1.0") as watch:
        assert await numbers(watch, 2) == [1, 2]
        # What was told before is not told again, whatever a node does.
        told = b"".join(
            event("put", f"1.{number}", CHANGE | {"position": f"1.{number}"}) for number in (1, 2)
        )
        fake["aws-east"].script.append(raw(200, told, STREAM))
        fake.stop("gcp-west")
        fake.put(b"3", b"")
        assert await numbers(watch, 2) == [3, 4]
        assert watch.cluster == "aws-east"


async def test_a_cluster_that_is_behind_is_passed_over(fake: FakeFederation, client: AsyncClient) -> None:
    for number in range(5):
        fake.put(b"%d" % number, b"")
    fake.shows("gcp-west", 2)
    async with client.watch(after="1.4") as watch:
        assert await numbers(watch, 1) == [5]
        assert watch.cluster == "aws-east"


async def test_silence_is_taken_for_a_frozen_node(fake: FakeFederation) -> None:
    async with AsyncClient(fake.endpoints, silence_seconds=0.5) as client, client.watch() as watch:
        assert watch.cluster == "aws-east"
        fake["aws-east"].silent = True
        fake["aws-east"].script.extend([freeze] * 10)
        fake.put(b"k", b"")
        assert await numbers(watch, 1) == [1]


async def test_a_node_that_hangs_up_at_once_is_not_stormed(fake: FakeFederation, client: AsyncClient) -> None:
    for cluster in fake.clusters.values():
        cluster.script.extend([raw(200, event("progress", "1.0"), STREAM)] * 100)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2), client.watch(after="1.0") as watch:
            await anext(watch)
    assert len(fake.log) < 20


async def test_changes_that_are_not_kept_any_more(fake: FakeFederation, client: AsyncClient) -> None:
    for number in range(5):
        fake.put(b"%d" % number, b"")
    fake.records.compacted = 3
    with pytest.raises(Compacted, match="because compacted; do compacted") as failed:
        await anext(client.watch(after="1.2"))
    assert failed.value.next is None
    assert await numbers(client.watch(after="1.3"), 2) == [4, 5]


@pytest.mark.parametrize(("code", "kind"), [("compacted", Compacted), ("diverged", Diverged)])
async def test_a_watch_that_is_ended_for_good(
    fake: FakeFederation, client: AsyncClient, code: str, kind: type[GreyError]
) -> None:
    """A node that needs long to find out tells it by an event; what it told before counts."""
    told = event("put", "1.1", CHANGE | {"position": "1.1"})
    last = event("end", "1.1", {"code": code, "message": f"because {code}"})
    fake["gcp-west"].script.append(raw(200, told + last, STREAM))
    async with client.watch(after="1.0") as watch:
        assert await numbers(watch, 1) == [1]
        with pytest.raises(kind, match=f"because {code}") as failed:
            await anext(watch)
    assert failed.value.cluster == "gcp-west"


async def test_what_a_failover_lost(fake: FakeFederation, client: AsyncClient) -> None:
    for number in range(5):
        fake.put(b"%d" % number, b"")
    async with client.watch(after="1.0") as watch:
        assert await numbers(watch, 5) == [1, 2, 3, 4, 5]
        fake.records.fork(3)
        fake.break_watches("gcp-west")
        with pytest.raises(Diverged):
            await anext(watch)
    fake.put(b"new", b"")
    async with client.watch(after="1.3") as watch:
        assert (await anext(watch)).position == Position(2, 4)


async def test_nobody_to_listen_to(fake: FakeFederation, client: AsyncClient) -> None:
    watch = client.watch(timeout_seconds=2)
    for name in fake.clusters:
        fake.stop(name)
    with pytest.raises(Unavailable, match=r"watch: not done within 2 s: .*connection refused"):
        await anext(watch)


async def test_one_cluster_alone(fake: FakeFederation, client: AsyncClient) -> None:
    async with client.watch(cluster="edge-chicago") as watch:
        fake.break_watches("edge-chicago")
        fake.put(b"k", b"")
        assert await numbers(watch, 1) == [1]
    assert set(fake.asked) == {"edge-chicago"}


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (
            200,
            b"<html>",
            {"Content-Type": "text/html"},
            "wanted text/event-stream from gcp-west, found text/",
        ),
        (200, event("put", "1.1", {"key": "k"}), STREAM, "an event is not what the API promises"),
        (200, event("progress", "soon"), STREAM, "a position is written EPOCH.SEQUENCE"),
        (404, b"<h1>", {}, "wanted an answer of the Grey API, found status 404"),
    ],
    ids=["html", "change", "progress", "404"],
)
async def test_something_else_answers(
    fake: FakeFederation,
    client: AsyncClient,
    status: int,
    body: bytes,
    headers: dict[str, str],
    message: str,
) -> None:
    fake["gcp-west"].script.append(raw(status, body, headers))
    watch = client.watch()
    with pytest.raises(BadAnswer, match=message):
        await anext(watch)
    await watch.connect()
    fake.put(b"k", b"")
    assert await numbers(watch, 1) == [1]
    await watch.aclose()


async def test_cancelled_waits_lose_nothing(fake: FakeFederation, client: AsyncClient) -> None:
    async with client.watch() as watch:
        found = []
        for number in range(30):
            fake.put(b"%d" % number, bytes(10_000))
            try:
                async with asyncio.timeout(0.001 * (number % 7)):
                    found.append((await anext(watch)).position.sequence)
            except TimeoutError:
                pass
        found += await numbers(watch, 30 - len(found))
    assert found == list(range(1, 31))


async def test_closing_ends_an_iteration(fake: FakeFederation, client: AsyncClient) -> None:
    watch = client.watch()
    await watch.connect()

    async def all_of_it() -> list[Event]:
        return [each async for each in watch]

    listening = asyncio.create_task(all_of_it())
    fake.put(b"k", b"")
    async with asyncio.timeout(20):
        while watch.position != Position(1, 1):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
        await watch.aclose()
        assert [each.key for each in await listening] == [b"k"]


async def test_watches_leave_connections_for_calls(fake: FakeFederation) -> None:
    async with AsyncClient(fake.endpoints, connections=1) as client:
        watches = [client.watch() for _ in range(5)]
        await asyncio.gather(*(watch.connect() for watch in watches))
        await client.put("k", b"")
        assert [await numbers(watch, 1) for watch in watches] == [[1]] * 5
        del watches
        gc.collect()


async def test_a_refusal_that_passes(fake: FakeFederation, client: AsyncClient) -> None:
    for cluster in fake.clusters.values():
        cluster.script.append(answer(503, "unavailable"))
    async with client.watch() as watch:
        fake.put(b"k", b"")
        assert await numbers(watch, 1) == [1]


def test_without_await(fake: FakeFederation) -> None:
    with Client(fake.endpoints, prefer="gcp-west") as client:
        with client.watch("k") as watch:
            assert (watch.position, watch.cluster) == (Position(1, 0), "gcp-west")
            client.put("k1", b"1")
            client.put("k2", b"2")
            fake.break_watches("gcp-west")
            client.put("k3", b"3")
            found = []
            for each in watch:
                found.append((each.key, each.value))
                if each.key == b"k3":
                    break
            assert found == [(b"k1", b"1"), (b"k2", b"2"), (b"k3", b"3")]
            assert watch.position == Position(1, 3)
        assert list(watch) == []


def test_closing_ends_an_iteration_in_another_thread(fake: FakeFederation) -> None:
    with Client(fake.endpoints) as client, ThreadPoolExecutor(1) as pool:
        watch = client.watch()
        watch.connect()
        listening = pool.submit(lambda: [each.key for each in watch])
        watch.close()
        assert listening.result(20) == []


def test_closing_the_client_ends_its_watches(fake: FakeFederation) -> None:
    client = Client(fake.endpoints)
    watch = client.watch()
    watch.connect()
    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(next, iter(watch))
        client.close()
        assert isinstance(listening.exception(20), Unavailable)
    watch.close()


def test_a_watch_that_was_forgotten_is_closed(fake: FakeFederation) -> None:
    with Client(fake.endpoints) as client:
        watch = client.watch()
        watch.connect()
        assert fake.watched("aws-east")
        del watch
        gc.collect()
        fake.put(b"k", b"")  # the node notices when it writes
        client.put("k", b"")
