# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves the checkers of the engines: each known fault, planted into one, must be caught soon."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from support.engines import EtcdEngine
from support.planted import PLANTED, must_be_caught

from grey.link import etcd
from grey.store import etcd_wire
from grey.store.sqlite_writer import WriterThread

from . import test_engine, test_etcd_faults, test_sqlite_kill
from .test_engine_model import EngineModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from grey.link.etcd_fault import MemberFault
    from grey.store.interface import Compare, Store, Write

MOST_RUNS = 40
STEPS = 30

# Answers a group of commits when the next one comes, and makes it durable only then.
ANSWERED_BEFORE_COMMIT = """
from grey.store.sqlite_writer import WriterThread

def carry_out(self, group):
    kept, self.kept = getattr(self, "kept", []), group
    if kept:
        assert not any(isinstance(outcome, Exception) for outcome in self._transaction(kept))
    revisions = range(self.revision + 1, self.revision + 1 + len(group))
    self._answer(list(zip((commit.outcome for commit in group), revisions, strict=True)))

WriterThread._carry_out = carry_out
"""


def comparisons_not_made(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WriterThread, "_first_not_holding", lambda self, compares: None)


def only_the_first_comparison_made(patch: pytest.MonkeyPatch) -> None:
    def first_not_holding(self: WriterThread, compares: Sequence[Compare]) -> int | None:
        return shipped(self, compares[:1])

    shipped = WriterThread._first_not_holding
    patch.setattr(WriterThread, "_first_not_holding", first_not_holding)


def removals_not_stored(patch: pytest.MonkeyPatch) -> None:
    def apply(self: WriterThread, writes: Sequence[Write], revision: int) -> bool:
        return shipped(self, [write for write in writes if write.value is not None], revision)

    shipped = WriterThread._apply
    patch.setattr(WriterThread, "_apply", apply)


@pytest.mark.mutants
@pytest.mark.parametrize(
    "plant",
    [comparisons_not_made, only_the_first_comparison_made, removals_not_stored],
    ids=lambda plant: plant.__name__,
)
def test_the_model_catches(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    bounds = settings(PLANTED, max_examples=MOST_RUNS, stateful_step_count=STEPS)
    must_be_caught(plant.__name__, lambda: run_state_machine_as_test(EngineModel, settings=bounds))


def comparisons_not_sent(patch: pytest.MonkeyPatch) -> None:
    shipped = etcd_wire.transaction
    patch.setattr(etcd_wire, "transaction", lambda compares, writes: shipped([], writes))


def removals_not_sent(patch: pytest.MonkeyPatch) -> None:
    def transaction(compares: Sequence[Compare], writes: Sequence[Write]) -> Any:
        return shipped(compares, [write for write in writes if write.value is not None])

    shipped = etcd_wire.transaction
    patch.setattr(etcd_wire, "transaction", transaction)


@pytest.mark.mutants
@pytest.mark.parametrize(
    ("plant", "test"),
    [
        (comparisons_not_sent, test_engine.test_only_one_of_concurrent_compare_and_sets_wins),
        (removals_not_sent, test_engine.test_removing_nothing_changes_nothing),
    ],
    ids=lambda part: part.__name__,
)
def test_the_suite_catches_in_etcd(
    plant: Callable[[pytest.MonkeyPatch], None],
    test: Callable[[Store], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check() -> None:
        engine = EtcdEngine()
        try:
            await test(await engine.create())
        finally:
            await engine.stop()

    plant(monkeypatch)
    must_be_caught(plant.__name__, lambda: asyncio.run(check()))


@pytest.mark.mutants
def test_the_kills_of_etcd_catch_a_doubt_that_is_called_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(fault: Any, timeout_seconds: float, *, sent: bool) -> MemberFault:
        return shipped(fault, timeout_seconds, sent=False)

    shipped = etcd._named
    monkeypatch.setattr(etcd, "_named", named)
    must_be_caught(
        "doubt_called_refusal",
        lambda: asyncio.run(test_etcd_faults.test_a_killed_engine_keeps_what_it_acknowledged()),
    )


@pytest.mark.mutants
def test_the_kills_catch_an_answer_before_the_commit(tmp_path: Path) -> None:
    program = ANSWERED_BEFORE_COMMIT + test_sqlite_kill.PROGRAM
    checked = test_sqlite_kill.check(tmp_path / "data.sqlite", program)
    must_be_caught("answered_before_commit", lambda: asyncio.run(checked))
