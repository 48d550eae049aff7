# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client against real nodes: both sides of docs/reference/api.md agree."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING

import pytest
from client.running import ctl_file, real_federation
from support.federation import RunningFederation

from grey.client import (
    AsyncClient,
    Client,
    ClusterEndpoint,
    Compacted,
    ConditionFailed,
    Consistency,
    Delete,
    Diverged,
    Event,
    Missing,
    Put,
    RequestIdReused,
    Value,
)
from grey.config.federation import load
from grey.record.position import Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.processes


KEYS = [b"user:123", b".", b"..", b"a/../b", b"%2F", b"\x00", b"\xff\xfe", " ü?#&=+".encode()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFederation]:
    with real_federation(tmp_path_factory.mktemp("federation")) as federation:
        yield federation


@pytest.fixture(scope="module")
def config(running: RunningFederation) -> Path:
    return ctl_file(running)


@pytest.fixture
async def client(config: Path) -> AsyncIterator[AsyncClient]:
    """Near the primary, so that what is written is there."""
    async with AsyncClient.from_config(config, prefer="aws-east", timeout_seconds=60) as client:
        yield client


@pytest.fixture
async def far(config: Path) -> AsyncIterator[AsyncClient]:
    async with AsyncClient.from_config(config, prefer="gcp-west", timeout_seconds=60) as client:
        yield client


async def shown(far: AsyncClient, key: str, value: bytes) -> None:
    """Wait until a replica shows a write."""

    async def holds() -> bool:
        found = await far.get(key, cluster="gcp-west")
        return found is not None and found.value == value

    await RunningFederation.until(holds, 60, f"gcp-west shows {key}")


async def test_any_key(client: AsyncClient) -> None:
    for key in KEYS:
        await client.put(key, key)
        found = await client.get(key)
        assert found is not None
        assert found.value == key
    assert {item.key for item in [each async for each in client.list()]} >= set(KEYS)
    await client.batch([Delete(key) for key in KEYS])
    assert await client.look(KEYS[0]) == Missing(KEYS[0], "aws-east")


async def test_conditions(client: AsyncClient) -> None:
    first = await client.put("c", b"1", if_absent=True)
    with pytest.raises(ConditionFailed) as failed:
        await client.put("c", b"2", if_absent=True)
    assert failed.value.position == first.position
    second = await client.put("c", b"2", if_position=first.position)
    with pytest.raises(ConditionFailed) as failed:
        await client.put("c", b"3", if_position=str(first.position))
    assert failed.value.position == second.position
    with pytest.raises(ConditionFailed) as failed:
        await client.delete("c", if_position=first.position)
    with pytest.raises(ConditionFailed) as failed:
        await client.batch(
            [Put("c2", b""), Put("c", b"3", if_position=second.position), Delete("none", if_position="1.1")]
        )
    assert (failed.value.key, failed.value.position) == (b"none", None)
    assert await client.get("c2") is None
    done = await client.batch(
        [Put("c2", b"", if_absent=True, ttl=60), Delete("c", if_position=second.position)]
    )
    assert [each.key for each in done] == [b"c2", b"c"]
    await client.delete("c2")


async def test_a_conditional_write_can_be_repeated(client: AsyncClient) -> None:
    first = await client.put("r", b"1", if_absent=True, request_id="once")
    again = await client.put("r", b"1", if_absent=True, request_id="once")
    assert (again.position, again.replayed) == (first.position, True)
    with pytest.raises(RequestIdReused):
        await client.put("r", b"1", request_id="once")
    await client.delete("r")


async def test_a_time_to_live(client: AsyncClient) -> None:
    now = datetime.datetime.now(datetime.UTC)
    await client.put("t", b"long", ttl=datetime.timedelta(days=400))
    found = await client.get("t")
    assert found is not None
    assert found.expires is not None
    assert datetime.timedelta(days=400) <= found.expires - now < datetime.timedelta(days=400, seconds=60)
    page = await client.page("t")
    assert page.items[0].expires == found.expires
    async with client.watch("t", page.position) as watch:
        await client.put("t", b"short", ttl=1)
        async with asyncio.timeout(60):
            put, delete = await anext(watch), await anext(watch)
    assert (put.kind, put.value, put.expires is not None) == ("put", b"short", True)
    assert (delete.kind, delete.key) == ("delete", b"t")
    assert await client.get("t", consistency=Consistency.STRONG) is None
    await client.put("t", b"", ttl=1.0001)
    await client.put("t", b"", ttl=3650 * 86400)
    assert (await client.delete("t")).existed


