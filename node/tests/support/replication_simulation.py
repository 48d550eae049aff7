# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A federation of three clusters in virtual time that runs the shipping writer, source and follower.

``simulate(seed, actions)`` is deterministic: the same arguments give the same run.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from support.replication_node import INTERVAL, Node
from support.replication_oracle import MOST_AHEAD, WALL, Oracle, Violation
from support.virtual_time import VirtualLoop

from grey.data import keyspace
from grey.data.conditions import Absent, At
from grey.data.errors import DataError
from grey.data.fence import WriteRefused
from grey.data.requests import Operation
from grey.federation.interface import RoleRecord
from grey.record.envelope import decode
from grey.store.interface import StoreError, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from support.replication_network import Link, Process

    from grey.data.writer import Writer, Written

CLUSTERS = ("alpha", "beta", "gamma")
KINDS = (
    "wait", "burst", "kill", "cut", "silence", "partition", "lose", "double", "compact", "wipe", "full",
    "uncertain", "fence", "switch", "purge", "clock",
)  # fmt: skip
CONVERGE_SECONDS = 300.0


class Action(NamedTuple):
    """``cluster`` is an index, ``number`` is 0 to 20 and means what the kind makes of it."""

    kind: str
    cluster: int
    number: int


class Result(NamedTuple):
    """What a run saw: records written, states compared, full copies and connections of followers.

    ``expired`` keys were deleted since their time was over, ``demands`` conditions were met.
    """

    records: int
    states: int
    copies: int
    connections: int
    expired: int
    demands: int


