# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary cluster of three nodes on one etcd, and its replica: whichever process of them is lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from support.federation import Shared, running_federation
from support.load import Load, boottime
from support.load import load as any_load

from grey.federation.role import Timing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.engine_cluster import EngineProcess
    from support.federation import GreyNode, RunningFederation

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.processes]

DETECTION = 6.0
TIMING = Timing.of(DETECTION)
PRIMARY, REPLICA = "aws-east", "gcp-west"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFederation]:
    folder = tmp_path_factory.mktemp("cluster")
    async with running_federation(
        folder, clusters=(PRIMARY, REPLICA), shared={PRIMARY: Shared()}, detection_time=f"{DETECTION:g}s"
    ) as running:
        yield running


@asynccontextmanager
async def load(federation: RunningFederation, prefix: str) -> AsyncIterator[Load]:
    """Write to all nodes meanwhile; in the end the epoch is the first one, and everything is everywhere."""
    async with any_load(federation, PRIMARY, prefix, writers=6) as writing:
        yield writing
    status = (await federation.status(federation.nodes[REPLICA])).json
    assert (status["epoch"], status["primary"]) == (1, PRIMARY)


async def another_leads(federation: RunningFederation, before: GreyNode) -> GreyNode:
    """Wait until a node other than ``before`` leads."""
    found: list[GreyNode] = []

    async def changed() -> bool:
        found[:] = [await federation.leader(PRIMARY)]
        return found[0] is not before

    await federation.until(changed, 3 * DETECTION, f"another leader than {before.name}")
    return found[0]


async def test_any_node_answers_and_shows_what_another_wrote(federation: RunningFederation) -> None:
    nodes = federation.clusters[PRIMARY]
    for number in range(12):
        writer, reader = nodes[number % 3], nodes[(number + 1) % 3]
        put = await federation.kv("PUT", writer, b"seen", data=b"%d" % number)
        assert put.status == 200
        for query in ("?consistency=strong", "?consistency=bounded&max_staleness=5s"):
            read = await federation.kv("GET", reader, b"seen", query=query)
            assert (read.status, read.body) == (200, b"%d" % number), query
            assert read.headers["Grey-Position"] == put.json["position"]
        own = await federation.kv("GET", writer, b"seen")
        assert own.body == b"%d" % number, "a node shows at once what was written through it"
    for node in nodes:

        async def shows(node: GreyNode = node) -> bool:
            return (await federation.kv("GET", node, b"seen")).body == b"11"

        await federation.until(shows, 5, f"the value in the memory of {node.name}")


async def test_one_node_leads_and_all_say_the_same(federation: RunningFederation) -> None:
    leader = await federation.leader(PRIMARY)
    for node in federation.clusters[PRIMARY]:
        text = (await federation.health(node, "/metrics")).body.decode()
        assert f"\ngrey_leader {1.0 if node is leader else 0.0}\n" in text
        assert "\ngrey_engine_members 3.0\n" in text
        assert "\ngrey_engine_up 1.0\n" in text
        assert 'grey_role{role="primary"} 1.0' in text
        deadline = next(line for line in text.splitlines() if line.startswith("grey_role_deadline_seconds "))
        assert 0 < float(deadline.split()[1]) <= TIMING.deadline(0.0)

        async def settled(node: GreyNode = node) -> bool:
            own = (await federation.status(node)).json["clusters"][0]
            return bool(own["online"] and own["status"] == "primary" and own["problem"] is None)

        await federation.until(settled, 10, f"a settled status by {node.name}")
    state = await federation.control_request(leader, "/v1/cluster/state")
    assert (state.status, state.code) == (403, "forbidden")


async def test_the_leader_is_killed(federation: RunningFederation) -> None:
    leader = await federation.leader(PRIMARY)
    async with load(federation, "leader-killed") as writing:
        leader.kill()
        await another_leads(federation, leader)
        await writing.acknowledges(50)
        leader.start()
    # The others write on while one of them takes over: they have their deadlines.
    assert writing.longest_gap() < DETECTION


async def test_the_leader_is_frozen_and_thawed(federation: RunningFederation) -> None:
    leader = await federation.leader(PRIMARY)
    async with load(federation, "leader-frozen") as writing:
        leader.freeze()
        try:
            await another_leads(federation, leader)
            await writing.acknowledges(50)
        finally:
            leader.thaw()

        async def writes_again() -> bool:
            return (await federation.kv("PUT", leader, b"thawed", data=b"1")).status == 200

        await federation.until(writes_again, 15, f"writes through {leader.name}")
    assert writing.longest_gap() < DETECTION
    assert await federation.leader(PRIMARY) is not leader


async def test_no_write_is_acknowledged_after_the_deadline(federation: RunningFederation) -> None:
    """Without a majority of the federation store nobody renews, whichever node is asked or frozen."""
    nodes = federation.clusters[PRIMARY]
    async with load(federation, "deadline") as writing:
        leader = await federation.leader(PRIMARY)
        frozen = next(node for node in nodes if node is not leader)
        stopped = federation.etcd.members[:2]
        for member in stopped:
            member.freeze()
        frozen.freeze()
        try:
            await asyncio.sleep(DETECTION)
            over = boottime()
            writing.refused_by.clear()
            await asyncio.sleep(DETECTION / 2)
            frozen.thaw()

            async def all_refuse() -> bool:
                return writing.refused_by == {node.name for node in nodes}

            await federation.until(all_refuse, 15, "all nodes refuse")
            late = [key for key, seen in writing.acknowledged.items() if seen > over]
            for node in nodes:
                strong = await federation.kv("GET", node, b"seen", query="?consistency=strong")
                assert (strong.status, strong.code) == (503, "fenced")
                assert (await federation.health(node, "/primary")).status == 503
                assert (await federation.kv("GET", node, b"seen")).status == 200
        finally:
            for member in stopped:
                member.thaw()
        # One answer may have been between its last check and the socket when the process stopped.
        assert len(late) <= 1
    assert set(writing.refused) <= {"fenced", "outcome_unknown"}


