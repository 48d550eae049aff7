# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.memory_federation_store import MemoryFederationStore
from support.model_federation import federation

from grey.data.fence import DeadlinePassed, NotPrimary
from grey.federation import records
from grey.federation.clocks import boottime_seconds
from grey.federation.interface import FederationStoreError, MemberReport, RoleRecord
from grey.federation.keeper import RoleKeeper
from grey.record.position import ORIGIN, Position
from grey.store.interface import StoreDamaged, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class History:
    def __init__(self, epoch: int | None = None, position: Position = ORIGIN) -> None:
        self.claimed = epoch
        self.at = position
        self.restored_epoch: int | None = None
        self.fault: Exception | None = None

    async def epoch(self) -> int | None:
        if self.fault is not None:
            raise self.fault
        return self.claimed

    async def position(self) -> Position:
        return self.at

    async def restored(self) -> int | None:
        return self.restored_epoch

    async def claim(self, epoch: int) -> None:
        self.claimed = epoch


class World:
    """One keeper with a clock that the test moves; detection time 30 s, so deadlines are 28.5 s."""

    def __init__(self, cluster: str = "aws-east", history: History | None = None) -> None:
        self.clock = Clock()
        self.store = MemoryFederationStore()
        self.history = history or History()
        self.naps: list[float] = []
        self.keeper = self.another(cluster)

    def another(
        self, cluster: str, node: str | None = None, *, leads: Callable[[], bool] = lambda: True
    ) -> RoleKeeper:
        return RoleKeeper(
            federation(),
            cluster,
            node or f"{cluster}-1",
            self.store,
            self.history,
            leads=leads,
            boottime=self.clock,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        if len(self.naps) == 3:
            raise asyncio.CancelledError

    def record(self) -> RoleRecord:
        return records.decode_role(self.store.records[records.ROLE].value)

    def write(self, record: RoleRecord) -> None:
        self.store._write(records.ROLE, records.encode(record))


async def test_bootstrap_claims_before_it_writes_in_the_epoch() -> None:
    world = World()
    with pytest.raises(NotPrimary) as refusal:
        world.keeper.epoch()
    assert refusal.value.primary is None
    await world.keeper.step()
    assert world.history.claimed == 1
    assert world.keeper.epoch() == 1
    assert world.keeper.is_primary()
    assert world.keeper.problem() is None
    assert world.record() == RoleRecord("aws-east", 1, 1, "aws-east-1") == world.keeper.holder()


async def test_bootstrap_cut_short_between_swap_and_claim_goes_on_after_a_restart() -> None:
    world = World()
    world.write(RoleRecord("aws-east", 1, 0, "aws-east-1"))
    await world.keeper.step()
    assert world.keeper.epoch() == 1
    assert world.history.claimed == 1


async def test_the_deadline_is_exact() -> None:
    world = World()
    await world.keeper.step()
    world.clock.now = 1028.4999
    assert world.keeper.epoch() == 1
    assert world.keeper.remaining_seconds() == pytest.approx(0.0001)
    world.clock.now = 1028.5
    with pytest.raises(DeadlinePassed):
        world.keeper.epoch()
    assert not world.keeper.is_primary()
    assert world.keeper.remaining_seconds() == 0.0


async def test_a_renewal_that_is_answered_late_counts_from_before_its_sending() -> None:
    world = World()
    await world.keeper.step()
    world.clock.now = 1010.0

    async def slow(what: str) -> None:
        if what == "swap":
            world.clock.now += 20.0

    world.store.after = slow
    await world.keeper.step()
    assert world.clock.now == 1030.0
    assert world.keeper.remaining_seconds() == 8.5


async def test_a_freeze_during_a_renewal_leaves_nothing_to_write_with() -> None:
    world = World()
    await world.keeper.step()

    async def frozen(what: str) -> None:
        if what == "swap":
            world.clock.now += 60.0

    world.store.after = frozen
    await world.keeper.step()
    with pytest.raises(DeadlinePassed):
        world.keeper.epoch()
    world.store.after = None
    await world.keeper.step()
    assert world.keeper.epoch() == 1


async def test_a_renewal_of_unknown_outcome_does_not_move_the_deadline_and_the_next_goes_on_from_it() -> None:
    world = World()
    await world.keeper.step()
    world.clock.now = 1010.0

    async def lost(what: str) -> None:
        if what == "swap":
            raise FederationStoreError("no answer")

    world.store.after = lost
    await world.keeper.step()
    assert world.record().counter == 2
    assert world.keeper.remaining_seconds() == 18.5
    assert "no answer" in (world.keeper.problem() or "")
    world.store.after = None
    world.clock.now = 1012.0
    await world.keeper.step()
    assert world.record().counter == 3
    assert world.keeper.remaining_seconds() == 28.5
    assert world.keeper.problem() is None


async def test_without_the_store_the_deadline_passes_and_the_role_comes_back_by_itself() -> None:
    world = World()
    await world.keeper.step()
    world.store.down = True
    world.clock.now = 1028.0
    await world.keeper.step()
    assert world.keeper.epoch() == 1
    assert world.keeper.problem() == "the store is down"
    world.clock.now = 1029.0
    await world.keeper.step()
    with pytest.raises(DeadlinePassed):
        world.keeper.epoch()
    world.store.down = False
    await world.keeper.step()
    assert world.keeper.epoch() == 1


async def test_another_primary_ends_the_right_to_write_at_once() -> None:
    world = World()
    await world.keeper.step()
    world.write(RoleRecord("gcp-west", 2, 0, "gcp-west-1"))
    await world.keeper.step()
    with pytest.raises(NotPrimary) as refusal:
        world.keeper.epoch()
    assert refusal.value.primary == "gcp-west"
    assert world.keeper.problem() is None


async def test_a_takeover_between_read_and_swap_gives_no_deadline() -> None:
    world = World()
    await world.keeper.step()
    world.clock.now = 1020.0

    async def overtaken(what: str) -> None:
        if what == "swap":
            world.write(RoleRecord("gcp-west", 2, 0, "gcp-west-1"))

    world.store.before = overtaken
    await world.keeper.step()
    assert world.keeper.remaining_seconds() == 8.5
    world.store.before = None
    await world.keeper.step()
    with pytest.raises(NotPrimary):
        world.keeper.epoch()


async def test_a_promoted_replica_claims_its_epoch() -> None:
    world = World("gcp-west", History(position=Position(1, 42)))
    world.write(RoleRecord("aws-east", 1, 9, "aws-east-1"))
    await world.keeper.step()
    with pytest.raises(NotPrimary):
        world.keeper.epoch()
    world.write(RoleRecord("gcp-west", 2, 0, "gcp-west-1"))
    await world.keeper.step()
    assert world.history.claimed == 2
    assert world.keeper.epoch() == 2


async def test_an_empty_store_under_existing_data_is_refused_until_it_is_restored() -> None:
    world = World()
    await world.keeper.step()
    before = world.store.records.pop(records.ROLE)
    await world.keeper.step()
    with pytest.raises(DeadlinePassed):
        world.keeper.epoch()
    assert world.keeper.refused()
    assert "holds no role record" in (world.keeper.problem() or "")
    assert records.ROLE not in world.store.records
    world.store.records[records.ROLE] = before
    await world.keeper.step()
    assert world.keeper.epoch() == 1
    assert not world.keeper.refused()


async def test_the_first_primary_does_not_start_over_while_another_cluster_reports_history() -> None:
    world = World()
    report = MemberReport("gcp-west", "gcp-west-1", 1, 1, Position(1, 42), None, None, 0.0, "refused", 0.0)
    own = MemberReport("aws-east", "aws-east-1", 1, 1, Position(1, 42), None, None, 0.0, "refused", 0.0)
    world.store._write("members/aws-east", records.encode(own))
    world.store._write("members/gcp-west", records.encode(report))
    await world.keeper.step()
    assert world.keeper.refused()
    assert "gcp-west reports" in (world.keeper.problem() or "")
    del world.store.records["members/gcp-west"]
    await world.keeper.step()
    assert world.keeper.epoch() == 1


async def test_another_node_of_the_cluster_continues_the_epoch_when_it_leads() -> None:
    world = World()
    await world.keeper.step()
    leading = False
    other = world.another("aws-east", "aws-east-2", leads=lambda: leading)
    await other.step()
    with pytest.raises(DeadlinePassed):
        other.epoch()
    assert world.record().node == "aws-east-1"
    assert other.problem() is None
    leading = True
    await other.step()
    assert other.epoch() == 1
    assert world.record() == RoleRecord("aws-east", 1, 2, "aws-east-2")


async def test_a_grant_of_the_leader_holds_until_its_deadline_and_is_never_shortened() -> None:
    world = World()
    await world.keeper.step()
    other = world.another("aws-east", "aws-east-2", leads=lambda: False)
    other.grant(1, 1020.0)
    assert not other.is_primary(), "nothing is taken before the record was read"
    await other.step()
    other.grant(1, 1020.0)
    other.grant(1, 1010.0)
    other.grant(2, 1028.0)
    world.clock.now = 1019.9
    assert other.epoch() == 1
    world.clock.now = 1020.0
    with pytest.raises(DeadlinePassed):
        other.epoch()


async def test_a_grant_ends_with_the_role_and_is_not_taken_in_a_contradiction() -> None:
    world = World()
    await world.keeper.step()
    other = world.another("aws-east", "aws-east-2", leads=lambda: False)
    await other.step()
    other.grant(1, 1020.0)
    world.write(RoleRecord("gcp-west", 2, 0, "gcp-west-1"))
    await other.step()
    with pytest.raises(NotPrimary):
        other.epoch()
    other.grant(1, 1020.0)
    with pytest.raises(NotPrimary):
        other.epoch()
    world.store.records.pop(records.ROLE)
    await other.step()
    assert other.refused()
    other.grant(1, 1020.0)
    assert not other.is_primary()


async def test_records_that_another_node_wrote_after_the_data_was_read_are_no_lost_data() -> None:
    """The data is read first, so a record may speak of what came since."""
    world = World(history=History(1, Position(1, 42)))
    world.write(RoleRecord("aws-east", 1, 9, "aws-east-2", Position(1, 42)))

    async def written(what: str) -> None:
        if what == "get":
            world.history.at = Position(1, 44)
            world.write(RoleRecord("aws-east", 1, 10, "aws-east-2", Position(1, 44)))

    world.store.before = written
    await world.keeper.step()
    assert not world.keeper.refused()
    world.store.before = None
    await world.keeper.step()
    assert world.keeper.epoch() == 1


async def test_a_first_epoch_that_another_node_took_meanwhile_is_no_lost_data() -> None:
    world = World()

    async def taken(what: str) -> None:
        if what == "get":
            world.store.before = None
            world.history.claimed = 1
            world.write(RoleRecord("aws-east", 1, 3, "aws-east-2"))

    world.store.before = taken
    await world.keeper.step()
    assert world.keeper.epoch() == 1


async def test_epochs_that_passed_while_the_node_was_frozen_are_no_older_store() -> None:
    world = World(history=History(1, Position(1, 42)))
    world.write(RoleRecord("aws-east", 2, 0, "aws-east-2"))

    async def frozen(what: str) -> None:
        if what == "get":
            world.store.after = None
            world.history.claimed = 3
            world.write(RoleRecord("aws-east", 3, 5, "aws-east-2"))

    world.store.after = frozen
    await world.keeper.step()
    assert not world.keeper.refused()
    assert world.keeper.epoch() == 3


async def test_a_damaged_record_is_a_problem_and_grants_nothing() -> None:
    world = World()
    world.store._write(records.ROLE, b"{")
    await world.keeper.step()
    assert "'role'" in (world.keeper.problem() or "")
    assert not world.keeper.is_primary()


async def test_data_that_cannot_be_asked_stops_renewals_and_damaged_data_stops_the_keeper() -> None:
    world = World()
    await world.keeper.step()
    world.history.fault = StoreError("the disk is away")
    await world.keeper.step()
    assert world.record().counter == 1
    assert "the disk is away" in (world.keeper.problem() or "")
    world.history.fault = StoreDamaged("gone")
    with pytest.raises(StoreDamaged):
        await world.keeper.run()


async def test_run_renews_well_within_a_third_of_the_detection_time() -> None:
    world = World()
    with pytest.raises(asyncio.CancelledError):
        await world.keeper.run()
    assert world.naps == [1.0, 1.0, 1.0]
    assert world.record().counter == 3


def test_the_clock_is_boottime() -> None:
    assert boottime_seconds() > 0


@pytest.mark.parametrize(
    ("cluster", "position", "refused"),
    [
        ("gcp-west", Position(1, 43), True),
        ("gcp-west", Position(1, 42), False),
        ("gcp-west", Position(2, 1), False),  # of another epoch: not this history's to tell
        ("aws-east", Position(1, 43), False),  # the own word is in the role record
        ("stranger", Position(1, 43), False),
    ],
)
async def test_data_behind_what_a_replica_took_over_is_refused(
    cluster: str, position: Position, *, refused: bool
) -> None:
    """A folder that was restored, or lost its end, must not give positions a second time."""
    world = World(history=History(1, Position(1, 42)))
    world.write(RoleRecord("aws-east", 1, 9, "aws-east-1", Position(1, 42)))
    report = MemberReport(cluster, "x", 1, 1, position, None, None, 0.0, "serving", 0.0)
    await world.store.put(records.member_key(cluster), records.encode(report))
    await world.keeper.step()
    assert world.keeper.refused() is refused
    assert world.keeper.is_primary() is not refused


async def test_a_renewal_says_where_the_data_stands_and_older_data_is_refused_after_a_restart() -> None:
    world = World(history=History(1, Position(1, 42)))
    world.write(RoleRecord("aws-east", 1, 9, "aws-east-1"))
    await world.keeper.step()
    assert world.record().position == Position(1, 42)
    calls = len(world.store.calls)
    await world.keeper.step()
    assert "list" not in world.store.calls[calls:]  # the others are asked once, not with each renewal
    world.history.at = Position(1, 41)
    restarted = world.another("aws-east")
    await restarted.step()
    assert restarted.refused()
    assert not restarted.is_primary()
    assert "wrote records up to 1.42" in str(restarted.problem())


@pytest.mark.parametrize("claimed", [5, None])
async def test_a_store_older_than_data_that_lost_its_end_is_refused_in_bounded_time(
    claimed: int | None,
) -> None:
    """Both were restored, from backups of different days: neither a further look nor a crash helps."""
    world = World(history=History(claimed, Position(4, 90) if claimed else Position(5, 90)))
    world.write(RoleRecord("aws-east", 4, 7, "aws-east-1", Position(4, 100)))
    await world.keeper.step()
    assert world.keeper.refused()
    assert "the store is older than the data" in str(world.keeper.problem())
    assert world.store.calls.count("get") == 1
