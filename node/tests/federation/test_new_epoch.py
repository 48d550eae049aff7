# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restored primary begins a new epoch: only it, only when nobody holds the old one, and interrupted "
"anywhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.memory_federation_store import MemoryFederationStore
from support.model_federation import federation

from grey.federation import records
from grey.federation.interface import FederationStoreError, RoleRecord
from grey.federation.keeper import RoleKeeper
from grey.federation.new_epoch import Begun, NewEpochRefused, begin_epoch
from grey.federation.role import Timing
from grey.record.position import Position

if TYPE_CHECKING:
    from collections.abc import Callable

TIMING = Timing.of(30.0)
AT = Position(1, 40)


class Data:
    """Data that was restored at 1.40 in epoch 1."""

    def __init__(self, restored: int | None = 1, epoch: int = 1, position: Position = AT) -> None:
        self.mark = restored
        self.claimed: int | None = epoch
        self.at = position
        self.fault: Exception | None = None

    async def epoch(self) -> int | None:
        return self.claimed

    async def position(self) -> Position:
        return self.at

    async def restored(self) -> int | None:
        return self.mark

    async def claim(self, epoch: int) -> None:
        if self.fault is not None:
            raise self.fault
        assert self.claimed is None or epoch >= self.claimed
        self.claimed = epoch


class World:
    def __init__(self, data: Data | None = None, record: RoleRecord | None = None) -> None:
        self.now = 1000.0
        self.data = data or Data()
        self.store = MemoryFederationStore()
        self.meanwhile: Callable[[], None] = lambda: None
        self.write(record or RoleRecord("aws-east", 1, 77, "aws-east-2", Position(1, 60)))

    def write(self, record: RoleRecord) -> None:
        self.store._write(records.ROLE, records.encode(record))

    def record(self) -> RoleRecord:
        return records.decode_role(self.store.records[records.ROLE].value)

    async def begin(self) -> Begun:
        return await begin_epoch(
            self.store,
            self.data,
            cluster="aws-east",
            node="aws-east-1",
            timing=TIMING,
            boottime=lambda: self.now,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()

    def keeper(self, data: Data | None = None) -> RoleKeeper:
        return RoleKeeper(
            federation(), "aws-east", "aws-east-1", self.store, data or self.data, boottime=lambda: self.now
        )


async def test_restored_data_takes_no_writes_in_its_old_epoch_and_some_in_the_new_one() -> None:
    world = World(record=RoleRecord("aws-east", 1, 77, "aws-east-2", AT))  # nothing later is known
    keeper = world.keeper()
    await keeper.step()
    assert keeper.refused()
    assert "greyd snapshot new-epoch" in (keeper.problem() or "")
    assert world.record().counter == 77
    assert await world.begin() == Begun(True, "aws-east", 2, "1.40")
    assert world.record() == RoleRecord("aws-east", 2, 1, "aws-east-1", AT)
    assert world.data.claimed == 2
    await keeper.step()
    assert keeper.epoch() == 2
    assert world.record() == RoleRecord("aws-east", 2, 2, "aws-east-1", AT)


async def test_it_waits_until_whoever_held_the_role_has_no_deadline_any_more() -> None:
    world = World()
    await world.begin()
    assert world.now >= 1000.0 + TIMING.detection


async def test_the_same_again_changes_nothing() -> None:
    world = World()
    await world.begin()
    await world.keeper().step()
    before = world.record()
    assert await world.begin() == Begun(False, "aws-east", 2, "1.40")
    assert world.record() == before


async def test_the_same_snapshot_restored_again_gets_the_epoch_after() -> None:
    world = World(record=RoleRecord("aws-east", 2, 9, "aws-east-1", Position(2, 70)))
    keeper = world.keeper()
    await keeper.step()
    assert "did not begin it" in (keeper.problem() or "")
    assert (await world.begin()).epoch == 3


async def test_nothing_is_begun_while_the_role_is_renewed() -> None:
    world = World()

    def renew() -> None:
        if world.now > 1010:
            world.write(RoleRecord("aws-east", 1, 78, "aws-east-2", Position(1, 61)))

    world.meanwhile = renew
    with pytest.raises(NewEpochRefused, match="aws-east-2 of aws-east renews the role in epoch 1"):
        await world.begin()
    assert (world.record().epoch, world.data.claimed) == (1, 1)


async def test_data_that_was_not_restored_does_not_take_the_new_epoch() -> None:
    world = World()
    old = Data(restored=None, position=Position(1, 60))
    await world.begin()
    keeper = world.keeper(old)
    await keeper.step()
    assert keeper.refused()
    assert old.claimed == 1


async def test_interrupted_before_the_claim_nobody_writes_and_the_next_try_goes_on() -> None:
    world = World()
    world.data.fault = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await world.begin()
    assert (world.record().epoch, world.data.claimed) == (2, 1)
    keeper = world.keeper()
    await keeper.step()
    assert keeper.refused()
    world.data.fault = None
    assert (await world.begin()).epoch == 3
    await keeper.step()
    assert keeper.epoch() == 3


async def test_an_unknown_outcome_of_the_swap_is_told_and_tried_again() -> None:
    world = World()

    async def lost(what: str) -> None:
        if what == "swap":
            world.store.after = None
            raise FederationStoreError("no answer")

    world.store.after = lost
    with pytest.raises(FederationStoreError):
        await world.begin()
    assert world.data.claimed == 1
    assert (await world.begin()).epoch == 3


@pytest.mark.parametrize(
    ("data", "record", "words"),
    [
        (Data(restored=None), RoleRecord("aws-east", 1, 77, "n"), "was not restored"),
        (
            Data(),
            RoleRecord("gcp-west", 1, 77, "n"),
            "gcp-west is the primary of epoch 1: aws-east follows it",
        ),
        (Data(3, 3), RoleRecord("aws-east", 2, 77, "n"), "the store is older than the data"),
        (Data(1, 3), RoleRecord("aws-east", 2, 77, "n"), "the store is older than the data"),
    ],
)
async def test_nothing_is_begun_otherwise(data: Data, record: RoleRecord, words: str) -> None:
    world = World(data, record)
    before = data.claimed
    with pytest.raises(NewEpochRefused, match=words):
        await world.begin()
    assert (world.record(), data.claimed) == (record, before)


async def test_a_store_without_a_role_is_refused() -> None:
    world = World()
    world.store.records.clear()
    with pytest.raises(NewEpochRefused, match="holds no role record"):
        await world.begin()
