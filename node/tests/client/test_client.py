# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The asynchronous client when all goes well."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fake_api import freeze, raw
from support.model_federation import federation

from grey.client import (
    AsyncClient,
    BadAnswer,
    BadRequest,
    BatchResult,
    Client,
    Consistency,
    Delete,
    Deleted,
    Missing,
    OutcomeUnknown,
    Put,
    Unavailable,
    Value,
    ValueTooLarge,
    Written,
)
from grey.record.position import Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_api import FakeFederation


@pytest.fixture
async def client(fake: FakeFederation) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.endpoints, prefer="gcp-west", primary="aws-east") as client:
        yield client


async def test_both_ways_to_say_how_fresh(fake: FakeFederation, client: AsyncClient) -> None:
    fake.put(b"k", b"v")
    one = await client.get("k").consistency(Consistency.STRONG)
    other = await client.get("k", consistency=Consistency.STRONG)
    assert one == other
    assert one is not None
    assert one.cluster == "aws-east"
    assert (await client.get("k").consistency(Consistency.bounded(5))).cluster == "gcp-west"  # type: ignore[union-attr]
    assert [seen.path.partition("?")[2] for seen in fake.log] == [
        "consistency=strong",
        "consistency=strong",
        "consistency=bounded&max_staleness=5000ms",
    ]


async def test_a_get_is_a_coroutine_that_asks_nobody_before_it_runs(
    fake: FakeFederation, client: AsyncClient
) -> None:
    fake.put(b"k", b"v")
    unused = client.get("k")
    unused.consistency(Consistency.STRONG)
    unused.close()
    assert fake.log == []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(client.get("k"))
    assert task.result() is not None
    assert len(await asyncio.gather(*(client.get("k") for _ in range(3)))) == 3
    assert await asyncio.wait_for(client.get("k"), 60) is not None
    with pytest.raises(BadRequest, match="a key has 1 to 1024 bytes"):
        await client.get("")
    fake["gcp-west"].script.append(freeze)
    call = asyncio.ensure_future(client.get("k"))
    assert await asyncio.to_thread(fake.seen, "gcp-west", 20)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_missing_key_says_who_says_so(fake: FakeFederation, client: AsyncClient) -> None:
    fake.put(b"k", b"v")
    assert await client.look("none") == Missing(b"none", "gcp-west", 0.25)
    assert await client.look("none", consistency=Consistency.STRONG) == Missing(b"none", "aws-east", None)
    assert isinstance(await client.look("k"), Value)


async def test_connections_are_used_again(fake: FakeFederation, client: AsyncClient) -> None:
    for number in range(50):
        await client.put("k", b"%d" % number)
        await client.get("k")
    assert len(fake["aws-east"].connections) == 1
    assert len(fake["gcp-west"].connections) == 1
    await asyncio.gather(*(client.put("k", b"") for _ in range(200)))
    assert len(fake["aws-east"].connections) <= 100
    for _ in range(3):
        before = len(fake["aws-east"].connections)
        await asyncio.gather(*(client.put("k", b"") for _ in range(before)))
        assert len(fake["aws-east"].connections) == before


async def test_no_more_connections_than_allowed(fake: FakeFederation) -> None:
    async with AsyncClient(fake.endpoints, connections=3) as client:
        await asyncio.gather(*(client.put(b"%d" % number, b"") for number in range(60)))
    assert len(fake["aws-east"].connections) == 3
    assert fake.sequence == 60


