# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions, times to live, listings and watches together, against a simple model, in virtual time.

Everything of the data room runs as it does in greyd: writer, memory, expiry, housekeeping. The model holds
the log of the records that the store was given, and knows for each whether somebody may have written it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from support.bounds import model_runs
from support.fences import FakeFence
from support.memory_store import MemoryStore
from support.virtual_time import VirtualLoop

from grey.data import keyspace
from grey.data.conditions import Absent, At
from grey.data.errors import ConditionFailed
from grey.data.expiry import Expiry
from grey.data.feed import Batch, Feed
from grey.data.fence import NotPrimary, WriteRefused
from grey.data.history import History
from grey.data.housekeeping import Housekeeping
from grey.data.mirror import Mirror
from grey.data.reader import Reader
from grey.data.writer import Operation, Writer, Written
from grey.record import HybridClock, Position, SteadyClock
from grey.record.envelope import decode
from grey.record.position import ORIGIN
from grey.store.interface import Compacted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence
    from typing import Any, TypeVar

    from grey.data.conditions import Condition
    from grey.data.reader import Listing
    from grey.record import Envelope
    from grey.store.interface import Change, Write

    T = TypeVar("T")

START = 1_700_000_000_000_000
KEYS = [b"a1", b"a2", b"b1", b"b2", b"b3"]
PREFIX = b"b"
KEEP_SECONDS = 15.0
SLACK_SECONDS = 2.0
"""Within so much a record that has expired is deleted while this is the primary."""

keys = st.sampled_from(KEYS)
ttls = st.sampled_from([None, None, 1.0, 3.0, 10.0, 50.0])
demands = st.sampled_from(["nothing", "nothing", "absent", "present", "stale"])
asks = st.lists(
    st.tuples(st.sampled_from(["put", "put", "delete"]), keys, ttls, demands),
    min_size=1,
    max_size=6,
)


class Fact(NamedTuple):
    """A record as the store was given it, and when that was."""

    envelope: Envelope
    now: int


class Walk(NamedTuple):
    """A listing that is under way: its first page, and what it gave so far."""

    first: Listing
    found: dict[bytes, bytes | None]
    begun: float
    next: bytes | None


