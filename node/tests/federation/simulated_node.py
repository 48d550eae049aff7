# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of the simulated federation: its clock, its processes, and its ways to everything else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.model_federation import federation

from grey.data import keyspace
from grey.data.fence import WriteRefused
from grey.data.history import History, format_epoch, format_position
from grey.federation import records
from grey.federation.deputy import ClusterState, Deputy, LeaderSilent
from grey.federation.interface import FederationStoreError, RoleRecord
from grey.federation.keeper import RoleKeeper
from grey.federation.leadership import Leadership, Leading, SoleLeader
from grey.federation.role import Standstill
from grey.record.position import ORIGIN, Position
from grey.store.interface import (
    Compare,
    CompareFailed,
    Item,
    StoreError,
    Write,
)

from .simulated_ways import EngineLink, Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.federation.leader import LeaderRecord

    from .simulated import World


class Engine:
    """What the members of an engine agreed on: keys and transactions, nothing more."""

    def __init__(self) -> None:
        self.items: dict[bytes, Item] = {}
        self.revision = 0

    def value(self, key: bytes) -> bytes | None:
        return self.items[key].value if key in self.items else None

    def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        for index, compare in enumerate(compares):
            if self.value(compare.key) != compare.value:
                raise CompareFailed(index)
        self.revision += 1
        for write in writes:
            assert write.value is not None
            self.items[write.key] = Item(write.key, write.value, self.revision)
        return self.revision


