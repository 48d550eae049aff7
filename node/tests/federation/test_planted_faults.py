# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves the checker of the role: each known fault, planted into the shipping code, must be caught soon."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from support.planted import must_be_caught

from grey.federation import keeper, records
from grey.federation.deputy import Deputy
from grey.federation.keeper import RoleKeeper
from grey.federation.role import Lease, Renew, StepDown, Timing

from . import test_cluster_simulation as of_clusters
from .test_simulation import check, check_stalls, random_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from grey.federation.deputy import ClusterState
    from grey.federation.interface import RoleRecord
    from grey.federation.leader import LeaderRecord
    from grey.federation.role import Action, View

MOST_SCHEDULES = 300


def deadline_not_checked(patch: pytest.MonkeyPatch) -> None:
    def epoch(self: RoleKeeper) -> int:
        return self._lease.epoch if self._lease is not None else shipped(self)

    shipped = RoleKeeper.epoch
    patch.setattr(RoleKeeper, "epoch", epoch)


def deadline_counted_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    async def renew(self: RoleKeeper, record: RoleRecord, expected: int) -> None:
        await shipped(self, record, expected)
        if self._lease is not None and self._holder == record:
            self._lease = Lease(record.epoch, self._timing.deadline(self._boottime()))

    shipped = RoleKeeper._renew
    patch.setattr(RoleKeeper, "_renew", renew)


def deadline_counted_from_the_read_of_an_own_renewal(patch: pytest.MonkeyPatch) -> None:
    def take_note(self: RoleKeeper, record: RoleRecord | None) -> None:
        shipped(self, record)
        if record is not None and record == self._sent:
            self._lease = Lease(record.epoch, self._timing.deadline(self._boottime()))

    shipped = RoleKeeper._take_note
    patch.setattr(RoleKeeper, "_take_note", take_note)


def refused_renewal_taken_as_success(patch: pytest.MonkeyPatch) -> None:
    async def renew(self: RoleKeeper, record: RoleRecord, expected: int) -> None:
        self._sent = record
        sent_at = self._boottime()
        await self._store.swap(records.ROLE, records.encode(record), expected=expected)
        self._holder = record
        self._lease = Lease(record.epoch, self._timing.deadline(sent_at))

    patch.setattr(RoleKeeper, "_renew", renew)


def deadline_without_a_margin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timing, "deadline", lambda self, sent_at: sent_at + self.detection)


def role_of_another_cluster_renewed(patch: pytest.MonkeyPatch) -> None:
    def decide(view: View) -> Action:
        action = shipped(view)
        if isinstance(action, StepDown) and view.local_epoch is not None and view.version is not None:
            record = action.record
            taken = type(record)(view.cluster, record.epoch, record.counter + 1, view.node)
            return Renew(taken, view.version)
        return action

    shipped = keeper.decide
    patch.setattr(keeper, "decide", decide)


def grant_counted_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    def grant(self: RoleKeeper, epoch: int, deadline: float) -> None:
        shipped(self, epoch, deadline + asked_for[id(self)])

    async def step(self: Deputy) -> None:
        keeper, asked_at = self._keeper, self._boottime()
        asked_for[id(keeper)] = 0.0
        real = self._ask

        async def ask(leader: LeaderRecord, *, timeout_seconds: float) -> ClusterState:
            state = await real(leader, timeout_seconds=timeout_seconds)
            asked_for[id(keeper)] = self._boottime() - asked_at
            return state

        self._ask = ask
        try:
            await stepped(self)
        finally:
            self._ask = real

    asked_for: dict[int, float] = {}
    shipped, stepped = RoleKeeper.grant, Deputy.step
    patch.setattr(RoleKeeper, "grant", grant)
    patch.setattr(Deputy, "step", step)


def grant_without_a_deadline(patch: pytest.MonkeyPatch) -> None:
    def grant(self: RoleKeeper, epoch: int, deadline: float) -> None:
        shipped(self, epoch, deadline + self._timing.detection)

    shipped = RoleKeeper.grant
    patch.setattr(RoleKeeper, "grant", grant)


def grant_taken_from_the_record_that_was_read(patch: pytest.MonkeyPatch) -> None:
    """A renewal may be read long after it was sent: it gives nobody a deadline."""

    def take_note(self: RoleKeeper, record: RoleRecord | None) -> None:
        before = self._holder
        shipped(self, record)
        if record is not None and record.cluster == self._cluster and record.counter and record != before:
            self._lease = Lease(record.epoch, self._timing.deadline(self._boottime()))

    shipped = RoleKeeper._take_note
    patch.setattr(RoleKeeper, "_take_note", take_note)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.mutants
@pytest.mark.parametrize(
    "plant",
    [
        deadline_not_checked,
        deadline_counted_from_the_answer,
        deadline_counted_from_the_read_of_an_own_renewal,
        refused_renewal_taken_as_success,
        deadline_without_a_margin,
        role_of_another_cluster_renewed,
    ],
    ids=lambda plant: plant.__name__,
)
def test_the_simulation_catches(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def schedules() -> None:
        check_stalls()
        for seed in range(MOST_SCHEDULES):
            check(seed, random_faults(seed))

    plant(monkeypatch)
    must_be_caught(plant.__name__, schedules)


@pytest.mark.mutants
@pytest.mark.parametrize(
    "plant",
    [
        grant_counted_from_the_answer,
        grant_without_a_deadline,
        grant_taken_from_the_record_that_was_read,
    ],
    ids=lambda plant: plant.__name__,
)
def test_the_simulation_of_clusters_catches(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def schedules() -> None:
        of_clusters.check_stalls()
        for seed in range(MOST_SCHEDULES // 3):
            of_clusters.check(seed, of_clusters.random_faults(seed))

    plant(monkeypatch)
    must_be_caught(plant.__name__, schedules)