@pytest.mark.parametrize("fault", ["killed", "frozen"])
@pytest.mark.parametrize("which", ["the leader of the engine", "another member"])
async def test_a_member_of_the_engine_is_lost(federation: RunningFederation, fault: str, which: str) -> None:
    engine = federation.engines[PRIMARY]
    lost = (await engine.leader()) if which.startswith("the leader") else (await engine.followers())[0]
    beside = beside_of(federation, lost)
    async with load(federation, f"engine-{fault}-{which.split()[1]}") as writing:
        if fault == "killed":
            lost.kill()
        else:
            lost.freeze()
        try:
            await writing.acknowledges(100, within=30)

            async def says_why() -> bool:
                answer = await federation.health(beside, "/primary")
                return answer.status == 503 and "engine" in (answer.json["problem"] or "")

            await federation.until(says_why, 15, f"{beside.name} says that its engine is gone")
            # Memory still shows what it has, and nothing is written that nobody could confirm.
            assert (await federation.kv("GET", beside, b"seen")).status == 200
            refused = await federation.kv("PUT", beside, b"seen", data=b"lost?")
            assert (refused.status, refused.code) in {(503, "unavailable"), (503, "fenced")}
        finally:
            if fault == "killed":
                lost.start()
            else:
                lost.thaw()


async def test_a_host_dies_with_leader_and_engine(federation: RunningFederation) -> None:
    leader = await federation.leader(PRIMARY)
    assert leader.engine is not None
    async with load(federation, "host-killed") as writing:
        leader.kill()
        leader.engine.kill()
        await another_leads(federation, leader)
        await writing.acknowledges(50)
        leader.start()  # it waits for its engine

        async def waits() -> bool:
            return "be reached" in ((await federation.health(leader, "/ready")).json["problem"] or "")

        await federation.until(waits, 15, "greyd waits for its engine")
        leader.engine.start()


async def test_a_host_freezes_with_leader_and_engine(federation: RunningFederation) -> None:
    leader = await federation.leader(PRIMARY)
    assert leader.engine is not None
    async with load(federation, "host-frozen") as writing:
        leader.engine.freeze()
        leader.freeze()
        try:
            await another_leads(federation, leader)
            await writing.acknowledges(50)
        finally:
            leader.engine.thaw()
            leader.thaw()


async def test_an_engine_without_a_majority(federation: RunningFederation) -> None:
    """Reads go on from memory, writes are refused; nothing is promoted and the same epoch goes on."""
    engine = federation.engines[PRIMARY]
    async with load(federation, "no-majority"):
        lost = engine.members[:2]
        for member in lost:
            member.freeze()
        try:
            for node in federation.clusters[PRIMARY]:

                async def refuses(node: GreyNode = node) -> bool:
                    answer = await federation.kv("PUT", node, b"seen", data=b"lost?")
                    return answer.status == 503 and answer.code in {"unavailable", "fenced"}

                await federation.until(refuses, 30, f"{node.name} refuses writes")
                assert (await federation.kv("GET", node, b"seen")).status == 200
                ready = await federation.health(node, "/ready")
                assert ready.status == 200
                assert "engine" in ready.json["problem"]
        finally:
            for member in lost:
                member.thaw()


async def test_the_replica_goes_on_following_from_another_node(federation: RunningFederation) -> None:
    """Whichever node it follows, it is among those that are restarted one after the other."""
    replica = federation.nodes[REPLICA]
    async with load(federation, "rolling") as writing:
        for node in federation.clusters[PRIMARY]:
            node.kill()
            await writing.acknowledges(20)
            newest = max(writing.acknowledged)

            async def arrived(key: bytes = newest) -> bool:
                return (await federation.kv("GET", replica, key)).status == 200

            await federation.until(arrived, 15, f"new records on the replica without {node.name}")
            node.start()

            async def writes(node: GreyNode = node) -> bool:
                return (await federation.health(node, "/primary")).status == 200

            await federation.until(writes, 20, f"{node.name} writes again")


async def test_a_node_that_ends_hands_the_lead_over_at_once(federation: RunningFederation) -> None:
    leader = await federation.leader(PRIMARY)
    async with load(federation, "ended") as writing:
        assert await asyncio.to_thread(leader.stop) == 0
        after = await federation.leader(PRIMARY)
        assert after is not leader
        leader.start()
    # No request that was accepted failed; those that came too late found no connection.
    assert set(writing.refused) <= {"fenced"}, writing.refused
    assert "leads its cluster now (before: " in after.log.read_text()


def beside_of(federation: RunningFederation, member: EngineProcess) -> GreyNode:
    """Return the greyd that reaches the engine through a member."""
    return next(node for node in federation.clusters[PRIMARY] if node.engine is member)