class Cluster:
    """Nodes that share an engine. ``renewals`` says when the newest renewal of each epoch was sent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.engine = Engine()
        self.nodes: list[Node] = []
        self.renewals: dict[int, float] = {}
        self.acknowledged: list[float] = []

    def leader(self) -> Node | None:
        """Return a node that believes to lead, the newest first."""
        return next((node for node in reversed(self.nodes) if node.leading.leads()), None)


class Node:
    """One greyd: the keeper, the election and the deputy that ship, around a writer and a candidate."""

    def __init__(self, world: World, cluster: Cluster, number: int, size: int, index: int) -> None:
        self.world = world
        self.cluster = cluster
        self.index = index
        self.sole = size == 1
        self.name = f"{cluster.name}-{number}"
        self.offset = world.random.uniform(0, 1e6)
        self.rate = world.random.uniform(0.99, 1.01)
        self.alive = False
        self._begin()

    def boottime(self) -> float:
        return self.offset + self.rate * self.world.now

    def writes_in(self) -> int | None:
        """Return the epoch in which this node would acknowledge a write if it were asked right now."""
        try:
            return self.keeper.epoch()
        except WriteRefused:
            return None

    def state(self) -> ClusterState:
        """Answer what the other nodes of the cluster ask."""
        return ClusterState(
            node=self.name,
            leader=self.leading.leads(),
            epoch=self.writes_in(),
            remaining_seconds=self.keeper.remaining_seconds(),
            lag_seconds=None,
            lag_records=None,
            consistent=True,
            position="0.0",
        )

    async def live(self) -> None:
        """Run until cancelled; be killed and restarted by the faults."""
        kills = sorted(
            (f for f in self.world.faults if f.kind == "kill" and f.node == self.index), key=lambda f: f.at
        )
        for kill in kills:
            await self._run_until(kill.at)
            self._begin()  # what a dead process knew is gone
            await asyncio.sleep(max(0.0, kill.at + kill.lasts - self.world.now))
        await self._run_until(float("inf"))

    def _begin(self) -> None:
        from .simulated import DETECTION, NAMES, TIMING

        store = EngineLink(self)
        self.history = History(store)  # type: ignore[arg-type]  # it is asked for keys only
        self.leading: Leading = SoleLeader()
        self.keeper = RoleKeeper(
            federation(*NAMES, detection_time_seconds=DETECTION),
            self.cluster.name,
            self.name,
            Link(self),
            self.history,
            leads=lambda: self.leading.leads(),
            boottime=self.boottime,
            sleep=self.sleep,
        )
        if not self.sole:
            self.leading = Leadership(
                store,  # type: ignore[arg-type]
                self.name,
                f"{self.name}:8443",
                timing=TIMING,
                fit=self.keeper.reaches_store,
                boottime=self.boottime,
                sleep=self.sleep,
            )
        self.deputy = Deputy(
            self.leading,
            self.keeper,
            self._ask_leader,
            timing=TIMING,
            boottime=self.boottime,
            sleep=self.sleep,
        )

    async def _run_until(self, end: float) -> None:
        left = end - self.world.now
        if left <= 0:
            return
        self._begin()
        self.alive = True
        works = [self.keeper.run(), self._stand_as_candidate(), self._write(), self._follow()]
        works += [] if self.sole else [self.leading.run(), self.deputy.run()]
        try:
            async with asyncio.timeout(None if left == float("inf") else left):
                await asyncio.gather(*works)
        except TimeoutError:
            return
        finally:
            self.alive = False

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate)
        await self.thawed()

    async def thawed(self) -> None:
        while fault := self.world.faulty("freeze", self.index):  # noqa: ASYNC110
            await asyncio.sleep(fault.at + fault.lasts - self.world.now + 1e-6)

    def stall(self) -> None:
        """Freeze with an answer in the hand, if a fault says so."""
        from .simulated import Fault

        stall = self.world.faulty("stall", self.index)
        if stall is not None:
            now = self.world.now
            self.world.faults.append(Fault("freeze", stall.node, now, stall.at + stall.lasts - now))

    async def _write(self) -> None:
        """Write while it may, as the writer does: fence, compare in the transaction, fence again."""
        while True:
            await self.sleep(0.5)
            try:
                epoch = self.keeper.epoch()
                found = await self.cluster_link.get(keyspace.POSITION)
                last = Position.parse(found.value.decode()) if found else ORIGIN
                mark = format_position(Position(epoch, last.sequence + 1))
                await self.cluster_link.commit(
                    [
                        Compare(keyspace.EPOCH, format_epoch(epoch)),
                        Compare(keyspace.POSITION, found.value if found else None),
                    ],
                    [Write(keyspace.POSITION, mark)],
                )
                if self.keeper.epoch() == epoch:
                    self.world.acknowledge(self, epoch)
            except (WriteRefused, StoreError):
                continue

    async def _follow(self) -> None:
        """Follow the primary while this node leads, as the follower does."""
        while True:
            await self.sleep(0.5)
            source = next((node for node in self.world.nodes if node.writes_in() is not None), None)
            if source is None or source.cluster is self.cluster or not self.leading.leads():
                continue
            epoch = source.writes_in()
            head = source.cluster.engine.value(keyspace.POSITION)
            try:
                found = await self.cluster_link.get_many([keyspace.EPOCH, keyspace.POSITION])
                held = {key: item.value for key, item in found.items()}
                mine, theirs = held.get(keyspace.EPOCH), format_epoch(epoch or 0)
                if self.keeper.is_primary() or int(mine or 0) > int(theirs):
                    continue
                compares = [Compare(key, held.get(key)) for key in (keyspace.EPOCH, keyspace.POSITION)]
                writes = [Write(keyspace.EPOCH, theirs)]
                if head is not None and self.world.random.random() < 0.7:
                    writes.append(Write(keyspace.POSITION, head))
                await self.cluster_link.commit(compares, writes)
            except StoreError:
                continue

    async def _stand_as_candidate(self) -> None:
        """Take over as a promotion will: only after no new counter for the detection time."""
        from .simulated import DETECTION, TIMING

        store = Link(self)
        still: Standstill[RoleRecord] = Standstill(TIMING.inherit_after)
        while True:
            await self.sleep(0.5)
            sent = self.boottime()
            try:
                found = await store.get(records.ROLE)
                position = await self.history.position()
            except (FederationStoreError, StoreError):
                continue
            record = records.decode_role(found.value) if found else None
            seconds = still.observe(record, sent_at=sent, received_at=self.boottime())
            if record is None or found is None or record.cluster == self.cluster.name or position == ORIGIN:
                continue
            if seconds >= DETECTION and self.leading.leads():
                new = RoleRecord(self.cluster.name, record.epoch + 1, 0, self.name)
                try:
                    await store.swap(records.ROLE, records.encode(new), expected=found.version)
                except FederationStoreError:
                    continue

    async def _ask_leader(self, leader: LeaderRecord, *, timeout_seconds: float) -> ClusterState:
        """Ask another node over the network between them."""
        other = next(node for node in self.cluster.nodes if node.name == leader.node)
        chance = self.world.random
        mean = 0.3 if self.world.faulty("lossy") else 0.01
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.sleep(chance.expovariate(1 / mean))
                apart = any(self.world.faulty("apart", node.index) for node in (self, other))
                if apart or not other.alive:
                    raise LeaderSilent("no connection")
                await other.thawed()
                answer = other.state()
                other.stall()
                await other.thawed()  # frozen between the answer and its sending
                await asyncio.sleep(chance.expovariate(1 / mean))
            self.stall()
        except TimeoutError:
            raise LeaderSilent("no answer") from None
        finally:
            await self.thawed()
        return answer

    @property
    def cluster_link(self) -> EngineLink:
        return EngineLink(self)
