# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster whose host has several addresses, one per node."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support.fake_api import FakeFederation, answer, freeze
from support.pki import Authority

from grey.client import AsyncClient, Client, ClusterEndpoint, Unavailable
from grey.client.addresses import Health, Target
from grey.link.addresses import KEPT_SECONDS, Addresses
from grey.link.resolver import NamesResolver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from aiohttp.abc import ResolveResult
    from support.fake_api import Seen

NODES = ["127.0.0.1", "127.92.0.2", "127.92.0.3"]
ABSENT = "127.92.0.9"
"""Nobody listens there."""


@pytest.fixture
def fake() -> Iterator[FakeFederation]:
    with FakeFederation(["east"]).run(nodes=NODES[1:]) as federation:
        federation.put(b"k", b"v")
        yield federation


def client(fake: FakeFederation, addresses: Sequence[str], **options: float) -> AsyncClient:
    return AsyncClient(endpoint(fake), names={"east.test": addresses}, **options)  # type: ignore[arg-type]


def endpoint(fake: FakeFederation) -> list[ClusterEndpoint]:
    return [ClusterEndpoint("east", f"east.test:{fake['east'].port}")]


def writes(fake: FakeFederation) -> list[Seen]:
    return [seen for seen in fake.log if seen.method == "PUT"]


@contextmanager
def frozen(address: str, port: int) -> Iterator[None]:
    """Listen like a stopped process: the kernel takes connections, nobody answers."""
    with socket.create_server((address, port)):
        yield


async def test_a_dead_address_costs_nothing(fake: FakeFederation) -> None:
    for _ in range(10):
        async with client(fake, [ABSENT, NODES[0]], attempt_seconds=30, timeout_seconds=30) as east:
            done = await east.put("k", b"1")
            assert not done.replayed
            assert await east.get("k") is not None
    assert len(writes(fake)) == 10


@pytest.mark.parametrize("with_tls", [False, True])
async def test_a_frozen_node_does_not_cost_the_call(tmp_path: Path, with_tls: bool) -> None:
    authority = Authority()
    tls = authority.issue(tmp_path / "east", "east", dns=["east.test"], addresses=[])
    mine = authority.issue(tmp_path / "mine", "operator", dns=["operator.test"])
    federation = FakeFederation(["east"])
    with federation.run({"east": tls} if with_tls else None), frozen(ABSENT, federation["east"].port):
        async with AsyncClient(
            endpoint(federation),
            tls=mine if with_tls else None,
            names={"east.test": [ABSENT, NODES[0]]},
            timeout_seconds=60,
            attempt_seconds=2,
            connect_seconds=60,
        ) as east:
            await asyncio.gather(*(east.put(b"%d" % number, b"") for number in range(5)))
            assert federation.sequence == 5
            await asyncio.gather(*(east.get(b"%d" % number) for number in range(50)))


async def test_a_node_that_freezes_between_two_calls_is_left(fake: FakeFederation) -> None:
    async with client(fake, NODES, attempt_seconds=2, timeout_seconds=60) as east:
        await east.put("k", b"1")
        used = fake.log[-1].node
        fake["east"].node_acts[used] = freeze
        done = await east.put("k", b"2")
        assert not done.replayed
        assert fake.log[-1].node != used
        assert fake.data[b"k"].value == b"2"
        assert len({seen.request_id for seen in writes(fake)}) == 2


async def test_one_node_that_stops_sends_the_call_to_another(fake: FakeFederation) -> None:
    async with client(fake, NODES) as east:
        await east.get("k")
        used = fake.log[-1].node
        fake["east"].node_acts[used] = answer(503, "unavailable")
        assert await east.get("k") is not None
        assert [seen.node == used for seen in fake.log] == [True, True, False]


async def test_all_nodes_are_named_when_none_answers(fake: FakeFederation) -> None:
    port = fake["east"].port
    async with client(fake, [ABSENT, "127.92.0.8"], timeout_seconds=2) as east:
        with pytest.raises(Unavailable) as failed:
            await east.put("k", b"")
    for address in (ABSENT, "127.92.0.8"):
        assert f"east (east.test:{port} at {address}): connection refused" in failed.value.message
    assert writes(fake) == []