class Lagging:
    """A store whose watch brings everything a little later than the writer is answered."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def watch(self, start: bytes, end: bytes | None, *, after: int) -> AsyncIterator[list[Change]]:
        async for changes in self._store.watch(start, end, after=after):
            await asyncio.sleep(0.03)
            yield changes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class DataModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.loop = self.runner.get_loop()
        self.store = MemoryStore(page_items=4)
        self.store.committed = self.note
        self.fence = FakeFence(1)
        self.log: list[Fact] = []
        self.explained: set[Position] = set()
        self.number = 0
        self.walk: Walk | None = None
        self.seen: list[Position] = []
        self.after: Position = ORIGIN
        self.events_left = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.wait(self.begin())
        self.a_batch([("put", key, None, "nothing") for key in KEYS])

    def now(self) -> int:
        return START + int(self.loop.time() * 1e6)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(100_000):
                return await work

        return self.runner.run(bounded())

    def primary(self) -> bool:
        return self.fence.refusal is None

    async def begin(self) -> None:
        """Start a process on the store."""
        steady = SteadyClock(self.now, self.now)
        history = History(self.store)
        await history.claim(1)
        mirror = Mirror(Lagging(self.store))  # type: ignore[arg-type]
        self.writer = Writer(
            self.store,
            self.fence,
            cluster="here",
            clock=HybridClock(self.now),
            now=steady.now,
            mirror=mirror,
        )
        self.reader = Reader(
            self.store,
            history=history,
            mirror=mirror,
            now=lambda: steady.now() if self.primary() else None,
        )
        self.feed = Feed(self.store, history)
        expiry = Expiry(self.store, self.fence, self.writer, now=steady.now)
        housekeeping = Housekeeping(
            self.store,
            history,
            confirmed=lambda: None,
            keep_revisions=0,
            keep_seconds=KEEP_SECONDS,
            monotonic=self.loop.time,
        )
        rooms = (self.writer, mirror, expiry, housekeeping)
        self.tasks = [asyncio.create_task(room.run()) for room in rooms]
        self.tasks.append(asyncio.create_task(self.follow()))

    async def end(self) -> None:
        for task in self.tasks:
            assert not task.done(), task
            task.cancel()
        await asyncio.wait(self.tasks)

    async def follow(self) -> None:
        """Be a client that watches; it goes on from the last event that it handled, progress included."""
        while True:
            async with aclosing(self.feed.watch(PREFIX, self.after)) as watch:  # type: ignore[type-var]
                async for batch in watch:
                    if not self.handle(batch):
                        break

    def handle(self, batch: Batch) -> bool:
        """Take the events of a batch; say False when the connection breaks among them."""
        for envelope in batch.envelopes:
            assert envelope.position <= batch.position
            self.seen.append(envelope.position)
            self.after = envelope.position
            self.events_left -= 1
            if self.events_left == 0:
                return False
        self.after = batch.position
        return True

    def note(self, _revision: int, writes: Sequence[Write]) -> None:
        found = [decode(w.value) for w in writes if w.value is not None and w.key.startswith(keyspace.DATA)]
        for envelope in sorted(found, key=lambda record: record.position):
            assert envelope.position.sequence == len(self.log) + 1
            before = self.current(envelope.key)
            expires = None if before is None else before.expires
            if envelope.deleted and expires is not None and expires <= self.now():
                self.explained.add(envelope.position)
            self.log.append(Fact(envelope, self.now()))

    def state(self, upto: int | None = None) -> dict[bytes, Envelope]:
        """Return the records that are not deletions, as of so many of the log."""
        newest = {fact.envelope.key: fact.envelope for fact in self.log[:upto]}
        return {key: envelope for key, envelope in newest.items() if not envelope.deleted}

    def current(self, key: bytes) -> Envelope | None:
        return self.state().get(key)

    def shown(self, envelope: Envelope | None) -> bool:
        if envelope is None:
            return False
        return not self.primary() or envelope.expires is None or envelope.expires > self.now()

    def demanded(self, kind: str, key: bytes) -> Condition | None:
        here = self.current(key)
        if kind == "absent":
            return Absent()
        if kind == "present":
            return At(Position(1, 10**6) if here is None else here.position)
        if kind == "stale":
            return At(Position(1, max(1, len(self.log) // 2)))
        return None

    def operation(self, ask: tuple[str, bytes, float | None, str]) -> Operation:
        verb, key, ttl, kind = ask
        self.number += 1
        condition = self.demanded(kind, key)
        if verb == "delete":
            return Operation(key, None, None, condition if isinstance(condition, At) else None)
        return Operation(key, b"%d" % self.number, ttl, condition)

    def call(self, operation: Operation) -> Coroutine[Any, Any, Written]:
        if operation.value is None:
            condition = operation.condition
            assert condition is None or isinstance(condition, At)
            return self.writer.delete(operation.key, condition=condition)
        return self.writer.put(
            operation.key, operation.value, ttl_seconds=operation.ttl_seconds, condition=operation.condition
        )

    def wanted(self, operation: Operation) -> tuple[str, Position | None]:
        """Return what must come of an operation right now: its end, and the position that was found."""
        here = self.current(operation.key)
        position = here.position if here is not None and self.shown(here) else None
        condition = operation.condition
        if isinstance(condition, Absent) and position is not None:
            return "refused", position
        if isinstance(condition, At) and position != condition.position:
            return "refused", position
        if operation.value is None and position is None:
            return "nothing", None
        return "done", None

    def check_done(self, operation: Operation, written: Written) -> None:
        """The record is in the log where it was said to be, with the end that it was given."""
        assert written.position is not None
        envelope, now = self.log[written.position.sequence - 1]
        assert (envelope.key, envelope.value) == (operation.key, operation.value)
        ttl = operation.ttl_seconds
        if ttl is None:
            assert envelope.expires is None
        else:
            assert envelope.expires is not None
            assert abs(envelope.expires - now - ttl * 1e6) < 10_000
        self.explained.add(written.position)

    @rule(ask=asks.map(lambda each: each[0]))
    def one_write(self, ask: tuple[str, bytes, float | None, str]) -> None:
        if not self.primary():
            return
        operation = self.operation(ask)

        async def run() -> Written | ConditionFailed:
            try:
                return await self.call(operation)
            except ConditionFailed as failed:
                return failed

        end, position = self.wanted(operation)
        outcome = self.wait(run())
        if isinstance(outcome, ConditionFailed):
            assert (end, position) == ("refused", outcome.found)
            assert outcome.key == operation.key
        elif end == "nothing":
            assert not outcome.existed
        else:
            assert end == "done"
            self.check_done(operation, outcome)
            self.read(operation.key, serializable=True)

    @rule(many=asks)
    def a_batch(self, many: list[tuple[str, bytes, float | None, str]]) -> None:
        operations = list({op.key: op for op in map(self.operation, many)}.values())
        if not self.primary():
            return
        ends = [self.wanted(op) for op in operations]
        refused = [
            (op.key, found) for op, (end, found) in zip(operations, ends, strict=True) if end == "refused"
        ]
        before = len(self.log)
        try:
            done = self.wait(self.writer.batch(operations))
        except ConditionFailed as failed:
            assert (failed.key, failed.found) == refused[0]
            assert all(fact.envelope.position in self.explained for fact in self.log[before:])
        else:
            assert not refused
            for operation, written in zip(operations, done, strict=True):
                self.check_done(operation, written)

    @rule(many=asks)
    def at_once(self, many: list[tuple[str, bytes, float | None, str]]) -> None:
        """Several clients: whatever the order was, each outcome fits the moment at which it happened."""
        if not self.primary():
            return
        operations = [self.operation(each) for each in many]
        before = len(self.log)

        async def run() -> list[Written | BaseException]:
            return await asyncio.gather(*map(self.call, operations), return_exceptions=True)

        for operation, outcome in zip(operations, self.wait(run()), strict=True):
            if isinstance(outcome, ConditionFailed):
                places = range(before, len(self.log) + 1)
                states = [self.state(upto).get(operation.key) for upto in places]
                assert outcome.found in {None if e is None else e.position for e in states} | {None}
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome.position is None:
                continue
            self.check_done(operation, outcome)
            there = self.state(outcome.position.sequence - 1).get(operation.key)
            gone = there is None or (there.expires is not None and there.expires <= self.now())
            if isinstance(operation.condition, Absent):
                assert gone
            elif operation.condition is not None:
                assert there is not None
                assert there.position == operation.condition.position

    @rule(seconds=st.sampled_from([0.1, 1.0, 1.0, 4.0, 12.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.wait(asyncio.sleep(seconds))
        if not self.primary() or seconds < 2 * SLACK_SECONDS:
            return
        for envelope in self.state().values():
            late = self.now() - SLACK_SECONDS * 1e6
            assert envelope.expires is None or envelope.expires > late

    @rule(key=keys, then=asks.map(lambda each: each[0]), serializable=st.booleans())
    def is_met_when_its_time_is_just_over(
        self, key: bytes, then: tuple[str, bytes, float | None, str], serializable: bool
    ) -> None:
        self.one_write(("put", key, 1.0, "nothing"))
        self.wait(asyncio.sleep(1.01))
        self.read(key, serializable)
        self.one_write((then[0], key, *then[2:]))

    @rule(key=keys, serializable=st.booleans())
    def read(self, key: bytes, serializable: bool) -> None:
        found = self.wait(self.reader.get(key, serializable=serializable))
        here = self.current(key)
        assert found == (here if self.shown(here) else None)

    @rule(limit=st.integers(1, 3))
    def walk_begins(self, limit: int) -> None:
        first = self.wait(self.reader.list(b"", limit=limit, after=None))
        assert first.position.sequence == len(self.log)
        found = {each.key: each.value for each in first.envelopes}
        self.walk = Walk(first, found, self.loop.time(), first.next)

    @rule(limit=st.integers(1, 3), ask=asks.map(lambda each: each[0]))
    def walk_goes_on(self, limit: int, ask: tuple[str, bytes, float | None, str]) -> None:
        self.one_write(ask)
        walk = self.walk
        if walk is None:
            return
        if walk.next is None:
            self.check_walk(walk)
            self.walk = None
            return
        try:
            page = self.wait(self.reader.list(b"", limit=limit, after=walk.next, at=walk.first.position))
        except Compacted:
            assert self.loop.time() - walk.begun > KEEP_SECONDS
            self.walk = None
            return
        assert page.position == walk.first.position
        found = walk.found | {each.key: each.value for each in page.envelopes}
        self.walk = Walk(walk.first, found, walk.begun, page.next)

    def check_walk(self, walk: Walk) -> None:
        """It gave the state of its position, but for keys that expired on the way."""
        state = self.state(walk.first.position.sequence)
        for key, value in walk.found.items():
            assert state[key].value == value
        for key, envelope in state.items():
            assert key in walk.found or (envelope.expires is not None and envelope.expires <= self.now())

    @rule(events=st.integers(1, 4))
    def the_watch_will_be_cut(self, events: int) -> None:
        assert not self.tasks[-1].done(), self.tasks[-1]
        self.events_left = events

    @rule()
    def the_watch_is_cut_within_a_transaction(self) -> None:
        if not self.primary():
            return
        self.wait(asyncio.sleep(1.0))  # it has told what was before
        self.events_left = 1
        self.a_batch([("put", key, None, "nothing") for key in KEYS])

    @rule()
    def restarts(self) -> None:
        async def again() -> None:
            await self.end()
            await self.begin()

        self.wait(again())

    @rule(back=st.booleans())
    def loses_or_wins_the_role(self, back: bool) -> None:
        self.fence.refusal = None if back else lambda: NotPrimary("elsewhere")
        if back:
            return
        with_role = len(self.log)
        try:
            self.wait(self.writer.put(b"a1", b"never"))
        except WriteRefused:
            assert len(self.log) == with_role
        else:
            raise AssertionError("a replica took a write")

    def teardown(self) -> None:
        try:
            self.fence.refusal = None
            self.time_passes(5.0)
            for key in KEYS:
                self.read(key, serializable=True)
            self.wait(self.end())
            # Every record was asked for, or deletes what had expired.
            assert {fact.envelope.position for fact in self.log} == self.explained
            # The watch told every change of its keys once and in order.
            wanted = [e.position for e, _ in self.log if e.key.startswith(PREFIX)]
            assert self.seen == wanted
        finally:
            for task in self.tasks:
                if task.done() and not task.cancelled():
                    task.exception()  # so that nobody is told of it once more, at some later time
            self.runner.close()


TestDataModel = pytest.mark.usefixtures("quiet")(DataModel.TestCase)
TestDataModel.settings = settings(
    max_examples=model_runs(40), stateful_step_count=20, deadline=None, database=None
)
