# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica cluster of three nodes on one etcd: one follows, and all know how fresh the data is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from support.federation import Shared, running_federation
from support.load import Load, holds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.federation import GreyNode, RunningFederation

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.processes]

DETECTION = 6.0
PRIMARY, REPLICA = "aws-east", "gcp-west"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFederation]:
    folder = tmp_path_factory.mktemp("replica-cluster")
    async with running_federation(
        folder, clusters=(PRIMARY, REPLICA), shared={REPLICA: Shared()}, detection_time=f"{DETECTION:g}s"
    ) as running:
        yield running


async def shows(federation: RunningFederation, node: GreyNode, key: bytes, value: bytes, query: str) -> None:
    async def there() -> bool:
        read = await federation.kv("GET", node, key, query=query)
        return read.status == 200 and read.body == value

    await federation.until(there, 15, f"{key!r} on {node.name} with {query or 'eventual'}")


async def everywhere(federation: RunningFederation, key: bytes, value: bytes) -> None:
    """Write on the primary, and read on every node of the replica."""
    assert (await federation.kv("PUT", federation.primary, key, data=value)).status == 200
    for node in federation.clusters[REPLICA]:
        if node.process is not None:
            await shows(federation, node, key, value, "")
            await shows(federation, node, key, value, "?consistency=bounded&max_staleness=2s")


async def test_every_node_shows_what_one_of_them_follows(federation: RunningFederation) -> None:
    await everywhere(federation, b"one", b"1")
    for node in federation.clusters[REPLICA]:
        ready = (await federation.health(node, "/replica?lag=2s")).json
        assert (ready["role"], ready["problem"]) == ("replica", None)
        strong = await federation.kv("GET", node, b"one", query="?consistency=strong")
        assert (strong.status, strong.code) == (421, "not_primary")
        refused = await federation.kv("PUT", node, b"one", data=b"2")
        assert (refused.status, refused.code) == (421, "not_primary")
        read = await federation.kv("GET", node, b"one")
        assert 0 <= float(read.headers["Grey-Lag-Seconds"]) < 2


async def test_a_bounded_read_is_never_older_than_it_says(federation: RunningFederation) -> None:
    """Each value is written once the one before is more than the bound old: it must show by then."""
    nodes = federation.clusters[REPLICA]
    bound = 2.0
    for number in range(6):
        put = await federation.kv("PUT", federation.primary, b"bounded", data=b"%d" % number)
        assert put.status == 200
        await asyncio.sleep(bound)
        for node in nodes:
            read = await federation.kv(
                "GET", node, b"bounded", query=f"?consistency=bounded&max_staleness={bound:g}s"
            )
            # Too stale is an honest answer; an older value is none.
            assert (read.status, read.body) == (200, b"%d" % number) or read.code == "too_stale"


async def test_a_replica_that_hears_nothing_refuses_bounded_reads_on_every_node(
    federation: RunningFederation,
) -> None:
    federation.primary.freeze()
    try:
        for node in federation.clusters[REPLICA]:

            async def too_stale(node: GreyNode = node) -> bool:
                read = await federation.kv("GET", node, b"one", query="?consistency=bounded&max_staleness=2s")
                return read.status == 503 and read.code == "too_stale"

            await federation.until(too_stale, 15, f"{node.name} refuses")
            assert (await federation.kv("GET", node, b"one")).body == b"1"
            assert (await federation.health(node, "/replica?lag=2s")).status == 503
    finally:
        federation.primary.thaw()
    await federation.ready(30)


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_another_node_follows_when_the_follower_is_lost(
    federation: RunningFederation, fault: str
) -> None:
    leader = await federation.leader(REPLICA)
    writing = Load(federation, f"follower-{fault}")
    running = asyncio.create_task(writing.run(4))
    await writing.acknowledges(50)
    others = [node for node in federation.clusters[REPLICA] if node is not leader]
    if fault == "killed":
        leader.kill()
    else:
        leader.freeze()
    try:
        await writing.acknowledges(50)
        newest = max(writing.acknowledged)
        for node in others:
            await shows(federation, node, newest, newest, "")
            await shows(federation, node, newest, newest, "?consistency=bounded&max_staleness=2s")
    finally:
        if fault == "killed":
            leader.start()
        else:
            leader.thaw()
    await writing.acknowledges(20)
    writing.stop()
    await running
    await federation.ready(30)
    assert await federation.leader(REPLICA) is not leader
    for node in federation.all_nodes():
        await holds(federation, node, set(writing.acknowledged), f"follower-{fault}")


async def test_a_node_without_an_engine_says_how_old_its_memory_is(federation: RunningFederation) -> None:
    """The leader's word is still fresh; what this node can show is not."""
    leader = await federation.leader(REPLICA)
    node = next(each for each in federation.clusters[REPLICA] if each is not leader)
    assert node.engine is not None
    await everywhere(federation, b"memory", b"1")
    node.engine.freeze()
    try:
        # As long as nothing is written, what it shows is as fresh as the leader says.
        assert (await federation.kv("PUT", federation.primary, b"memory", data=b"2")).status == 200

        async def old() -> bool:
            return (await federation.health(node, "/replica?lag=2s")).status == 503

        await federation.until(old, 20, f"{node.name} is no ready replica")
        read = await federation.kv("GET", node, b"memory")
        assert (read.status, read.body) == (200, b"1")
        assert float(read.headers["Grey-Lag-Seconds"]) > 2
        assert (await federation.health(leader, "/replica?lag=2s")).status == 200
    finally:
        node.engine.thaw()
    await federation.ready(30)


async def test_the_engine_s_leader_dies_while_records_come(federation: RunningFederation) -> None:
    engine = federation.engines[REPLICA]
    writing = Load(federation, "engine")
    running = asyncio.create_task(writing.run(4))
    await writing.acknowledges(50)
    lost = await engine.leader()
    lost.kill()
    await writing.acknowledges(50)
    lost.start()
    await writing.acknowledges(50)
    writing.stop()
    await running
    await federation.ready(30)
    for node in federation.all_nodes():
        await holds(federation, node, set(writing.acknowledged), "engine")


async def test_all_nodes_of_the_replica_end_and_come_back(federation: RunningFederation) -> None:
    """Killed in the middle of what they do, with the primary writing on."""
    nodes = federation.clusters[REPLICA]
    writing = Load(federation, "all")
    running = asyncio.create_task(writing.run(4))
    for _ in range(2):
        await writing.acknowledges(30)
        for node in nodes:
            node.kill()
        await writing.acknowledges(30)
        for node in nodes:
            node.start()
    await writing.acknowledges(30)
    writing.stop()
    await running
    await federation.ready(30)
    for node in federation.all_nodes():
        await holds(federation, node, set(writing.acknowledged), "all")
    status = (await federation.status(nodes[0])).json
    assert (status["epoch"], status["primary"]) == (1, PRIMARY)
