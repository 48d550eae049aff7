# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters of several nodes: whatever befalls the one that leads, its cluster stays the primary."""

from __future__ import annotations

import os
import random
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.virtual_time import run_virtual

from .simulated import DETECTION, TIMING, Fault, Kind, World

SCHEDULES = int(os.environ.get("GREY_SCHEDULES", "200")) // 4
SIZES = (3, 2, 1)
NODES = sum(SIZES)
EAST = 3
QUIET_AFTER = 40.0
END = QUIET_AFTER + 2 * DETECTION

KINDS: list[Kind] = [
    "freeze", "stall", "kill", "outage", "partition", "lossy", "engine", "member", "apart", "behead"
]  # fmt: skip


def random_faults(seed: int) -> list[Fault]:
    chance = random.Random(seed)
    return [
        Fault(
            chance.choice(KINDS),
            chance.choice([*range(NODES), *range(EAST)]),
            chance.uniform(0, 22),
            chance.uniform(0.05, 18),
        )
        for _ in range(chance.randrange(1, 12))
    ]


async def simulate(seed: int, faults: list[Fault], until: float = END) -> World:
    world = World(seed, faults, SIZES)
    await world.run(until)
    return world


def check(seed: int, faults: list[Fault]) -> None:
    """At most one cluster may write at any moment, and when all is quiet one does, led by one node."""
    world = run_virtual(simulate(seed, faults))
    newest = max(world.epochs)
    writer = world.clusters[world.epochs[newest]]
    assert END - writer.renewals[newest] < TIMING.inherit_after
    assert END - writer.acknowledged[-1] < DETECTION
    for cluster in world.clusters.values():
        assert len([node for node in cluster.nodes if node.leading.leads()]) == 1
    assert all(node.writes_in() == newest for node in writer.nodes)


@settings(
    max_examples=SCHEDULES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(
    seed=st.integers(0, 2**32 - 1),
    faults=st.lists(
        st.builds(
            Fault,
            kind=st.sampled_from(KINDS),
            node=st.integers(0, NODES - 1),
            at=st.floats(0.0, 22.0),
            lasts=st.floats(0.05, 18.0),
        ),
        max_size=10,
    ),
)
@example(seed=0, faults=[Fault("behead", 0, 5.0, 20.0), Fault("behead", 0, 9.0, 20.0)])
@example(seed=1, faults=[Fault("engine", 0, 5.0, 20.0), Fault("behead", 3, 6.0, 9.0)])
@example(seed=2, faults=[Fault("lossy", 0, 0.0, 25.0), Fault("behead", 0, 3.0, 20.0)])
def test_at_most_one_cluster_may_write_and_in_the_end_one_does(seed: int, faults: list[Fault]) -> None:
    check(seed, faults)


def check_stalls() -> None:
    """Nodes of the primary freeze with an answer in their hand; another cluster writes when they go on."""
    for seed in range(10):
        check(seed, [Fault("stall", node, 5.0 + node, 20.0) for node in range(EAST)])


def test_nodes_that_freeze_between_a_question_and_what_follows_from_it() -> None:
    check_stalls()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "faults",
    [
        [Fault("behead", 0, 12.0, 40.0)],
        [Fault("behead", 0, 12.0, 5.0), Fault("behead", 0, 20.0, 5.0), Fault("behead", 0, 28.0, 5.0)],
        [Fault("kill", node, 12.0 + 10 * node, 8.0) for node in range(EAST)],
        [Fault("member", node, 12.0 + 10 * node, 9.0) for node in range(EAST)],
        [Fault("partition", node, 12.0 + 10 * node, 9.0) for node in range(EAST)],
        [Fault("partition", 0, 12.0, 40.0), Fault("partition", 1, 12.0, 40.0)],
    ],
    ids=["frozen", "again and again", "killed", "without an engine", "without the store", "one is left"],
)
def test_whatever_befalls_the_leader_its_cluster_goes_on_in_the_same_epoch(
    seed: int, faults: list[Fault]
) -> None:
    world = run_virtual(simulate(seed, faults))
    assert world.epochs == {1: "east"}
    assert not [moment for moment in world.unwritable if moment > 5.0], "some node may always write"
    acknowledged = [moment for moment in world.clusters["east"].acknowledged if moment > 5.0]
    assert max(after - before for before, after in pairwise(acknowledged)) < 2.0


@pytest.mark.parametrize("seed", range(3))
def test_another_node_leads_within_a_third_of_the_detection_time(seed: int) -> None:
    async def takeover() -> float:
        import asyncio

        world = World(seed, [Fault("behead", 0, 12.0, 60.0)], SIZES)
        running = asyncio.create_task(world.run(40.0))
        await asyncio.sleep(11.99)
        before = world.clusters["east"].leader()
        while True:
            await asyncio.sleep(0.01)
            leader = world.clusters["east"].leader()
            if leader is not None and leader is not before:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                return world.now - 12.0

    # The election looks once per renewal interval, on clocks that differ by one in a hundred.
    most = 1.02 * (TIMING.inherit_after + 2 * TIMING.renew_interval)
    assert run_virtual(takeover()) < most


@pytest.mark.parametrize("seed", range(3))
def test_no_node_but_the_leader_can_be_asked_and_the_others_stop_in_time(seed: int) -> None:
    """Nodes that hear nothing from the leader write until their deadline and no longer."""
    faults = [Fault("apart", node, 12.0, 30.0) for node in range(EAST)]
    world = run_virtual(simulate(seed, faults, until=40.0))
    assert world.epochs == {1: "east"}
    leader = world.clusters["east"].leader()
    assert leader is not None
    assert [node.writes_in() for node in world.clusters["east"].nodes if node is not leader] == [None, None]
    assert leader.writes_in() == 1


def test_a_dead_cluster_is_succeeded() -> None:
    world = run_virtual(simulate(7, [Fault("freeze", node, 10.0, 30.0) for node in range(EAST)]))
    assert world.epochs[1] == "east"
    assert world.epochs[2] != "east"
    assert max(world.epochs) == 2
