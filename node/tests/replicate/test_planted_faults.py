# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves the simulation's checker: each known fault, planted into the shipping code, must be caught soon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.planted import must_be_caught
from support.replication_simulation import random_actions, simulate

from grey.data import conditions, expiry, keyspace, writer
from grey.data.conditions import Expired
from grey.data.history import format_position
from grey.data.writer import Writer
from grey.replicate import cursor, landing, snapshot
from grey.replicate.landing import Landing
from grey.replicate.staleness import Staleness
from grey.store.interface import Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from typing import Any

    from grey.data.conditions import AnyCondition
    from grey.data.waiting import Request
    from grey.record import Position
    from grey.store.interface import Item, Store

MOST_SCHEDULES = 120


def cursor_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    async def write_step(self: Landing, step: cursor.Step, check: Callable[[], None]) -> None:
        writes = [Write(keyspace.data_key(record.envelope.key), record.encoded) for record in step.records]
        await self._commit([*writes, *step.entries], {}, check)
        await self._commit([], {keyspace.POSITION: format_position(step.cursor)}, check)
        self.cursor = step.cursor

    patch.setattr(Landing, "_write_step", write_step)


def tombstone_dropped(patch: pytest.MonkeyPatch) -> None:
    async def write_step(self: Landing, step: cursor.Step, check: Callable[[], None]) -> None:
        records = [record for record in step.records if not record.envelope.deleted]
        await shipped(self, cursor.Step(records, step.entries, step.cursor), check)

    shipped = Landing._write_step
    patch.setattr(Landing, "_write_step", write_step)


def hole_check_removed(patch: pytest.MonkeyPatch) -> None:
    def unseen(
        here: Position, epoch: int, transactions: Sequence[Sequence[cursor.Record]]
    ) -> list[list[cursor.Record]]:
        new = [[r for r in part if r.envelope.position > here] for part in transactions]
        return [part for part in new if part]

    patch.setattr(cursor, "unseen", unseen)


def doubled_records_applied_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cursor, "unseen", lambda here, epoch, transactions: transactions)


def transaction_torn(patch: pytest.MonkeyPatch) -> None:
    def steps(transactions: Sequence[Sequence[cursor.Record]], entries: cursor.Entries) -> list[cursor.Step]:
        return shipped([[record] for part in transactions for record in part], entries, 3)

    shipped = cursor.steps
    patch.setattr(cursor, "steps", steps)


def request_ids_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(landing, "entry_writes", lambda envelopes: [])


def index_of_expiries_not_landed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(landing, "index_writes", lambda envelopes: [])


def index_of_expiries_not_copied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshot, "index_of", lambda writes: [])


def expiry_trusts_its_index(patch: pytest.MonkeyPatch) -> None:
    """Whatever an entry points at is deleted, also a newer version than the entry was made for."""

    def holds(condition: AnyCondition, position: Position | None, *, expired: bool) -> bool:
        return conditions.holds(condition, position, expired=expired or isinstance(condition, Expired))

    patch.setattr(writer, "holds", holds)
    patch.setattr(expiry, "_over", lambda due, now: due.envelope is not None and not due.envelope.deleted)


def condition_judged_by_an_old_state(patch: pytest.MonkeyPatch) -> None:
    """The keys are read once more by nobody when another node or a late commit was faster."""

    async def look(self: Writer, group: list[Request], epoch: int) -> tuple[Any, dict[bytes, Item]]:
        head, found = await shipped(self, group, epoch)
        known = vars(self).setdefault("_known", {})
        return head, {key: known.setdefault(key, item) for key, item in found.items()}

    shipped = Writer._look
    patch.setattr(Writer, "_look", look)


def request_ids_not_copied(patch: pytest.MonkeyPatch) -> None:
    def differences(
        store: Store, items: Iterable[tuple[bytes, bytes]], start: bytes, end: bytes
    ) -> AsyncIterator[list[Write]]:
        return shipped(
            store, [item for item in items if not item[0].startswith(keyspace.REQUEST)], start, end
        )

    shipped = snapshot.differences
    patch.setattr(snapshot, "differences", differences)


def copy_called_complete_at_its_start(patch: pytest.MonkeyPatch) -> None:
    async def finish_copy(self: Landing, check: Callable[[], None]) -> bool:
        if self.marker is not None:
            await self._commit([], {keyspace.COPYING: None}, check)
            self.marker = None
        return True

    patch.setattr(Landing, "finish_copy", finish_copy)


def copy_forgets_to_remove(patch: pytest.MonkeyPatch) -> None:
    async def differences(
        store: Store, items: Iterable[tuple[bytes, bytes]], start: bytes, end: bytes
    ) -> AsyncIterator[list[Write]]:
        async for writes in shipped(store, items, start, end):
            if writes[0].value is not None:
                yield writes

    shipped = snapshot.differences
    patch.setattr(snapshot, "differences", differences)


def lag_counted_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    def answered(self: Staleness, nonce: int, head: Position, *, fenced: bool) -> None:
        self._open.clear()
        self._answered.append((head, self._monotonic()))

    patch.setattr(Staleness, "answered", answered)


def lag_counted_before_the_head_is_applied(patch: pytest.MonkeyPatch) -> None:
    def answered(self: Staleness, nonce: int, head: Position, *, fenced: bool) -> None:
        shipped(self, nonce, head, fenced=fenced)
        if self._answered:
            self._known = max(self._known or 0.0, self._answered[-1][1])

    shipped = Staleness.answered
    patch.setattr(Staleness, "answered", answered)


@pytest.mark.mutants
@pytest.mark.parametrize(
    "plant",
    [
        cursor_outside_the_transaction,
        tombstone_dropped,
        hole_check_removed,
        doubled_records_applied_again,
        transaction_torn,
        request_ids_dropped,
        index_of_expiries_not_landed,
        index_of_expiries_not_copied,
        expiry_trusts_its_index,
        condition_judged_by_an_old_state,
        request_ids_not_copied,
        copy_called_complete_at_its_start,
        copy_forgets_to_remove,
        lag_counted_from_the_answer,
        lag_counted_before_the_head_is_applied,
    ],
    ids=lambda plant: plant.__name__,
)
@pytest.mark.usefixtures("quiet")
def test_the_checker_catches(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def schedules() -> None:
        for seed in range(MOST_SCHEDULES):
            simulate(seed, random_actions(seed))

    plant(monkeypatch)
    must_be_caught(plant.__name__, schedules)
