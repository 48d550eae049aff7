# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of three nodes on a three-member etcd under concurrent clients: each process killed and frozen.

No acknowledged write is lost, strong reads are linearizable through every node, nothing is acknowledged after
the deadline or without a majority, nobody else is promoted, and any one node may be lost without writes
standing still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.federation import Shared, running_federation
from support.history_faults import (
    Greyd,
    Host,
    World,
    engine_without_majority,
    frozen,
    killed,
    on_engine_leader,
    on_host,
    on_renewer,
    store_without_majority,
    thawed_after_the_deadline,
)
from support.history_schedule import ROUNDS, require_clean, run_schedule, seeds

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = "aws-east"
DETECTION = 2.0
SECONDS = 2.0
LONG = 2 * DETECTION
FAULTS = [
    on_renewer("renewer's greyd killed", killed, engine_too=False, survived=True, seconds=SECONDS),
    on_renewer("renewer's greyd frozen", frozen, engine_too=False, survived=True, seconds=LONG),
    on_engine_leader("engine's leader killed", killed, seconds=SECONDS),
    on_engine_leader("engine's leader frozen", frozen, seconds=LONG),
    on_renewer("renewer's greyd and engine killed", killed, engine_too=True, survived=True, seconds=SECONDS),
    on_renewer("renewer's greyd and engine frozen", frozen, engine_too=True, survived=True, seconds=LONG),
    *(on_host(number, killed, seconds=SECONDS) for number in range(3)),
    engine_without_majority(SECONDS),
    store_without_majority(LONG),
    thawed_after_the_deadline(LONG, awake_seconds=1.0),
]


async def test_strong_operations_are_linearizable_through_every_fault(tmp_path: Path) -> None:
    async with running_federation(
        tmp_path,
        clusters=(CLUSTER, "gcp-west", "edge-chicago"),
        shared={CLUSTER: Shared(3, 3)},
        detection_time=f"{DETECTION:g}s",
    ) as federation:
        hosts = {node.name: Host(node, Greyd(node), node.engine) for node in federation.clusters[CLUSTER]}

        async def renewer() -> Host:
            return hosts[(await federation.leader(CLUSTER)).name]

        async def engine_leader() -> Host:
            leader = await federation.engines[CLUSTER].leader()
            return next(host for host in hosts.values() if host.engine is leader)

        struck = World(
            federation.api_request,
            list(hosts.values()),
            federation.etcd.members,
            DETECTION,
            renewer,
            engine_leader,
        )
        for seed in seeds(ROUNDS):
            report = await run_schedule(struck, FAULTS, seed=seed)
            require_clean(report, tmp_path)
        role = (await federation.control_request(federation.primary, "/v1/federation/role")).json
        assert (role["cluster"], role["epoch"]) == (CLUSTER, 1), "somebody was promoted"
