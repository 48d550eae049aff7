# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import logging

import pytest
from support.memory_federation_store import MemoryFederationStore
from support.model_federation import federation

from grey.federation import records
from grey.federation.interface import MemberReport
from grey.federation.members import Members, offline_threshold, report_interval
from grey.record.position import Position

WALL = 1_700_000_000.0


class World:
    def __init__(self) -> None:
        self.now = 50.0
        self.store = MemoryFederationStore()
        self.members = self.of("aws-east")

    def of(self, cluster: str, wall: float = WALL) -> Members:
        return Members(
            federation(),
            cluster,
            self.store,
            report=lambda: report(cluster),
            monotonic=lambda: self.now,
            wall=lambda: wall,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        raise asyncio.CancelledError

    def publish(self, cluster: str, counter: int, wall: float = WALL) -> None:
        self.store._write(records.member_key(cluster), records.encode(report(cluster, counter, wall)))

    def online(self, cluster: str) -> bool:
        return self.members.observed()[cluster].online


def report(cluster: str, counter: int = 0, wall: float = WALL) -> MemberReport:
    return MemberReport(cluster, f"{cluster}-1", counter, 1, Position(1, 42), 0.1, 0, 5.0, "serving", wall)


@pytest.mark.parametrize(
    ("detection", "interval", "threshold"),
    [(30.0, 1.0, 5.0), (10.0, 1.0, 5.0), (5.0, 0.5, 3.0), (3.0, 0.3, 3.0), (1.0, 0.2, 1.0), (0.5, 0.2, 0.5)],
)
def test_how_often_and_how_long(detection: float, interval: float, threshold: float) -> None:
    assert report_interval(detection) == pytest.approx(interval)
    assert offline_threshold(detection) == pytest.approx(threshold)


async def test_the_own_report_is_published_with_a_growing_counter_also_after_a_restart() -> None:
    world = World()
    counters = []
    for members in (world.members, world.members, world.of("aws-east", WALL + 1)):
        await members.step()
        stored = world.store.records["members/aws-east"]
        counters.append(records.decode_report("members/aws-east", stored.value).counter)
    assert counters == sorted(set(counters))
    own = world.members.observed()["aws-east"]
    assert own.online
    assert own.report == report("aws-east")


async def test_offline_after_the_threshold_without_a_new_counter_and_online_with_one() -> None:
    world = World()
    world.publish("gcp-west", 1)
    await world.members.step()
    world.now += 4.9
    await world.members.step()
    assert world.online("gcp-west")
    world.now += 0.1
    assert not world.online("gcp-west")
    assert world.members.observed()["gcp-west"].last_seen_seconds == pytest.approx(5.0)
    world.publish("gcp-west", 2)
    await world.members.step()
    assert world.online("gcp-west")
    assert world.members.observed()["gcp-west"].last_seen_seconds == 0.0


@pytest.mark.parametrize(
    ("age", "online"), [(-3600.0, True), (0.0, True), (4.0, True), (6.0, False), (3600.0, False)]
)
async def test_right_after_the_start_the_wall_time_is_a_hint(age: float, online: bool) -> None:
    world = World()
    world.publish("gcp-west", 1, WALL - age)
    await world.members.step()
    assert world.online("gcp-west") is online
    world.publish("gcp-west", 2, WALL - age)
    await world.members.step()
    assert world.online("gcp-west"), "a new counter counts, whatever the other's clock says"


async def test_a_cluster_that_never_reported_is_unknown() -> None:
    world = World()
    await world.members.step()
    seen = world.members.observed()["edge-chicago"]
    assert (seen.report, seen.online, seen.last_seen_seconds) == (None, False, None)
    assert set(world.members.observed()) == {"aws-east", "gcp-west", "edge-chicago"}


async def test_a_damaged_or_misplaced_report_hides_no_other() -> None:
    world = World()
    world.store._write("members/edge-chicago", b"{")
    world.store._write("members/edge-london", records.encode(report("edge-chicago", 5)))
    world.publish("gcp-west", 1)
    await world.members.step()
    assert world.online("gcp-west")
    assert world.members.observed()["edge-chicago"].report is None


async def test_failures_are_logged_once_per_change(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    caplog.set_level(logging.INFO, "grey.federation.members")
    world.store.down = True
    for _ in range(5):
        await world.members.step()
    assert world.members.problem() == "the store is down"
    assert len(caplog.records) == 1
    world.store.down = False
    for _ in range(5):
        await world.members.step()
    assert world.members.problem() is None
    assert len(caplog.records) == 2


async def test_other_errors_are_not_swallowed() -> None:
    world = World()

    async def broken(what: str) -> None:
        raise ZeroDivisionError

    world.store.before = broken
    with pytest.raises(ZeroDivisionError):
        await world.members.run()


async def test_run_publishes_until_cancelled() -> None:
    world = World()
    with pytest.raises(asyncio.CancelledError):
        await world.members.run()
    assert "members/aws-east" in world.store.records