async def test_put_get_delete(fake: FakeFederation, client: AsyncClient) -> None:
    assert await client.put("user:123", b"Ada") == Written(b"user:123", Position(1, 1), "1700000000.1")
    assert await client.get("user:123", consistency=Consistency.STRONG) == Value(
        b"user:123", b"Ada", Position(1, 1), "1700000000.1", "aws-east", "aws-east"
    )
    assert await client.get("user:123") == Value(
        b"user:123", b"Ada", Position(1, 1), "1700000000.1", "aws-east", "gcp-west", 0.25
    )
    assert await client.delete("user:123") == Deleted(b"user:123", True, Position(1, 2), "1700000000.2")
    assert await client.delete("user:123") == Deleted(b"user:123", False, None, None)
    assert await client.get("user:123") is None
    assert fake.asked == ["aws-east", "aws-east", "gcp-west", "aws-east", "aws-east", "gcp-west"]
    assert len({seen.request_id for seen in fake.log if seen.method != "GET"}) == 3


async def test_consistency_is_asked_for(fake: FakeFederation, client: AsyncClient) -> None:
    await client.get("k")
    await client.get("k", consistency=Consistency.bounded(2.5))
    await client.get("k", consistency=Consistency.bounded(0.0009))
    await client.get("k", consistency=Consistency.STRONG)
    assert [(seen.cluster, seen.path) for seen in fake.log] == [
        ("gcp-west", "/v1/kv/k?consistency=eventual"),
        ("gcp-west", "/v1/kv/k?consistency=bounded&max_staleness=2500ms"),
        ("gcp-west", "/v1/kv/k?consistency=bounded&max_staleness=1ms"),
        ("aws-east", "/v1/kv/k?consistency=strong"),
    ]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_bound_is_above_zero(seconds: float) -> None:
    with pytest.raises(ValueError, match="max_staleness must be a number of seconds above 0"):
        Consistency.bounded(seconds)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(key=st.binary(min_size=1, max_size=40), value=st.binary(max_size=100))
def test_any_key_and_value_make_the_round(fake: FakeFederation, key: bytes, value: bytes) -> None:
    fake.data.clear()
    with Client(fake.endpoints) as client:
        client.put(key, value)
        assert {stored: found.value for stored, found in fake.data.items()} == {key: value}
        found = client.get(key)
        assert found is not None
        assert (found.key, found.value) == (key, value)
        assert [item.key for item in client.list(key)] == [key]


@pytest.mark.parametrize("key", [b".", b"..", b"/", b"../../etc", b"\x00", b"%2F", b"a b?c#d", b"\xff\xfe"])
async def test_keys_that_paths_do_not_like(fake: FakeFederation, client: AsyncClient, key: bytes) -> None:
    await client.put(key, b"here")
    assert list(fake.data) == [key]
    found = await client.get(key)
    assert found is not None
    assert found.value == b"here"
    await client.batch([Put(key + b"2", b""), Delete(key)])
    assert list(fake.data) == [key + b"2"]


async def test_batch(fake: FakeFederation, client: AsyncClient) -> None:
    fake.put(b"old", b"1")
    done = await client.batch([Put("new", b"\x00"), Delete("old"), Delete(b"none\xff")], request_id="b-1")
    assert done == (
        BatchResult(b"new", Position(1, 2), "1700000000.2"),
        BatchResult(b"old", Position(1, 3), "1700000000.3"),
        BatchResult(b"none\xff", Position(1, 4), "1700000000.4"),
    )
    assert json.loads(fake.log[0].body) == {
        "operations": [
            {"op": "put", "key": "new", "value_base64": "AA=="},
            {"op": "delete", "key": "old"},
            {"op": "delete", "key": "none%FF"},
        ]
    }
    assert fake.log[0].request_id == "b-1"


async def test_one_cluster_alone(fake: FakeFederation, client: AsyncClient) -> None:
    fake.put(b"k", b"v")
    found = await client.get("k", cluster="edge-chicago")
    assert found is not None
    assert found.cluster == "edge-chicago"
    with pytest.raises(BadRequest, match="there is no cluster mars, the clusters are aws-east, gcp-west, "):
        await client.get("k", cluster="mars")
    assert fake.asked == ["edge-chicago"]


