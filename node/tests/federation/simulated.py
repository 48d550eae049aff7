# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A federation in virtual time: what ships, on clocks, networks, engines and a store that misbehave."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from grey.federation import records
from grey.federation.interface import RoleRecord, Versioned
from grey.federation.role import Timing

from .simulated_node import Cluster, Node

if TYPE_CHECKING:
    from collections.abc import Sequence

DETECTION = 10.0
TIMING = Timing.of(DETECTION)
NAMES = ("east", "west", "north")
Kind: TypeAlias = Literal[
    "freeze", "stall", "kill", "outage", "partition", "lossy", "engine", "member", "apart", "behead"
]


class Fault(msgspec.Struct, frozen=True):
    """From ``at`` on, for ``lasts`` seconds.

    ``lossy``: messages are slow, lost, doubled or late. ``stall``: the first answer in this time freezes the
    node for the rest of it, before it can act. ``outage``, ``partition``: the federation store, or a node's
    way to it, is gone; ``engine``, ``member``: the engine of the node's cluster, or the node's way to it;
    ``apart``: no other node reaches this one. ``behead``: freezes whoever leads the node's cluster then.
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
    """The store's state, the faults and the clusters."""

    def __init__(self, seed: int, faults: list[Fault], sizes: Sequence[int] = (1, 1, 1)) -> None:
        """``sizes`` are the clusters' numbers of nodes."""
        self._loop = asyncio.get_running_loop()
        self.random = random.Random(seed)
        self.faults = list(faults)
        self.records: dict[str, Versioned] = {}
        self.revision = 0
        self.epochs: dict[int, str] = {}
        self.clusters = {name: Cluster(name) for name, _ in zip(NAMES, sizes, strict=True)}
        self.nodes: list[Node] = []
        for cluster, size in zip(self.clusters.values(), sizes, strict=True):
            for number in range(1, size + 1):
                cluster.nodes.append(Node(self, cluster, number, size, len(self.nodes)))
                self.nodes.append(cluster.nodes[-1])
        self.failed: Violation | None = None
        self.unwritable: list[float] = []
        """When no node could write."""

    @property
    def now(self) -> float:
        """Return the time; it stands still after the end."""
        return self._loop.time()

    def faulty(self, kind: str, node: int | None = None) -> Fault | None:
        now = self._loop.time()
        for fault in self.faults:
            if fault.kind == kind and (node is None or node == fault.node) and fault.covers(now):
                return fault
        return None

    async def run(self, seconds: float) -> None:
        tasks = [asyncio.create_task(node.live()) for node in self.nodes]
        tasks += [asyncio.create_task(self._behead(f)) for f in self.faults if f.kind == "behead"]
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

    async def _behead(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        leader = self.nodes[fault.node].cluster.leader()
        if leader is not None:
            self.faults.append(Fault("freeze", leader.index, self.now, fault.lasts))

    def check(self) -> None:
        writers = [node for node in self.nodes if node.writes_in() is not None]
        if len({node.cluster.name for node in writers}) > 1:
            self.fail(f"{[(node.name, node.writes_in()) for node in writers]} may write at the same time")
        for node in writers:
            epoch = node.writes_in()
            sent = node.cluster.renewals.get(epoch or 0)
            if sent is None or self.now - sent >= DETECTION:
                self.fail(f"{node.name} writes in epoch {epoch} on a renewal sent at {sent}")
        if not writers:
            self.unwritable.append(self.now)

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
            renewals = node.cluster.renewals
            renewals[new.epoch] = max(sent, renewals.get(new.epoch, sent))
        return True

    def acknowledge(self, node: Node, epoch: int) -> None:
        """Note that a client was told that its write is done."""
        if self.epochs and (epoch, node.cluster.name) != max(self.epochs.items()):
            self.fail(f"{node.name} acknowledged a write in epoch {epoch}, the epochs are {self.epochs}")
        node.cluster.acknowledged.append(self.now)

    def _new_epoch(self, new: RoleRecord) -> None:
        if self.epochs.setdefault(new.epoch, new.cluster) != new.cluster:
            self.fail(f"epoch {new.epoch} was given twice")
        if self.epochs and new.epoch != max(self.epochs):
            self.fail(f"epoch {new.epoch} came after {max(self.epochs)}")
        for node in self.nodes:
            if node.writes_in() is not None:
                self.fail(f"{node.name} may still write in {node.writes_in()} while {new} is given")
