# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster on the embedded store under concurrent clients: killed, frozen, without the federation store."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support import federation as running
from support.federation import running_federation
from support.history_faults import (
    Greyd,
    Host,
    World,
    frozen,
    killed,
    on_renewer,
    store_without_majority,
    thawed_after_the_deadline,
)
from support.history_schedule import ROUNDS, require_clean, run_schedule, seeds
from support.linearizability import violations
from support.linearizability_order import out_of_order, too_late, uncounted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.federation import RunningFederation
    from support.history import History
    from support.history_faults import Fault
    from support.linearizability import Violation

DETECTION = 2.0
KILLED = on_renewer("greyd killed", killed, engine_too=False, survived=False, seconds=0.2)
FROZEN = on_renewer("greyd frozen", frozen, engine_too=False, survived=False, seconds=2 * DETECTION)
THAWED = thawed_after_the_deadline(2 * DETECTION, awake_seconds=1.0)
FAULTS = [KILLED, FROZEN, store_without_majority(2 * DETECTION), THAWED]


@asynccontextmanager
async def world(folder: Path, *clusters: str) -> AsyncIterator[tuple[RunningFederation, World]]:
    async with running_federation(folder, clusters=clusters, detection_time=f"{DETECTION:g}s") as federation:
        host = Host(federation.primary, Greyd(federation.primary))

        async def sole() -> Host:
            return host

        yield (
            federation,
            World(federation.api_request, [host], federation.etcd.members, DETECTION, sole, sole),
        )


async def test_strong_operations_are_linearizable_through_every_fault(tmp_path: Path) -> None:
    async with world(tmp_path, "aws-east", "gcp-west", "edge-chicago") as (federation, struck):
        for seed in seeds(ROUNDS):
            report = await run_schedule(struck, FAULTS, seed=seed)
            require_clean(report, tmp_path)
        role = (await federation.control_request(federation.primary, "/v1/federation/role")).json
        assert (role["cluster"], role["epoch"]) == (federation.primary.cluster, 1)


# Faults planted into the greyd that runs: the history of its clients must show each.

PLANTS: dict[str, tuple[str, Fault, Callable[[History], list[Violation]]]] = {
    "strong reads show the version before, now and then": (
        """
import random
from grey.data.reader import Reader
shipped, before = Reader.get, {}
async def get(self, key, *, serializable=False):
    found = await shipped(self, key, serializable=serializable)
    if key in before and random.random() < 0.05:
        return before[key]
    if found is not None:
        before.setdefault(key, found)
    return found
Reader.get = get
""",
        KILLED,
        violations,
    ),
    "writes are acknowledged and not stored, now and then": (
        """
import random
from grey.data.keyspace import DATA
from grey.store.sqlite import SqliteStore
shipped = SqliteStore.commit
async def commit(self, compares, writes):
    kept = [w for w in writes if not w.key.startswith(DATA) or random.random() > 0.05]
    return await shipped(self, compares, kept)
SqliteStore.commit = commit
""",
        KILLED,
        out_of_order,
    ),
    "request ids are forgotten": (
        """
from grey.data import writer
writer._earlier_answer = lambda request, found: None
""",
        KILLED,
        uncounted,
    ),
    "the deadline is not looked at": (
        """
from grey.federation.keeper import RoleKeeper
shipped, known = RoleKeeper.epoch, []
def epoch(self):
    try:
        known[:] = [shipped(self)]
    except Exception:
        if not known:
            raise
    return known[0]
RoleKeeper.epoch = epoch
""",
        THAWED,
        too_late,
    ),
}


@pytest.mark.mutants
@pytest.mark.parametrize("name", PLANTS)
async def test_a_fault_planted_into_greyd_is_caught(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, fault, sees = PLANTS[name]
    program = tmp_path / "greyd"
    program.write_text(f"#!{sys.executable}\n{plant}\nfrom grey.daemon.main import main\nmain()\n")
    program.chmod(0o755)
    monkeypatch.setattr(running, "GREYD", str(program))
    async with world(tmp_path, "aws-east") as (_, struck):
        report = await run_schedule(struck, [fault], seed=1, before=400)
    found = sees(report.history)
    assert found, f"the fault passed every check: {report.text()}"
    print(f"{name}: caught by {sees.__name__}: {found[0]}")  # noqa: T201 - `make mutants` shows it
