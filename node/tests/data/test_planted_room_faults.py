# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves the data room's model: each known fault, planted into the shipping code, must be caught soon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from support.planted import PLANTED, must_be_caught
from support.virtual_time import run_virtual

from grey.data import conditions, expiry, feed, keyspace, turns, writer
from grey.data.conditions import Expired
from grey.data.history import History
from grey.data.housekeeping import Housekeeping
from grey.data.mirror import Mirror
from grey.data.reader import Reader
from grey.record import Position
from grey.store.interface import Compare

from .test_data_model import DataModel
from .test_expiry import a_version_comes_between_the_look_and_the_deletion
from .test_turns import a_distant_node_is_not_starved

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from grey.data.history import State

STEPS = 25
MOST_RUNS = 300


def condition_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writer, "holds", lambda condition, position, expired: True)


def condition_judged_before_the_group(patch: pytest.MonkeyPatch) -> None:
    """The head is known from the last commit, and the keys are read without it."""

    async def look(self: Any, group: Any, epoch: int) -> Any:
        head, found = await shipped(self, group, epoch)
        known, self._stale = getattr(self, "_stale", found), found
        return head, known

    shipped = writer.Writer._look
    patch.setattr(writer.Writer, "_look", look)


def expired_keys_still_count(patch: pytest.MonkeyPatch) -> None:
    def holds(condition: Any, position: Position | None, *, expired: bool) -> bool:
        return conditions.holds(condition, position, expired=expired and isinstance(condition, Expired))

    patch.setattr(writer, "holds", holds)


def expired_keys_not_hidden(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reader, "_time", lambda self: None)


def index_not_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writer, "index_writes", lambda envelopes: [])


def entries_of_keys_that_live_removed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expiry, "_early", lambda due, now: False)
    patch.setattr(expiry, "_stale", lambda due: due.envelope is None or due.envelope.expires != now_of(due))

    def now_of(due: Any) -> int:
        return expiry.keyspace.due_key(due.entry)[0]


def expiry_deletes_before_the_time(patch: pytest.MonkeyPatch) -> None:
    """It takes the moment at which a key is looked at for the one at which it ends."""
    patch.setattr(expiry, "_over", lambda due, now: not expiry._stale(due))
    patch.setattr(
        writer,
        "holds",
        lambda condition, position, expired: conditions.holds(
            condition, position, expired=expired or isinstance(condition, Expired)
        ),
    )


def memory_without_own_writes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mirror, "wrote", lambda self, revision, records: None)


def memory_forgets_deletions(patch: pytest.MonkeyPatch) -> None:
    def wrote(self: Mirror, revision: int, records: Any) -> None:
        shipped(self, revision, [(key, value) for key, value in records if value is not None])

    shipped = Mirror.wrote
    patch.setattr(Mirror, "wrote", wrote)


def memory_keeps_own_writes_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mirror, "_forget_own", lambda self: None)
    patch.setattr(
        Mirror,
        "wrote",
        lambda self, revision, records: self._own.update(
            (key, (revision, value)) for key, value in records if key not in self._own
        ),
    )


def watch_doubles_at_a_resume(patch: pytest.MonkeyPatch) -> None:
    def read(changes: Any, prefix: bytes, after: Position) -> Any:
        return shipped(changes, prefix, Position(0, 0))

    shipped = feed._read
    patch.setattr(feed, "_read", read)


def watch_skips_at_a_resume(patch: pytest.MonkeyPatch) -> None:
    """It goes on behind the transaction in which the last event was."""

    async def state_at(self: History, position: Position) -> State:
        state = await shipped(self, position)
        return state._replace(revision=state.revision + bool(state.beyond))

    shipped = History.state_at
    patch.setattr(History, "state_at", state_at)


def pages_of_different_states(patch: pytest.MonkeyPatch) -> None:
    async def state_at(self: Reader, position: Position) -> State:
        return (await self._history.newest())._replace(position=position)

    patch.setattr(Reader, "_state_at", state_at)


def pages_without_what_is_beyond(patch: pytest.MonkeyPatch) -> None:
    """A walk that the first page left in the middle of a transaction's time is served too new a state."""

    async def state_at(self: Reader, position: Position) -> State:
        state = await shipped(self, position)
        newest = await self._history.newest()
        return state._replace(revision=min(state.revision + 1, newest.revision))

    shipped = Reader._state_at
    patch.setattr(Reader, "_state_at", state_at)


def history_kept_too_short(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Housekeeping, "_older_than", lambda self, seconds: self._marks[-1][1])


@pytest.mark.mutants
@pytest.mark.parametrize(
    "plant",
    [
        condition_not_judged,
        condition_judged_before_the_group,
        expired_keys_still_count,
        expired_keys_not_hidden,
        index_not_written,
        entries_of_keys_that_live_removed,
        expiry_deletes_before_the_time,
        memory_without_own_writes,
        memory_forgets_deletions,
        memory_keeps_own_writes_for_ever,
        watch_doubles_at_a_resume,
        watch_skips_at_a_resume,
        pages_of_different_states,
        pages_without_what_is_beyond,
        history_kept_too_short,
    ],
    ids=lambda plant: plant.__name__,
)
@pytest.mark.usefixtures("quiet")
def test_the_model_of_the_data_room_catches(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    bounds = settings(PLANTED, max_examples=MOST_RUNS, stateful_step_count=STEPS)
    must_be_caught(plant.__name__, lambda: run_state_machine_as_test(DataModel, settings=bounds))


@pytest.mark.mutants
def test_an_expiry_that_does_not_look_again_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deletion is sent without the position that was judged."""

    async def expire(self: writer.Writer, key: bytes, position: Position) -> writer.Written:
        return await self.delete(key)

    monkeypatch.setattr(writer.Writer, "expire", expire)
    must_be_caught(
        "expiry_deletes_a_newer_version",
        lambda: run_virtual(a_version_comes_between_the_look_and_the_deletion()),
    )


@pytest.mark.mutants
@pytest.mark.parametrize("fault", ["nobody_asks_for_a_turn", "turns_are_not_compared"])
def test_unfair_writers_are_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "nobody_asks_for_a_turn":
        monkeypatch.setattr(turns, "PATIENCE", 10**9)
    else:
        position = Compare(keyspace.EPOCH, b"1")
        monkeypatch.setattr(turns.Turns, "compare", lambda self: position)
    must_be_caught(fault, lambda: run_virtual(a_distant_node_is_not_starved()))


@pytest.mark.usefixtures("quiet")
def test_without_a_fault_the_same_model_passes() -> None:
    bounds = settings(PLANTED, max_examples=30, stateful_step_count=STEPS)
    run_state_machine_as_test(DataModel, settings=bounds)
    run_virtual(a_version_comes_between_the_look_and_the_deletion())
