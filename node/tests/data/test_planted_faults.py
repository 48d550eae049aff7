# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves the writer's checker: each known fault, planted into the shipping code, must be caught soon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from support.engines import MemoryEngine
from support.faulty_store import FaultyStore
from support.fences import FakeFence
from support.planted import PLANTED, must_be_caught

from grey.data import keyspace, writer
from grey.data.writer import Writer

from .test_writer_model import WriterModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from support.engines import Engine

    from grey.store.interface import Compare, Item, Write

STEPS = 12
MOST_RUNS = 200


class PlantedWriterModel(WriterModel):
    """In memory, since without threads an example that fails does so every time."""

    def make_engine(self, folder: Path) -> Engine:
        return MemoryEngine()


def compare_removed(patch: pytest.MonkeyPatch, key: bytes) -> None:
    async def commit(self: FaultyStore, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        return await shipped(self, [compare for compare in compares if compare.key != key], writes)

    shipped = FaultyStore.commit
    patch.setattr(FaultyStore, "commit", commit)


def epoch_not_compared(patch: pytest.MonkeyPatch) -> None:
    compare_removed(patch, keyspace.EPOCH)


def position_not_compared(patch: pytest.MonkeyPatch) -> None:
    compare_removed(patch, keyspace.POSITION)


def fence_not_asked_after_the_commit(patch: pytest.MonkeyPatch) -> None:
    async def commit(self: Writer, group: Any, records: Any, needless: Any, epoch: int, head: Any) -> None:
        fence, self._fence = self._fence, FakeFence(epoch)
        try:
            await shipped(self, group, records, needless, epoch, head)
        finally:
            self._fence = fence

    shipped = Writer._commit
    patch.setattr(Writer, "_commit", commit)


def acknowledged_before_durable(patch: pytest.MonkeyPatch) -> None:
    def plan(self: Writer, *arguments: Any) -> Any:
        envelopes, needless, answers = shipped(self, *arguments)
        for request, result in answers:
            if isinstance(result, list) and not request.outcome.done():
                request.outcome.set_result(result)
        return envelopes, needless, answers

    shipped = Writer._plan
    patch.setattr(Writer, "_plan", plan)


def uncertain_commit_taken_as_done(patch: pytest.MonkeyPatch) -> None:
    async def commit(self: Writer, *arguments: Any) -> None:
        try:
            await shipped(self, *arguments)
        except writer.OutcomeUnknown:
            self._head = None

    shipped = Writer._commit
    patch.setattr(Writer, "_commit", commit)


def uncertain_commit_taken_as_refused(patch: pytest.MonkeyPatch) -> None:
    async def commit(self: Writer, *arguments: Any) -> None:
        try:
            await shipped(self, *arguments)
        except writer.OutcomeUnknown as unknown:
            self._head = None
            raise writer.DeadlinePassed from unknown

    shipped = Writer._commit
    patch.setattr(Writer, "_commit", commit)


def request_id_looked_up_after_the_write(patch: pytest.MonkeyPatch) -> None:
    """What is found then is the request's own entry."""
    patch.setattr(writer, "_earlier_answer", lambda request, found: None)


def request_id_looked_up_once_only(patch: pytest.MonkeyPatch) -> None:
    """A request that is tried again, since the history moved, keeps what was found the first time."""

    def earlier_answer(request: Any, found: dict[bytes, Item]) -> Any:
        if request not in first:
            first[request] = shipped(request, found)
        return first[request]

    first: dict[Any, Any] = {}
    shipped = writer._earlier_answer
    patch.setattr(writer, "_earlier_answer", earlier_answer)


def request_ids_not_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writer, "entry_writes", lambda envelopes: [])


def clock_not_primed(patch: pytest.MonkeyPatch) -> None:
    """A node that takes over forgets how far the stamps of the records have got."""

    async def prime_clock(self: Writer, revision: int) -> None:
        return

    patch.setattr(Writer, "_prime_clock", prime_clock)


@pytest.mark.mutants
@pytest.mark.parametrize(
    "plant",
    [
        epoch_not_compared,
        position_not_compared,
        fence_not_asked_after_the_commit,
        acknowledged_before_durable,
        uncertain_commit_taken_as_done,
        uncertain_commit_taken_as_refused,
        request_id_looked_up_after_the_write,
        request_id_looked_up_once_only,
        request_ids_not_stored,
        clock_not_primed,
    ],
    ids=lambda plant: plant.__name__,
)
def test_the_writer_s_model_catches(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    bounds = settings(PLANTED, max_examples=MOST_RUNS, stateful_step_count=STEPS)
    must_be_caught(plant.__name__, lambda: run_state_machine_as_test(PlantedWriterModel, settings=bounds))


def test_without_a_fault_the_same_model_passes() -> None:
    """What catches the faults is the checker, not the engine in memory."""
    bounds = settings(PLANTED, max_examples=20, stateful_step_count=STEPS)
    run_state_machine_as_test(PlantedWriterModel, settings=bounds)
