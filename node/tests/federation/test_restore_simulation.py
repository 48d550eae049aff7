# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""However often a primary is saved, lost, restored and begun anew, no position is ever given to two records.

Copies of one cluster's data live side by side, as when a part of the hosts was forgotten: each has greyds
that run, freeze and thaw, while any of them is saved, restored from and begun anew, interrupted now and then.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.memory_federation_store import MemoryFederationStore
from support.model_federation import federation
from support.planted import must_be_caught

from grey.data.fence import WriteRefused
from grey.federation import new_epoch, role
from grey.federation.keeper import RoleKeeper
from grey.federation.new_epoch import NewEpochRefused, begin_epoch
from grey.federation.role import Timing
from grey.record.position import ORIGIN, Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.federation.interface import RoleRecord

SCHEDULES = 150
STEPS = 120
TIMING = Timing.of(30.0)


class Interrupted(Exception):
    pass


class Copy:
    """One copy of the cluster's data, as it is on disk, and the greyd that runs on it."""

    def __init__(self, world: World, epoch: int | None, at: Position, mark: int | None) -> None:
        self.claimed, self.at, self.mark = epoch, at, mark
        self.interrupted = False
        self.keeper = RoleKeeper(
            federation(), "aws-east", "aws-east-1", world.store, self, boottime=lambda: world.now
        )

    async def epoch(self) -> int | None:
        return self.claimed

    async def position(self) -> Position:
        return self.at

    async def restored(self) -> int | None:
        return self.mark

    async def claim(self, epoch: int) -> None:
        if self.interrupted:
            raise Interrupted
        self.claimed = epoch


class World:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 1000.0
        self.store = MemoryFederationStore()
        self.copies = [Copy(self, None, ORIGIN, None)]
        self.snapshots: list[tuple[int | None, Position]] = []
        self.given: dict[Position, int] = {}
        self.begun = 0

    async def run(self) -> None:
        for _ in range(STEPS):
            action = self.rng.choices(
                [self.live, self.write, self.save, self.restore, self.begin, self.sleep],
                weights=[6, 8, 1, 1, 1, 1],
            )[0]
            await action()

    async def live(self) -> None:
        """Some of the greyds look at the role; the others are frozen."""
        self.now += 1
        for copy in self.copies:
            if self.rng.random() < 0.7:
                await copy.keeper.step()

    async def write(self) -> None:
        """A write through one copy, compared with the fence and with the epoch in the data."""
        copy = self.rng.choice(self.copies)
        try:
            epoch = copy.keeper.epoch()
        except WriteRefused:
            return
        if copy.claimed == epoch:
            copy.at = Position(epoch, copy.at.sequence + 1)
            assert copy.at not in self.given, f"{copy.at} was given twice"
            self.given[copy.at] = 1

    async def save(self) -> None:
        copy = self.rng.choice(self.copies)
        self.snapshots.append((copy.claimed, copy.at))

    async def restore(self) -> None:
        """Restore into a new copy, in the place of another one or beside it."""
        if not self.snapshots:
            return
        epoch, at = self.rng.choice(self.snapshots)
        made = Copy(self, epoch, at, max(epoch or 0, at.epoch))
        if len(self.copies) > 2 or self.rng.random() < 0.6:
            self.copies[self.rng.randrange(len(self.copies))] = made
        else:
            self.copies.append(made)

    async def begin(self) -> None:
        copy = self.rng.choice(self.copies)
        copy.interrupted = self.rng.random() < 0.2
        try:
            await begin_epoch(
                self.store,
                copy,
                cluster="aws-east",
                node="aws-east-1",
                timing=TIMING,
                boottime=lambda: self.now,
                sleep=self.pass_time,
            )
            self.begun += 1
        except (NewEpochRefused, Interrupted):
            pass
        finally:
            copy.interrupted = False

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if self.rng.random() < 0.05:
            await self.live()
            await self.write()

    async def sleep(self) -> None:
        self.now += self.rng.choice([1.0, 29.0, 60.0])


async def check() -> None:
    written = begun = 0
    for seed in range(SCHEDULES):
        world = World(random.Random(seed))
        await world.run()
        written += len(world.given)
        begun += world.begun
    assert written > 10 * SCHEDULES
    assert begun > SCHEDULES / 2


async def test_no_position_is_given_twice() -> None:
    await check()


def mark_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    shipped = role.decide
    patch.setattr(
        "grey.federation.keeper.decide",
        lambda view: shipped(msgspec.structs.replace(view, restored=0, followed=ORIGIN)),
    )


def new_epoch_looks_unused(patch: pytest.MonkeyPatch) -> None:
    def unused(cluster: str, epoch: int, counter: int, *more: object) -> RoleRecord:
        return shipped(cluster, epoch, 0, *more)  # type: ignore[arg-type]

    shipped = new_epoch.RoleRecord
    patch.setattr(new_epoch, "RoleRecord", unused)


def the_epoch_of_the_record_taken_again(patch: pytest.MonkeyPatch) -> None:
    def same(cluster: str, epoch: int, *more: object) -> RoleRecord:
        return shipped(cluster, epoch - 1, *more)  # type: ignore[arg-type]

    shipped = new_epoch.RoleRecord
    patch.setattr(new_epoch, "RoleRecord", same)
    patch.setattr(Copy, "claim", lambda self, epoch: shipped_claim(self, epoch - 1))
    mark_not_looked_at(patch)


shipped_claim = Copy.claim

FAULTS = [mark_not_looked_at, new_epoch_looks_unused, the_epoch_of_the_record_taken_again]


@pytest.mark.mutants
@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_fault_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    must_be_caught(plant.__name__, lambda: asyncio.run(check()))
