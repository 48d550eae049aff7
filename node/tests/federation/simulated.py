# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A federation in virtual time: the keeper that ships, on clocks, a network and a store that misbehave."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from support.model_federation import federation

from grey.data.fence import WriteRefused
from grey.federation import records
from grey.federation.interface import FederationStoreError, RoleRecord, Versioned
from grey.federation.keeper import RoleKeeper
from grey.federation.role import Standstill, Timing
from grey.record.position import ORIGIN, Position

if TYPE_CHECKING:
    from collections.abc import Callable

DETECTION = 10.0
TIMING = Timing.of(DETECTION)
NAMES = ("east", "west", "north")
Kind: TypeAlias = Literal["freeze", "stall", "kill", "outage", "partition", "lossy"]


class Fault(msgspec.Struct, frozen=True):
    """From ``at`` on, for ``lasts`` seconds. ``lossy``: messages are slow, lost, doubled or late.

    ``stall``: the first answer in this time freezes the node for the rest of it, before it can act.
    """

    kind: Kind
    node: int
    at: float
    lasts: float

    def covers(self, now: float) -> bool:
        return self.at <= now < self.at + self.lasts


class Violation(AssertionError):
    """An invariant of the role does not hold."""


class World:
    """The store's state, the faults and the nodes."""

    def __init__(self, seed: int, faults: list[Fault]) -> None:
        self.random = random.Random(seed)
        self.faults = list(faults)
        self.records: dict[str, Versioned] = {}
        self.revision = 0
        self.epochs: dict[int, str] = {}
        self.nodes = [Node(self, index) for index in range(len(NAMES))]
        self.failed: Violation | None = None

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def faulty(self, kind: str, node: int | None = None) -> Fault | None:
        now = self.now
        return next(
            (f for f in self.faults if f.kind == kind and node in {None, f.node} and f.covers(now)), None
        )

    async def run(self, seconds: float) -> None:
        tasks = [asyncio.create_task(node.live()) for node in self.nodes]
        try:
            while self.now < seconds and self.failed is None:
                await asyncio.sleep(0.2)
                self.check()
                for task in tasks:
                    if task.done():
                        task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self.failed is not None:
            raise self.failed

    def check(self) -> None:
        writers = [node for node in self.nodes if node.writes_in() is not None]
        if len(writers) > 1:
            self.fail(f"{[(node.name, node.writes_in()) for node in writers]} may write at the same time")
        for node in writers:
            epoch = node.writes_in()
            sent = node.renewals.get(epoch or 0)
            if sent is None or self.now - sent >= DETECTION:
                self.fail(f"{node.name} writes in epoch {epoch} on a renewal sent at {sent}")

    def fail(self, what: str) -> None:
        if self.failed is None:
            self.failed = Violation(f"at {self.now:.3f}: {what}")

    def apply(self, node: Node, key: str, value: bytes, expected: int | None, sent: float) -> bool:
        """Carry out a swap: the one moment at which it counts."""
        there = self.records.get(key)
        if (there.version if there else None) != expected:
            return False
        new = records.decode_role(value)
        old = None if there is None else records.decode_role(there.value)
        if old is None or new.epoch != old.epoch:
            self._new_epoch(new)
        elif (new.cluster, new.counter) != (old.cluster, old.counter + 1):
            self.fail(f"{old} was renewed as {new}")
        self.revision += 1
        self.records[key] = Versioned(value, self.revision)
        if new.counter > 0:
            node.renewals[new.epoch] = max(sent, node.renewals.get(new.epoch, sent))
        return True

    def _new_epoch(self, new: RoleRecord) -> None:
        if self.epochs.setdefault(new.epoch, new.cluster) != new.cluster:
            self.fail(f"epoch {new.epoch} was given twice")
        if self.epochs and new.epoch != max(self.epochs):
            self.fail(f"epoch {new.epoch} came after {max(self.epochs)}")
        for node in self.nodes:
            if node.writes_in() is not None:
                self.fail(f"{node.name} may still write in {node.writes_in()} while {new} is given")


