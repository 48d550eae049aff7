# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import msgspec
import pytest

from grey.federation.interface import RoleRecord
from grey.federation.role import (
    Bootstrap,
    Claim,
    Leave,
    Refuse,
    Renew,
    Standstill,
    StepDown,
    Timing,
    View,
    Wait,
    decide,
)
from grey.record.position import ORIGIN, Position

TIMING = Timing.of(30.0)
FRESH = View(
    cluster="a",
    node="a-1",
    bootstrap="a",
    record=None,
    version=None,
    local_epoch=None,
    local_position=ORIGIN,
)


def view(record: RoleRecord | None, **changes: object) -> View:
    version = None if record is None else 7
    return msgspec.structs.replace(FRESH, **{"record": record, "version": version, **changes})


def problem(of: View) -> str:
    action = decide(of)
    assert isinstance(action, Refuse)
    return action.problem


def test_times_follow_from_the_detection_time() -> None:
    assert Timing.of(30.0) == Timing(
        detection=30.0, margin=1.5, renew_interval=1.0, inherit_after=10.0, store_timeout=5.0
    )
    assert Timing.of(2.0) == Timing(
        detection=2.0, margin=0.1, renew_interval=0.2, inherit_after=2.0 / 3, store_timeout=0.5
    )


@pytest.mark.parametrize("detection", [0.2, 1.0, 3.0, 30.0, 600.0])
def test_several_renewals_fit_before_the_deadline_and_it_ends_before_the_detection(detection: float) -> None:
    timing = Timing.of(detection)
    assert timing.deadline(100.0) < 100.0 + detection
    assert timing.deadline(0.0) > 4 * timing.renew_interval
    assert timing.renew_interval < timing.inherit_after


def test_the_deadline_counts_from_before_the_sending() -> None:
    assert TIMING.deadline(100.0) == 128.5


class TestWithoutRecord:
    def test_the_primary_of_the_file_bootstraps(self) -> None:
        assert decide(FRESH) == Bootstrap(RoleRecord("a", 1, 0, "a-1"))

    def test_a_replica_waits(self) -> None:
        action = decide(view(None, bootstrap="b"))
        assert isinstance(action, Wait)
        assert "b" in action.reason

    @pytest.mark.parametrize(
        "history",
        [{"local_epoch": 1}, {"local_position": Position(1, 42)}, {"local_epoch": 2, "bootstrap": "b"}],
    )
    def test_data_with_history_is_refused(self, history: dict[str, object]) -> None:
        assert "holds no role record" in problem(view(None, **history))

    def test_history_elsewhere_is_refused(self) -> None:
        assert "c reports" in problem(view(None, elsewhere="c"))


