# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults planted into the greyd that runs: what its clients see through kills and freezes must show each."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support import federation as running
from support.history_faults import frozen, killed, on_engine_leader, on_renewer, thawed_after_the_deadline
from support.history_schedule import run_schedule
from support.history_world import DETECTION, primary_cluster
from support.linearizability import violations
from support.linearizability_order import out_of_order, too_late, uncounted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.history import History
    from support.history_faults import Fault
    from support.linearizability import Violation

pytestmark = pytest.mark.mutants

KILLED = on_renewer("greyd killed", killed, engine_too=False, survived=False, seconds=0.2)
THAWED = thawed_after_the_deadline(1.5 * DETECTION, awake_seconds=1.0)
ENGINE_FROZEN = on_engine_leader("engine's leader frozen", frozen, seconds=2.0)


@dataclass(frozen=True)
class Plant:
    """Code that greyd runs before it starts, the fault that brings it out, and who must see it."""

    code: str
    fault: Fault
    sees: Callable[[History], list[Violation]]
    shared: bool = False
    """Whether the cluster is three nodes on a shared engine, else one on the embedded store."""


PLANTS = {
    "strong reads show an old version, now and then": Plant(
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
    "writes are acknowledged and not stored, now and then": Plant(
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
    "request ids are forgotten": Plant(
        """
from grey.data import writer
writer._earlier_answer = lambda request, found: None
""",
        KILLED,
        uncounted,
    ),
    "the deadline is not looked at": Plant(
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
    "strong reads are answered from a node's own memory": Plant(
        """
from grey.data.reader import Reader
shipped = Reader.get
async def get(self, key, *, serializable=False):
    return await shipped(self, key, serializable=True)
Reader.get = get
""",
        ENGINE_FROZEN,
        violations,
        shared=True,
    ),
    "a commit compares nothing": Plant(
        """
from grey.store.etcd import EtcdStore
shipped = EtcdStore.commit
async def commit(self, compares, writes):
    return await shipped(self, [], writes)
EtcdStore.commit = commit
""",
        KILLED,
        out_of_order,
        shared=True,
    ),
}


@pytest.mark.parametrize("name", PLANTS)
async def test_a_fault_planted_into_greyd_is_caught(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = PLANTS[name]
    program = tmp_path / "greyd"
    program.write_text(f"#!{sys.executable}\n{plant.code}\nfrom grey.daemon.main import main\nmain()\n")
    program.chmod(0o755)
    monkeypatch.setattr(running, "GREYD", str(program))
    # Whether a fault shows depends on who asks when: a busy machine may need another try.
    for seed in range(1, 4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        async with primary_cluster(folder, shared=plant.shared, replicas=()) as (_, world):
            report = await run_schedule(world, [plant.fault], seed=seed, before=400)
        if found := plant.sees(report.history):
            break
    assert found, f"the fault passed every check: {report.text()}"
    print(f"{name}: caught by {plant.sees.__name__}: {found[0]}")  # noqa: T201 - `make mutants` shows it