class Node:
    """A cluster's one node: its clock, its data, and the processes that run on it."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.name = NAMES[index]
        self.offset = world.random.uniform(0, 1e6)
        self.rate = world.random.uniform(0.99, 1.01)
        self.claimed: int | None = None
        self.at = ORIGIN
        self.renewals: dict[int, float] = {}
        self.keeper = self._new_keeper()

    def boottime(self) -> float:
        return self.offset + self.rate * self.world.now

    def writes_in(self) -> int | None:
        """Return the epoch in which this node would acknowledge a write if it were asked right now."""
        try:
            return self.keeper.epoch()
        except WriteRefused:
            return None

    async def live(self) -> None:
        """Run until cancelled; be killed and restarted by the faults."""
        kills = sorted(
            (f for f in self.world.faults if f.kind == "kill" and f.node == self.index), key=lambda f: f.at
        )
        for kill in kills:
            await self._run_until(kill.at)
            self.keeper = self._new_keeper()  # what a dead process knew is gone
            await asyncio.sleep(max(0.0, kill.at + kill.lasts - self.world.now))
        await self._run_until(float("inf"))

    async def _run_until(self, end: float) -> None:
        left = end - self.world.now
        if left <= 0:
            return
        self.keeper = self._new_keeper()
        keeper, candidate, writer = self.keeper.run(), self._stand_as_candidate(), self._write()
        try:
            async with asyncio.timeout(None if left == float("inf") else left):
                await asyncio.gather(keeper, candidate, writer)
        except TimeoutError:
            return

    def _new_keeper(self) -> RoleKeeper:
        return RoleKeeper(
            federation(*NAMES, detection_time_seconds=DETECTION),
            self.name,
            f"{self.name}-1",
            Link(self),
            self,
            boottime=self.boottime,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate)
        await self.thawed()

    async def thawed(self) -> None:
        while fault := self.world.faulty("freeze", self.index):  # noqa: ASYNC110
            await asyncio.sleep(fault.at + fault.lasts - self.world.now + 1e-6)

    async def _write(self) -> None:
        """Write while it may, and follow the primary else."""
        while True:
            await self.sleep(0.3)
            epoch = self.writes_in()
            if epoch is not None:
                self.at = Position(epoch, self.at.sequence + 1)
                continue
            source = next((node for node in self.world.nodes if node.writes_in() is not None), None)
            if source is not None and self.world.random.random() < 0.7:
                self.at = max(self.at, source.at)

    async def _stand_as_candidate(self) -> None:
        """Take over as a promotion will: only after no new counter for the detection time."""
        store, still = Link(self), Standstill(TIMING.inherit_after)
        while True:
            await self.sleep(0.5)
            sent = self.boottime()
            try:
                found = await store.get(records.ROLE)
            except FederationStoreError:
                continue
            record = records.decode_role(found.value) if found else None
            seconds = still.observe(record, sent_at=sent, received_at=self.boottime())
            if record is None or found is None or record.cluster == self.name or self.at == ORIGIN:
                continue
            if seconds >= DETECTION:
                new = RoleRecord(self.name, record.epoch + 1, 0, f"{self.name}-1")
                try:
                    await store.swap(records.ROLE, records.encode(new), expected=found.version)
                except FederationStoreError:
                    continue

    async def epoch(self) -> int | None:
        return self.claimed

    async def position(self) -> Position:
        return self.at

    async def claim(self, epoch: int) -> None:
        await asyncio.sleep(self.world.random.uniform(0.0, 0.05))
        await self.thawed()
        self.claimed = max(epoch, self.claimed or 0)
        await asyncio.sleep(self.world.random.uniform(0.0, 0.05))
        await self.thawed()


class Link:
    """A node's way to the store: delays, losses, late and doubled requests, outages, freezes."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.world = node.world

    async def get(self, key: str) -> Versioned | None:
        return await self._ask(lambda: self.world.records.get(key))

    async def list(self, prefix: str) -> dict[str, Versioned]:
        return await self._ask(lambda: {k: v for k, v in self.world.records.items() if k.startswith(prefix)})

    async def swap(self, key: str, value: bytes, *, expected: int | None) -> bool:
        sent = self.world.now
        return await self._ask(lambda: self.world.apply(self.node, key, value, expected, sent))

    async def put(self, key: str, value: bytes) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def _ask(self, carry_out: Callable[[], object]) -> object:
        await self.node.thawed()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[object] = loop.create_future()

        def arrive(*, reply: bool) -> None:
            if self.world.faulty("outage"):
                return
            result = carry_out()
            if reply and not answer.done():
                answer.set_result(result)

        chance = self.world.random
        lossy = self.world.faulty("lossy") is not None
        if self.world.faulty("partition", self.node.index) is None:
            mean = 0.4 if lossy else 0.03
            there, back = chance.expovariate(1 / mean), chance.expovariate(1 / mean)
            lost = lossy and chance.random() < 0.2
            silent = lossy and chance.random() < 0.3
            if lossy and chance.random() < 0.3:
                loop.call_later(there + chance.uniform(0.0, 20.0), lambda: arrive(reply=False))
            if not lost:
                loop.call_later(there, lambda: arrive(reply=not silent))
        else:
            back = 0.0
        try:
            async with asyncio.timeout(TIMING.store_timeout):
                result = await answer
                await asyncio.sleep(back)
            self._stall()
        except TimeoutError:
            raise FederationStoreError("no answer") from None
        finally:
            await self.node.thawed()
        return result

    def _stall(self) -> None:
        stall = self.world.faulty("stall", self.node.index)
        if stall is not None:
            now = self.world.now
            self.world.faults.append(Fault("freeze", stall.node, now, stall.at + stall.lasts - now))
