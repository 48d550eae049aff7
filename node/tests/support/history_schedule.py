# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults one after the other under concurrent clients, and what the clients' history says of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from support.history import History, Kind, Outcome
from support.history_clients import Clients
from support.history_library import LibraryClients
from support.linearizability import Violation, violations
from support.linearizability_order import out_of_order, too_late, uncounted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.federation import GreyNode
    from support.history_clients import Ask
    from support.history_faults import Fault, World

    from grey.client import AsyncClient

CLIENTS = 12
KEYS = 50
PAUSE_SECONDS = 0.06
ROUNDS = int(os.environ.get("GREY_FAULT_ROUNDS", "1"))
"""How often each schedule runs: once, with the same choices every time, or more often with others."""
HISTORIES = Path(__file__).resolve().parents[3] / ".cache" / "histories"
BESIDE_SECONDS = 3.0
FIRST_SEED = 1
MORE = 15
"""How many acknowledged writes show that writes are taken again."""


@dataclass(frozen=True)
class Gap:
    """The longest time without an acknowledged write, until writes were taken again after the fault."""

    fault: str
    seconds: float


@dataclass
class Report:
    """What a schedule did and what was found."""

    history: History
    gaps: list[Gap]
    found: list[Violation]
    seconds: float

    def text(self) -> str:
        """Say what ran, for the output of the tests."""
        ran = f"{len(self.gaps)} faults, {self.history.summary()}"
        lines = [f"{ran}, {len(self.found)} violations, {self.seconds:.0f} s"]
        lines += [
            f"  {gap.fault}: longest time without an acknowledged write {gap.seconds:.2f} s"
            for gap in self.gaps
        ]
        return "\n".join(lines)


def examine(history: History) -> list[Violation]:
    """Return everything that is wrong with a history."""
    return [*violations(history), *out_of_order(history), *uncounted(history), *too_late(history)]


def seeds(rounds: int) -> Iterator[int]:
    """Return a seed for each round; a single round has always the same."""
    yield FIRST_SEED
    for _ in range(rounds - 1):
        yield time.time_ns()


def varied(faults: Sequence[Fault], seed: int) -> list[Fault]:
    """Return the faults of a round: the first one's as they are listed, else in any order, for any time."""
    if seed == FIRST_SEED:
        return list(faults)
    chance = random.Random(seed)
    return [
        replace(fault, seconds=fault.seconds * chance.uniform(0.2, 1.5))
        for fault in chance.sample(faults, len(faults))
    ]


def prefix(seed: int) -> str:
    """Return what every key of a run begins with."""
    return f"run-{seed}"


async def run_schedule(
    world: World,
    faults: Sequence[Fault],
    *,
    seed: int,
    before: int = MORE,
    library: AsyncClient | None = None,
) -> Report:
    """Let clients ask while the faults strike one by one; print and return what their history says.

    ``before`` writes are acknowledged before the first fault. Fails when writes are not taken again after a
    fault, or not during one that is to be survived. The clients ask through ``library`` if there is one.
    """
    started = time.monotonic()
    nodes = [host.node for host in world.hosts]
    chance = random.Random(seed)
    if library is None:
        clients = Clients(world.ask, nodes, chance, keys=KEYS, name=prefix(seed))
    else:
        clients = LibraryClients(library, chance, keys=KEYS, name=prefix(seed))
    await clients.begin()
    running = asyncio.create_task(clients.run(CLIENTS, PAUSE_SECONDS))
    spans = []
    try:
        await _acknowledges(clients, running, "before all faults", before)
        for fault in varied(faults, seed):
            await _acknowledges(clients, running, f"before: {fault.name}")
            begun = time.monotonic()
            async with fault.strike(world):
                await asyncio.sleep(fault.seconds)
                if fault.survived:
                    await _acknowledges(clients, running, f"during: {fault.name}")
            await _acknowledges(clients, running, f"after: {fault.name}")
            spans.append((fault.name, begun, time.monotonic()))
    finally:
        clients.stop()
        await running
    await clients.end()
    history = clients.history
    history.windows = list(world.windows)
    world.windows.clear()
    gaps = [Gap(what, _longest_gap(history, since, until)) for what, since, until in spans]
    found = await asyncio.to_thread(examine, history)
    report = Report(history, gaps, found, time.monotonic() - started)
    print(f"seed {seed}: {report.text()}")  # noqa: T201 - how much ran, and how long writes stood still
    return report


async def require_agreement(ask: Ask, nodes: Sequence[GreyNode], seed: int, within: float = 25.0) -> None:
    """Fail unless all nodes, those of replicas too, show the same records of a run soon."""
    path = f"/v1/kv?prefix={prefix(seed)}%2F&limit=1000&values=true"
    deadline = time.monotonic() + within
    while True:
        answers = await asyncio.gather(*(ask("GET", node, path) for node in nodes))
        shown = [answer.json.get("items") for answer in answers]
        if shown[0] and all(each == shown[0] for each in shown):
            return
        if time.monotonic() > deadline:
            counts = {node.name: each and len(each) for node, each in zip(nodes, shown, strict=True)}
            raise AssertionError(f"not within {within:g} s: the same records everywhere, found {counts}")
        await asyncio.sleep(0.2)


def require_clean(report: Report, seed: int) -> None:
    """Fail with the first violations and what was asked beside them, and leave the history behind."""
    if report.found:
        HISTORIES.mkdir(parents=True, exist_ok=True)
        path = HISTORIES / f"{prefix(seed)}.jsonl"
        report.history.write(path)
        shown = "\n".join(_beside(each, report.history) for each in report.found[:5])
        raise AssertionError(f"{report.text()}\nthe history is in {path}; it shows:\n{shown}")


def _beside(violation: Violation, history: History) -> str:
    """Show a violation with all that was asked about its keys around that time."""
    keys = {each.key for each in violation.operations}
    since = min(each.invoked for each in violation.operations) - BESIDE_SECONDS
    until = max(each.invoked for each in violation.operations) + BESIDE_SECONDS
    near = [
        each
        for each in sorted(history.operations, key=lambda each: each.invoked)
        if each.key in keys and each.completed >= since and each.invoked <= until
    ]
    return "\n    ".join([str(violation), "beside:", *(str(each) for each in near)])


async def _acknowledges(
    clients: Clients, running: asyncio.Task[None], when: str, more: int = MORE, within: float = 25.0
) -> None:
    """Wait until so many more writes were acknowledged, in ``within`` seconds."""
    wanted = clients.acknowledged + more
    deadline = time.monotonic() + within
    while clients.acknowledged < wanted:
        if running.done():
            await running
        assert time.monotonic() < deadline, f"{when}: no {more} writes were acknowledged within {within:g} s"
        await asyncio.sleep(0.02)


def _longest_gap(history: History, since: float, until: float) -> float:
    times = sorted(
        each.completed
        for each in history.operations
        if each.kind is not Kind.GET and each.outcome is Outcome.OK and since <= each.completed <= until
    )
    points = [since, *times, until]
    return max(after - before for before, after in itertools.pairwise(points))