class TestOwnRecord:
    def test_it_is_renewed_from_its_version(self) -> None:
        assert decide(view(RoleRecord("a", 1, 4, "a-1"), local_epoch=1)) == Renew(
            RoleRecord("a", 1, 5, "a-1"), 7
        )

    def test_a_restart_goes_on_in_the_same_epoch_at_once(self) -> None:
        restarted = view(RoleRecord("a", 3, 900, "a-1"), local_epoch=3, local_position=Position(3, 8))
        assert decide(restarted) == Renew(RoleRecord("a", 3, 901, "a-1", Position(3, 8)), 7)

    @pytest.mark.parametrize(
        "known",
        [
            {"record": RoleRecord("a", 3, 9, "a-1", Position(3, 9))},
            {"followed": Position(3, 9)},
        ],
    )
    def test_data_that_ends_before_what_was_written_is_refused(self, known: dict[str, object]) -> None:
        record = RoleRecord("a", 3, 9, "a-1", Position(3, 8))
        older = view(record, local_epoch=3, local_position=Position(3, 8))
        assert isinstance(decide(older), Renew)
        found = problem(msgspec.structs.replace(older, **known))
        assert "wrote records up to 3.9" in found
        assert "the data here ends at 3.8" in found

    def test_an_interrupted_bootstrap_goes_on(self) -> None:
        assert decide(view(RoleRecord("a", 1, 0, "a-1"))) == Claim(1)

    def test_an_interrupted_promotion_goes_on(self) -> None:
        promoted = view(RoleRecord("a", 2, 0, "a-1"), local_position=Position(1, 42))
        assert decide(promoted) == Claim(2)
        assert isinstance(decide(msgspec.structs.replace(promoted, local_epoch=2)), Renew)

    def test_an_epoch_that_was_used_and_empty_data_means_lost_data(self) -> None:
        assert "is empty" in problem(view(RoleRecord("a", 1, 1, "a-1")))

    def test_a_later_epoch_and_empty_data_means_lost_data(self) -> None:
        assert "is empty" in problem(view(RoleRecord("a", 2, 0, "a-1")))

    def test_data_of_an_older_epoch_is_refused(self) -> None:
        stale = view(RoleRecord("a", 3, 9, "a-1"), local_epoch=1, local_position=Position(1, 5))
        assert "lost or replaced" in problem(stale)

    def test_data_of_a_replica_is_not_taken_for_the_first_primary(self) -> None:
        assert "lost or replaced" in problem(
            view(RoleRecord("a", 1, 0, "a-1"), local_position=Position(1, 5))
        )

    def test_restored_data_is_refused_in_the_epochs_that_its_snapshot_knows(self) -> None:
        restored = view(
            RoleRecord("a", 2, 9, "a-1"), local_epoch=2, local_position=Position(2, 5), restored=2
        )
        assert "was restored from a snapshot of epoch 2 (position 2.5)" in problem(restored)
        later = msgspec.structs.replace(restored, record=RoleRecord("a", 3, 1, "a-1"))
        assert "epoch 3 was begun for a, but the data here was restored" in problem(later)
        assert isinstance(decide(msgspec.structs.replace(later, local_epoch=3)), Renew)

    def test_restored_data_may_follow_and_be_promoted(self) -> None:
        replica = view(RoleRecord("b", 1, 9, "b-1"), local_epoch=1, local_position=Position(1, 5), restored=1)
        assert isinstance(decide(replica), StepDown)
        assert decide(msgspec.structs.replace(replica, record=RoleRecord("a", 2, 0, "b-1"))) == Claim(2)

    @pytest.mark.parametrize("cluster", ["a", "b"])
    def test_a_store_older_than_the_data_is_refused(self, cluster: str) -> None:
        assert "older than the data" in problem(view(RoleRecord(cluster, 1, 9, "a-1"), local_epoch=2))
        by_position = view(RoleRecord(cluster, 1, 9, "a-1"), local_epoch=1, local_position=Position(2, 1))
        assert "older than the data" in problem(by_position)


class TestAnotherNodeOfTheCluster:
    RECORD = RoleRecord("a", 1, 4, "a-2")

    def test_the_leader_goes_on_with_what_another_node_renewed(self) -> None:
        assert decide(view(self.RECORD, local_epoch=1)) == Renew(RoleRecord("a", 1, 5, "a-1"), 7)

    @pytest.mark.parametrize(
        "known",
        [
            view(None),
            view(RECORD, local_epoch=1),
            view(RoleRecord("a", 1, 0, "a-2")),
            view(RoleRecord("a", 2, 0, "a-2"), local_position=Position(1, 42)),
        ],
    )
    def test_everything_is_left_to_the_leader(self, known: View) -> None:
        assert isinstance(decide(known), Bootstrap | Claim | Renew)
        assert decide(msgspec.structs.replace(known, leads=False)) == Leave()

    def test_a_node_that_does_not_lead_refuses_too(self) -> None:
        lost = view(RoleRecord("a", 1, 1, "a-1"), leads=False)
        assert "is empty" in problem(lost)
        assert "holds no role record" in problem(view(None, local_epoch=1, leads=False))


def test_another_cluster_as_primary_means_stepping_down() -> None:
    record = RoleRecord("b", 2, 0, "b-1")
    assert decide(view(record, local_epoch=1, local_position=Position(1, 42))) == StepDown(record)
    assert decide(view(record)) == StepDown(record)


def test_standstill_counts_from_an_answer_to_the_sending_of_a_later_question() -> None:
    still: Standstill[RoleRecord] = Standstill(20.0)
    first = RoleRecord("a", 1, 1, "a-1")
    assert still.observe(first, sent_at=10.0, received_at=14.0) == 0.0
    assert still.observe(first, sent_at=20.0, received_at=25.0) == 6.0
    assert still.observe(first, sent_at=26.0, received_at=26.5) == 12.0
    second = RoleRecord("a", 1, 2, "a-1")
    assert still.observe(second, sent_at=27.0, received_at=28.0) == 0.0
    assert still.observe(second, sent_at=29.0, received_at=30.0) == 1.0


def test_standstill_starts_anew_when_the_store_could_not_be_read() -> None:
    still: Standstill[RoleRecord] = Standstill(10.0)
    record = RoleRecord("a", 1, 1, "a-1")
    assert still.observe(record, sent_at=0.0, received_at=0.5) == 0.0
    assert still.observe(record, sent_at=10.0, received_at=10.5) == 9.5
    assert still.observe(record, sent_at=20.0, received_at=20.6) == 0.0
    assert still.observe(record, sent_at=21.6, received_at=21.7) == 1.0