class World:
    """Everything that there is in a simulation."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.rng = random.Random(seed)
        self.loop = loop
        self.oracle = Oracle(lambda: WALL + loop.time())
        self.role = RoleRecord(CLUSTERS[0], 1, 1, "node")
        self.fence_up = True
        self.writing = True
        self.links: list[Link] = []
        self.failure: asyncio.Future[None] = loop.create_future()
        self.nodes = {cluster: Node(self, cluster) for cluster in CLUSTERS}
        self._later: list[asyncio.Task[None]] = []
        self._requests = 0

    @property
    def primary(self) -> Node:
        """The node of the cluster that holds the role."""
        return self.nodes[self.role.cluster]

    async def guard(self, process: Process, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a part of a process; its exception fails the simulation."""
        try:
            await part()
        except Exception as error:  # noqa: BLE001
            if process.alive and not self.failure.done():
                self.failure.set_exception(error)

    async def run(self, actions: Sequence[Action]) -> Result:
        """Do all actions, then let everything heal and converge."""
        for node in self.nodes.values():
            node.start()
        background = [asyncio.create_task(self._clients()), asyncio.create_task(self._check_lag())]
        story = asyncio.create_task(self._story(actions))
        everything = [story, *background]
        try:
            await asyncio.wait([*everything, self.failure], return_when=asyncio.FIRST_COMPLETED)
            for task in [self.failure, *everything]:
                if task.done():
                    task.result()
        finally:
            for task in [*everything, *self._later]:
                task.cancel()
            for node in self.nodes.values():
                node.process.kill()
        nodes = self.nodes.values()
        return Result(
            self.oracle.head.sequence,
            self.oracle.states_checked,
            sum(node.follower.copies for node in nodes),
            sum(node.follower.connections for node in nodes),
            self.oracle.expired,
            self.oracle.demands_met,
        )

    async def _story(self, actions: Sequence[Action]) -> None:
        for action in actions:
            await asyncio.sleep(self.rng.random() * 0.5)
            await getattr(self, "_do_" + action.kind)(self.nodes[CLUSTERS[action.cluster]], action.number)
        await asyncio.sleep(2.0)
        self.writing = False
        for task in self._later:
            await task
        for node in self.nodes.values():
            node.process.fuse = None
            node.faults.uncertain = 0
            if not node.process.alive:
                node.start()
        for link in self.links:
            link.lose = link.double = 0
        await self._converge()
        # Whatever expires while the sweep is slow to come is gone everywhere soon.
        await asyncio.sleep(5.0)
        await self._converge()
        self.oracle.check_converged(self.role.cluster)
        self.oracle.check_expired(self.loop.time() - 5.0)

    async def _converge(self) -> None:
        until = self.loop.time() + CONVERGE_SECONDS
        while not all(self._settled(node) for node in self.nodes.values()):
            for node in self.nodes.values():
                if "then start it empty" in (node.follower.problem() or ""):
                    # what the message tells the operator to do
                    await self._do_wipe(node, 0)
            if self.loop.time() > until:
                states = {
                    node.cluster: (str(self.oracle.cursor(node.cluster)), node.follower.problem(),
                                   node.follower.lag_seconds(), node.follower.lag_records())
                    for node in self.nodes.values()
                }  # fmt: skip
                raise Violation(f"no convergence to {self.oracle.head} of {self.role}: {states}")
            await asyncio.sleep(0.5)

    def _settled(self, node: Node) -> bool:
        if node is self.primary:
            return node.view.is_primary()
        lag = node.follower.lag_seconds()
        caught_up = self.oracle.cursor(node.cluster) == self.oracle.head and node.follower.consistent()
        known = lag is not None and lag < 3 * INTERVAL + 1.0 and node.follower.lag_records() == 0
        return caught_up and known and node.follower.problem() is None

    async def _clients(self) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(8.0))
            if self.writing:
                self._later = [task for task in self._later if not task.done()]
                self._later.append(asyncio.create_task(self._write()))

    async def _write(self) -> None:
        """Do one request of a client, and note what was acknowledged and when."""
        writer = self.primary.writer
        key = b"key:%d" % self.rng.randrange(8)
        self._requests += 1
        request = f"request-{self._requests}" if self.rng.random() < 0.3 else None
        value = b"%d" % self._requests
        dice = self.rng.random()
        try:
            async with asyncio.timeout(1.0):
                if dice < 0.25:
                    group = b"group:%d:" % self.rng.randrange(2)
                    operations = [
                        Operation(group + b"%d" % n, None if dice < 0.08 else value) for n in range(3)
                    ]
                    done = await writer.batch(operations, request)
                elif dice < 0.5:
                    done = [await writer.delete(key, request)]
                elif dice < 0.75:
                    done = [await writer.put(key, value, request)]
                else:
                    done = [await self._put_for_a_while(writer, value, request)]
        except (WriteRefused, DataError, StoreError, TimeoutError):
            return
        for written in done:
            if written.position is not None:
                self.oracle.acknowledge(written.position, self.loop.time())

    async def _put_for_a_while(self, writer: Writer, value: bytes, request: str | None) -> Written:
        """Put a key that only expires, and that is never deleted, with a time to live and a condition."""
        key = b"ttl:%d" % self.rng.randrange(6)
        ttl = self.rng.choice([None, 0.3, 1.0, 3.0, 40.0])
        held = self.oracle.held(self.role.cluster, key)
        condition = self.rng.choice([None, Absent(), None if held is None else At(held.position)])
        self.oracle.demand(value, condition)
        return await writer.put(key, value, request, ttl_seconds=ttl, condition=condition)

    async def _check_lag(self) -> None:
        """Hold the lag that followers tell against the truth."""
        while True:
            await asyncio.sleep(0.1)
            for node in self.nodes.values():
                if not node.process.alive or node is self.primary:
                    continue
                if node.follower.consistent() and not self.oracle.consistent(node.cluster):
                    raise Violation(f"{node.cluster} says that it is consistent in the middle of a full copy")
                lag = node.follower.lag_seconds()
                if lag is None:
                    continue
                truth = self.oracle.true_staleness(node.cluster, self.loop.time())
                if lag < truth - 1e-9:
                    raise Violation(f"{node.cluster} says its lag is {lag:.3f} s, it is {truth:.3f} s")

    def _after(self, seconds: float, what: Any) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            what()

        self._later.append(asyncio.create_task(later()))

    def _restart(self, node: Node) -> None:
        if not node.process.alive:
            node.start()

    async def _do_wait(self, _node: Node, number: int) -> None:
        await asyncio.sleep(number * 0.2)

    async def _do_burst(self, _node: Node, number: int) -> None:
        for _ in range(number * 2):
            self._later.append(asyncio.create_task(self._write()))

    async def _do_kill(self, node: Node, number: int) -> None:
        node.process.fuse = number * 3
        if number == 0:
            node.process.kill()
        self._after(1.0 + self.rng.random() * 2, lambda: self._restart(node))

    async def _do_cut(self, _node: Node, _number: int) -> None:
        for link in self.links:
            link.close()
        self.links.clear()

    async def _do_silence(self, _node: Node, _number: int) -> None:
        for link in self.links:
            link.silent = True
        self.links.clear()

    async def _do_partition(self, node: Node, number: int) -> None:
        def heal() -> None:
            node.partitioned = False

        node.partitioned = True
        await self._do_silence(node, 0)
        self._after(number * 0.3, heal)

    async def _do_lose(self, _node: Node, _number: int) -> None:
        for link in self.links:
            link.lose = 1

    async def _do_double(self, _node: Node, _number: int) -> None:
        for link in self.links:
            link.double = 1

    async def _do_compact(self, node: Node, number: int) -> None:
        target = self.primary if number % 3 else node
        await target.store.compact(max(0, (await target.store.status()).revision - number // 4))

    async def _do_wipe(self, node: Node, _number: int) -> None:
        if node is self.primary:
            return
        node.process.kill()
        node.renew_store()
        node.start()

    async def _do_full(self, node: Node, number: int) -> None:
        def heal() -> None:
            node.faults.full = False

        node.faults.full = True
        self._after(number * 0.2, heal)

    async def _do_uncertain(self, node: Node, _number: int) -> None:
        node.faults.uncertain = 1

    async def _do_fence(self, _node: Node, number: int) -> None:
        def heal() -> None:
            self.fence_up = True

        self.fence_up = False
        self._after(number * 0.1, heal)

    async def _do_switch(self, node: Node, _number: int) -> None:
        """Move the role without loss: the old primary stands still, the new one has everything."""
        old = self.primary
        self.writing = False
        for _ in range(30):
            same = self.oracle.cursor(node.cluster) == self.oracle.head
            if node is not old and same and self.oracle.consistent(node.cluster):
                old.process.kill()
                self.role = RoleRecord(node.cluster, self.role.epoch + 1, 1, "node")
                self._after(self.rng.random(), lambda: self._restart(old))
                break
            await asyncio.sleep(0.1)
        self.writing = True

    async def _do_purge(self, _node: Node, _number: int) -> None:
        """Remove the tombstones of the primary, as a later housekeeping may."""
        store = self.primary.store
        items = store.items(keyspace.DATA, keyspace.DATA_END)
        gone = [Write(key, None) for key, value in items.items() if decode(value).deleted]
        if gone:
            await store.commit([], gone)

    async def _do_clock(self, node: Node, number: int) -> None:
        def heal() -> None:
            node.clock_ahead = 0.0

        node.clock_ahead = number * MOST_AHEAD / 20
        self._after(2.0, heal)


def simulate(seed: int, actions: Sequence[Action]) -> Result:
    """Run one schedule; raises Violation or whatever a part of a node raised."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)

        async def main() -> Result:
            return await World(seed, loop).run(actions)

        return runner.run(main())


def random_actions(seed: int, count: int = 12) -> list[Action]:
    """Return a schedule that follows from a seed."""
    rng = random.Random(f"schedule {seed}")
    return [Action(rng.choice(KINDS), rng.randrange(3), rng.randrange(21)) for _ in range(count)]
