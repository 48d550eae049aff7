# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster on the embedded store under concurrent clients: killed, frozen, without the federation store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.history_faults import (
    frozen,
    killed,
    on_renewer,
    store_without_majority,
    thawed_after_the_deadline,
)
from support.history_schedule import ROUNDS, require_agreement, require_clean, run_schedule, seeds
from support.history_world import DETECTION, primary_cluster

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.processes

FAULTS = [
    on_renewer("greyd killed", killed, engine_too=False, survived=False, seconds=0.2),
    on_renewer("greyd frozen", frozen, engine_too=False, survived=False, seconds=1.5 * DETECTION),
    store_without_majority(1.5 * DETECTION),
    thawed_after_the_deadline(1.5 * DETECTION, awake_seconds=1.0),
]


async def test_strong_operations_are_linearizable_through_every_fault(tmp_path: Path) -> None:
    async with primary_cluster(tmp_path, shared=False) as (federation, world):
        for seed in seeds(ROUNDS):
            report = await run_schedule(world, FAULTS, seed=seed)
            require_clean(report, seed)
            await require_agreement(federation.api_request, federation.all_nodes(), seed)
        role = (await federation.control_request(federation.primary, "/v1/federation/role")).json
        assert (role["cluster"], role["epoch"]) == (federation.primary.cluster, 1), "somebody was promoted"