async def test_a_large_listing_is_packed_and_of_one_state(client: AsyncClient, far: AsyncClient) -> None:
    for start in range(0, 500, 100):
        await client.batch([Put(f"l/{number:04}", b"before" * 10) for number in range(start, start + 100)])
    first = await client.page("l/", limit=200)
    assert len(first.items) == 200
    await client.batch([Put(f"l/{number:04}", b"after") for number in range(450, 500)])
    await client.batch([Delete(f"l/{number:04}") for number in range(300, 350)])
    await shown(far, "l/0499", b"after")
    # The pages that follow show the state of the first one, also when another cluster gives them.
    second = await far.page("l/", after=first.next, limit=200)
    third = await client.page("l/", after=second.next, limit=200)
    assert (second.cluster, third.next) == ("gcp-west", None)
    assert first.position == second.position == third.position
    found = [*first.items, *second.items, *third.items]
    assert [item.key for item in found] == [b"l/%04d" % number for number in range(500)]
    assert {item.value for item in found} == {b"before" * 10}
    assert len([item async for item in client.list("l/", values=False)]) == 450


async def test_a_watch_from_a_listing_elsewhere(client: AsyncClient, far: AsyncClient) -> None:
    await client.put("w/0", b"0")
    page = await client.page("w/")
    await shown(far, "w/0", b"0")
    async with far.watch("w/", page.position) as watch:
        assert watch.cluster == "gcp-west"
        done = await client.put("w/1", b"1")
        await client.put("other", b"")
        gone = await client.delete("w/0")
        async with asyncio.timeout(60):
            found = [await anext(watch), await anext(watch)]
    assert gone.position is not None
    assert gone.stamp is not None
    assert found == [
        Event("put", b"w/1", done.position, done.stamp, "aws-east", "gcp-west", b"1"),
        Event("delete", b"w/0", gone.position, gone.stamp, "aws-east", "gcp-west"),
    ]


async def test_positions_that_never_were(client: AsyncClient) -> None:
    with pytest.raises((Diverged, Compacted)):
        async with client.watch(after=Position(7, 1)):
            ...


async def test_reads_of_every_freshness(client: AsyncClient, far: AsyncClient) -> None:
    await client.put("f", b"v")
    for wanted in (Consistency.STRONG, Consistency.bounded(60), Consistency.EVENTUAL):
        found = await client.get("f").consistency(wanted)
        assert isinstance(found, Value)
        assert found.value == b"v"
    strong = await far.get("f", consistency=Consistency.STRONG)
    assert strong is not None
    assert strong.cluster == "aws-east"


async def test_kills_and_freezes_under_a_watch(client: AsyncClient, running: RunningFederation) -> None:
    """The watched node is killed, then the one it goes to is frozen; every write is told once, in order."""
    replicas = [
        ClusterEndpoint(each.name, str(each.endpoint))
        for each in load(running.file).clusters
        if each.role == "replica"
    ]
    told: list[Event] = []
    async with (
        AsyncClient(
            replicas, tls=running.operator, names=running.names, timeout_seconds=120, silence_seconds=8
        ) as near,
        near.watch("kill/") as watch,
    ):

        async def tell(numbers: range) -> None:
            async def write() -> None:
                for number in numbers:
                    await client.put(f"kill/{number:03}", b"%d" % number)

            async def listen() -> None:
                async with asyncio.timeout(100):
                    while len(told) < numbers.stop:
                        told.append(await anext(watch))

            await asyncio.gather(write(), listen())

        await tell(range(20))
        assert watch.cluster == "gcp-west"
        running.nodes["gcp-west"].kill()
        await tell(range(20, 40))
        assert watch.cluster == "edge-chicago"
        running.nodes["gcp-west"].start()
        running.nodes["edge-chicago"].freeze()
        try:
            await tell(range(40, 60))
        finally:
            running.nodes["edge-chicago"].thaw()
        assert watch.cluster == "gcp-west"
        await tell(range(60, 80))
    assert [each.value for each in told] == [b"%d" % number for number in range(80)]
    positions = [each.position for each in told]
    assert positions == sorted(set(positions))


def test_without_await(config: Path) -> None:
    with Client.from_config(config, prefer="aws-east", timeout_seconds=60) as client:
        with client.watch("sync/") as watch:
            done = client.put("sync/1", b"1", ttl=60, if_absent=True)
            assert next(watch).position == done.position
        assert client.delete("sync/1", if_position=done.position).existed
        assert client.look("sync/1") == Missing(b"sync/1", "aws-east")
