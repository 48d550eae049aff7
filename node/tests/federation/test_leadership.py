# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The election on a store that a test lets fail at any point."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.faulty_store import FaultyStore
from support.fences import FakeTime
from support.memory_store import MemoryStore

from grey.data import keyspace
from grey.federation.leader import LeaderRecord
from grey.federation.leadership import Leadership, SoleLeader
from grey.federation.role import Timing
from grey.store.interface import EngineUnreachable, StoreDamaged, Write

if TYPE_CHECKING:
    from grey.store.interface import Item, Store

TIMING = Timing.of(30.0)


class World:
    """Nodes that share a store and a clock; detection time 30 s: a leader is succeeded after 10 s."""

    def __init__(self) -> None:
        self.clock = FakeTime(1000.0)
        self.store = MemoryStore()
        self.fit = {"a": True, "b": True}
        self.naps = 0

    def node(self, name: str, store: Store | None = None) -> Leadership:
        return Leadership(
            store or self.store,
            name,
            f"{name}:8443",
            timing=TIMING,
            fit=lambda: self.fit[name],
            boottime=self.clock,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        assert seconds == TIMING.renew_interval
        self.naps += 1
        if self.naps == 3:
            raise asyncio.CancelledError

    def record(self) -> LeaderRecord:
        value = self.store.value(keyspace.LEADER)
        assert value is not None
        return msgspec.json.decode(value, type=LeaderRecord)


async def test_one_leads_and_the_other_takes_over_after_a_third_of_the_detection_time() -> None:
    world = World()
    a, b = world.node("a"), world.node("b")
    assert "not asked yet" in str(a.problem())
    await a.step()
    await b.step()
    assert (a.leads(), b.leads()) == (True, False)
    assert a.leader() == b.leader() == LeaderRecord("a", "a:8443", 1)
    assert (a.problem(), b.problem()) == (None, None)
    world.clock.now += 9.0
    await b.step()
    assert not b.leads()
    world.clock.now += 1.0
    assert not a.leads(), "it stops by itself when it could not renew for so long"
    await b.step()
    assert b.leads()
    assert world.record() == LeaderRecord("b", "b:8443", 2)
    await a.step()
    assert (a.leads(), b.leads()) == (False, True)


async def test_renewals_count_from_before_their_sending() -> None:
    world = World()
    store = FaultyStore(world.store)
    a = world.node("a", store)

    def slow() -> None:
        world.clock.now += 8.0

    store.during.append(slow)
    await a.step()
    world.clock.now += 1.9
    assert a.leads()
    world.clock.now += 0.1
    assert not a.leads()


async def test_a_renewal_of_unknown_outcome_does_not_count_and_is_looked_up() -> None:
    world = World()
    store = FaultyStore(world.store)
    a = world.node("a", store)
    store.faults.append("silent")
    await a.step()
    assert not a.leads()
    assert world.record().counter == 1
    await a.step()
    assert a.leads()
    assert world.record().counter == 2


async def test_a_swap_that_comes_second_changes_nothing() -> None:
    world = World()
    store = FaultyStore(world.store)
    a, b = world.node("a", store), world.node("b")
    store.gate = asyncio.Event()
    step = asyncio.create_task(a.step())
    await store.begun.wait()
    await b.step()
    store.gate.set()
    await step
    assert (a.leads(), b.leads(), a.problem()) == (False, True, None)
    assert world.record().node == "b"


async def test_without_the_engine_nobody_leads_and_the_reason_is_told() -> None:
    class Gone(MemoryStore):
        async def get(
            self, key: bytes, *, revision: int | None = None, serializable: bool = False
        ) -> Item | None:
            raise EngineUnreachable("no leader")

    a = World().node("a", Gone())
    await a.step()
    assert not a.leads()
    assert a.problem() == "the engine does not say who leads this cluster: no leader"


async def test_damage_ends_the_node() -> None:
    class Damaged(MemoryStore):
        async def get(
            self, key: bytes, *, revision: int | None = None, serializable: bool = False
        ) -> Item | None:
            raise StoreDamaged("gone")

    with pytest.raises(StoreDamaged):
        await World().node("a", Damaged()).run()


async def test_a_record_that_cannot_be_read_is_replaced() -> None:
    world = World()
    await world.store.commit([], [Write(keyspace.LEADER, b"{")])
    a = world.node("a")
    await a.step()
    assert a.leads()
    assert world.record() == LeaderRecord("a", "a:8443", 1)


async def test_a_leader_without_the_federation_store_gives_way_at_once() -> None:
    world = World()
    a, b = world.node("a"), world.node("b")
    await a.step()
    world.fit["a"] = False
    await b.step()
    assert not b.leads()
    await a.step()
    await b.step()
    assert b.leads()


async def test_a_node_that_ends_is_succeeded_at_once_and_never_leads_again() -> None:
    world = World()
    a, b = world.node("a"), world.node("b")
    await a.step()
    await b.step()
    await a.resign()
    assert not a.leads()
    await b.step()
    assert b.leads()
    world.clock.now += 20.0
    await a.step()
    assert not a.leads()
    await b.resign()
    await b.resign()


async def test_resigning_without_an_engine_is_given_up() -> None:
    world = World()
    store = FaultyStore(world.store)
    a = world.node("a", store)
    await a.step()
    store.faults.append("lost")
    await a.resign()
    assert not a.leads()
    assert world.record().fit


async def test_run_renews_well_within_the_time_of_a_takeover() -> None:
    world = World()
    with pytest.raises(asyncio.CancelledError):
        await world.node("a").run()
    assert world.record().counter == 3
    assert TIMING.renew_interval * 3 < TIMING.inherit_after


async def test_a_single_node_leads_without_asking() -> None:
    sole = SoleLeader()
    await sole.resign()
    assert (sole.leads(), sole.leader(), sole.problem()) == (True, None, None)
    running = asyncio.create_task(sole.run())
    await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