async def test_what_cannot_be_is_not_sent(fake: FakeFederation, client: AsyncClient) -> None:
    with pytest.raises(ValueTooLarge, match="the value may have 1048576 bytes, found 1048577") as large:
        await client.put("k", bytes(1_048_577))
    assert large.value.limit_bytes == 1_048_576
    with pytest.raises(ValueTooLarge, match="the values of a batch together may have 1048576 bytes"):
        await client.batch([Put("a", bytes(1_000_000)), Put("b", bytes(48_577))])
    for operations, message in (
        ([], "a batch has 1 to 100 operations, not 0"),
        ([Delete(b"%d" % number) for number in range(101)], "a batch has 1 to 100 operations, not 101"),
        ([Put("a", b""), Delete(b"a")], "a batch names each key once, a is there twice"),
        ([Delete("")], "a key has 1 to 1024 bytes, this one has 0"),
        (
            [Put("k", b"", if_absent=True, if_position="1.1")],
            "a put takes if_absent or if_position, not both",
        ),
    ):
        with pytest.raises(BadRequest) as error:
            await client.batch(operations)
        assert error.value.message == message
    with pytest.raises(BadRequest, match=r"a request id is 1 to 64 of A-Za-z0-9._-, not 'a b'"):
        await client.put("k", b"", request_id="a b")
    with pytest.raises(BadRequest, match="a page has a limit of 1 to 1000 keys, not 1001"):
        await client.page(limit=1001)
    assert fake.log == []


async def test_the_largest_value_goes_through(fake: FakeFederation, client: AsyncClient) -> None:
    await client.put("k", bytes(1_048_576))
    found = await client.get("k")
    assert found is not None
    assert len(found.value) == 1_048_576


GOOD = {"Grey-Position": "1.2", "Grey-Stamp": "3.4", "Grey-Origin": "o", "Grey-Cluster": "c"}


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Grey-Origin": ""}, "wanted the header Grey-Position in the answer to a get, found none"),
        ({**GOOD, "Grey-Position": "x"}, "a position is written EPOCH.SEQUENCE"),
        (
            {**GOOD, "Grey-Lag-Seconds": "soon"},
            "the headers of the answer to a get are wrong: could not conv",
        ),
    ],
)
async def test_a_get_that_is_garbled(
    fake: FakeFederation, client: AsyncClient, headers: dict[str, str], message: str
) -> None:
    fake["gcp-west"].script.append(raw(200, b"v", headers))
    with pytest.raises(BadAnswer, match=message):
        await client.get("k")


async def test_a_write_whose_acknowledgement_is_garbled_is_unknown(
    fake: FakeFederation, client: AsyncClient
) -> None:
    fake["aws-east"].script.append(raw(200, b"<html>"))
    with pytest.raises(OutcomeUnknown, match="the answer of aws-east is garbled") as error:
        await client.put("k", b"", request_id="r-1")
    assert error.value.request_id == "r-1"


async def test_something_else_answers(fake: FakeFederation, client: AsyncClient) -> None:
    for cluster in fake.clusters.values():
        cluster.script.append(raw(404, b"<h1>Not here</h1>"))
    with pytest.raises(
        BadAnswer,
        match=r"wanted an answer of the Grey API, found status 404 with '<h1>Not here</h1>'; check that",
    ):
        await client.get("k")
    assert fake.asked == ["gcp-west"]


def test_from_a_federation_file() -> None:
    with pytest.raises(Exception, match="/etc/grey/c: the certificate does not exist"):
        AsyncClient.from_federation(federation())


async def test_from_a_federation_file_without_tls() -> None:
    found = federation("a", "b", primary="b")
    found = msgspec.structs.replace(found, security=msgspec.structs.replace(found.security, api_tls="off"))
    async with AsyncClient.from_federation(
        found, names={"a.example.com": ["127.0.0.1"]}, timeout_seconds=2, prefer="a"
    ) as client:
        assert client.primary == "b"
        with pytest.raises(
            Unavailable, match=r"get k: not done within 2 s: a \(a\.example\.com:8080\): conn"
        ):
            await client.get("k", cluster="a")