async def test_a_client_stays_with_a_node_and_clients_spread(fake: FakeFederation) -> None:
    used = set()
    for _ in range(40):
        async with client(fake, NODES) as east:
            first = len(fake.log)
            for _ in range(3):
                await east.get("k")
            nodes = {seen.node for seen in fake.log[first:]}
            assert len(nodes) == 1
            used |= nodes
    assert used == set(NODES)  # by chance not so in one of 3,600,000 runs
    assert {seen.headers["Host"] for seen in fake.log} == {f"east.test:{fake['east'].port}"}


async def test_a_cluster_that_moved_is_found_at_once(
    fake: FakeFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver's answer is kept, but not when nobody answers there any more."""
    addresses = [ABSENT]

    def resolve(host: str, port: int, *arguments: object, **options: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    async with AsyncClient(endpoint(fake), timeout_seconds=20) as east:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", resolve)
            with pytest.raises(Unavailable):
                await east.get("k", timeout_seconds=2)
            addresses[:] = [NODES[1]]
            assert await east.get("k") is not None


def test_without_await_too(fake: FakeFederation) -> None:
    with Client(endpoint(fake), names={"east.test": [ABSENT, *NODES]}) as east:
        assert [east.put(b"%d" % number, b"").replayed for number in range(20)] == [False] * 20


def targets(*addresses: str) -> list[Target]:
    return [Target("east.test", 1, address) for address in addresses]


def test_families_keep_the_order_of_the_resolver() -> None:
    for seed in range(20):
        health = Health(random.Random(seed))
        order = [target.address for target in health.order(targets("::1", "1.1.1.1", "::2", "1.1.1.2"), 0)]
        assert [":" in address for address in order] == [True, True, False, False]


def test_a_fault_is_forgotten_by_an_answer_or_by_time() -> None:
    health = Health(random.Random(1))
    first, second = health.order(targets("1.1.1.1", "1.1.1.2"), 0)
    health.bad(first, 0)
    health.bad(first, 1)  # one fault, seen by two calls
    assert health.order([first, second], 4.9) == [second, first]
    assert health.order([first, second], 5) == [first, second]
    health.bad(first, 5)
    assert health.order([first, second], 14.9) == [second, first]
    health.good(first)
    assert health.order([first, second], 14.9) == [first, second]
    health.bad(first, 20)
    health.bad(second, 21)
    assert health.order([first, second], 22) == [first, second]  # the one that failed longer ago


class Resolver(NamesResolver):
    def __init__(self) -> None:
        super().__init__({})
        self.asked = 0
        self.answer: list[str] | None = ["10.0.0.1"]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        if self.answer is None:
            raise OSError("no name server")
        return await NamesResolver({host: self.answer}).resolve(host, port, family)


async def test_answers_of_the_resolver_are_kept_for_a_while() -> None:
    resolver = Resolver()
    addresses = Addresses(resolver)
    assert await addresses.of("east.test", 0) == ["10.0.0.1"]
    resolver.answer = ["10.0.0.2", "::2"]
    assert await addresses.of("east.test", KEPT_SECONDS - 1) == ["10.0.0.1"]
    assert resolver.asked == 1
    assert await addresses.of("east.test", KEPT_SECONDS) == ["10.0.0.2", "::2"]
    resolver.answer = None  # an old answer is better than none
    assert await addresses.of("east.test", 5 * KEPT_SECONDS) == ["10.0.0.2", "::2"]
    addresses.doubt("east.test")
    addresses.doubt("never asked")
    assert await addresses.of("east.test", KEPT_SECONDS + 1) == ["10.0.0.2", "::2"]
    resolver.answer = ["10.0.0.3"]
    addresses.doubt("east.test")
    assert await addresses.of("east.test", KEPT_SECONDS + 1) == ["10.0.0.3"]
    resolver.answer = None
    with pytest.raises(OSError, match="no name server"):
        await addresses.of("west.test", 0)
    resolver.answer = []
    with pytest.raises(OSError, match=r"west\.test has no address"):
        await addresses.of("west.test", 0)
    assert await addresses.of("::1", 0) == ["::1"]
    await addresses.close()
