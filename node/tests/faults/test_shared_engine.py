# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of three nodes on a three-member etcd under concurrent clients: each process killed and frozen.

No acknowledged write is lost, strong reads are linearizable through every node, nothing is acknowledged after
the deadline or without a majority, nobody else is promoted, and any one node may be lost without writes
standing still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.history_faults import (
    all_killed,
    engine_without_majority,
    frozen,
    killed,
    on_engine_leader,
    on_host,
    on_renewer,
    store_without_majority,
    thawed_after_the_deadline,
)
from support.history_schedule import FIRST_SEED, ROUNDS, require_agreement, require_clean, run_schedule, seeds
from support.history_world import DETECTION, primary_cluster

from grey.client import AsyncClient
from grey.config.federation import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.federation import RunningFederation
    from support.history_faults import Fault, World

SECONDS = 1.0
LONG = 1.5 * DETECTION
pytestmark = pytest.mark.processes

FAULTS = [
    on_renewer("renewer's greyd killed", killed, engine_too=False, survived=True, seconds=SECONDS),
    on_renewer("renewer's greyd frozen", frozen, engine_too=False, survived=True, seconds=LONG),
    on_engine_leader("engine's leader killed", killed, seconds=SECONDS),
    on_engine_leader("engine's leader frozen", frozen, seconds=LONG),
    on_renewer("renewer's greyd and engine killed", killed, engine_too=True, survived=True, seconds=SECONDS),
    on_renewer("renewer's greyd and engine frozen", frozen, engine_too=True, survived=True, seconds=LONG),
    *(on_host(number, killed, seconds=SECONDS) for number in range(3)),
    all_killed(SECONDS),
    engine_without_majority(SECONDS),
    store_without_majority(LONG),
    thawed_after_the_deadline(LONG, awake_seconds=1.0),
]


LIBRARY_FAULTS = [FAULTS[0], FAULTS[5], FAULTS[8]]


async def test_strong_operations_are_linearizable_through_every_fault(tmp_path: Path) -> None:
    async with primary_cluster(tmp_path, shared=True) as (federation, world):
        options = {"tls": federation.operator, "names": federation.names}
        async with AsyncClient.from_federation(load(federation.file), **options) as library:
            for seed in seeds(ROUNDS):
                await examine_run(federation, world, FAULTS, seed)
                # What the client library says of an outcome holds, too, whichever node it went to in between.
                faults = LIBRARY_FAULTS if seed == FIRST_SEED else FAULTS
                await examine_run(federation, world, faults, seed + 1, library)
        role = (await federation.control_request(federation.primary, "/v1/federation/role")).json
        assert (role["cluster"], role["epoch"]) == (federation.primary.cluster, 1), "somebody was promoted"


async def examine_run(
    federation: RunningFederation,
    world: World,
    faults: Sequence[Fault],
    seed: int,
    library: AsyncClient | None = None,
) -> None:
    report = await run_schedule(world, faults, seed=seed, library=library)
    require_clean(report, seed)
    await require_agreement(federation.api_request, federation.all_nodes(), seed)
