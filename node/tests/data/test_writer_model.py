# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The writer with concurrent callers, a fence that flips and commits that go wrong, against its invariants.

Every request writes a value of its own, so that the history tells which were carried out, and how often.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from support.bounds import model_runs
from support.engines import SqliteEngine
from support.faulty_store import FaultyStore
from support.fences import FakeFence, FakeWall

from grey.data import keyspace
from grey.data.errors import OutcomeUnknown, WriterStopped
from grey.data.fence import DeadlinePassed, WriteRefused
from grey.data.history import History
from grey.data.reader import Reader
from grey.data.writer import Operation, Writer, Written
from grey.record import HybridClock, Position, Stamp
from grey.record.envelope import decode
from grey.store.interface import DiskFull, Write

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    from support.engines import Engine

    from grey.record import Envelope

    T = TypeVar("T")

KEYS = [b"a", b"b", b"c", b"d"]


class Call(NamedTuple):
    """A request of a client: its operations, and its id when it has one."""

    operations: tuple[Operation, ...]
    request_id: str | None
    batch: bool


shapes = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "batch", "retry"]),
        st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True),
        st.booleans(),
        st.integers(0, 30),  # how far back the retried call is
    ),
    min_size=1,
    max_size=8,
)
fault_lists = st.lists(
    st.sampled_from(["none", "none", "full", "lost", "silent", "late", "overtaken"]), max_size=3
)
flip_lists = st.lists(st.sampled_from(["none", "expire", "lose and win again"]), max_size=3)


class WriterModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.engine = self.make_engine(Path(self.folder.name))
        self.store = FaultyStore(self.wait(self.engine.create()))
        self.history = History(self.store.real)
        self.fence = FakeFence(1)
        self.wall = FakeWall()
        self.wait(self.history.claim(1))
        self.number = 0
        self.past: list[Call] = []
        self.acknowledged: list[tuple[Call, list[Written]]] = []
        self.not_carried_out: list[Call] = []
        self.flipped: set[Position] = set()
        self.task: asyncio.Task[None] | None = None
        self.start()

    def make_engine(self, folder: Path) -> Engine:
        return SqliteEngine(folder)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(20):
                return await work

        return self.runner.run(bounded())

    def start(self) -> None:
        async def begin() -> None:
            self.writer = Writer(
                self.store, self.fence, cluster="here", clock=HybridClock(self.wall), max_waiting=100
            )
            # A turn that a late commit left behind is passed over at once.
            self.writer._turns._monotonic = lambda: 1000 * time.monotonic()
            self.task = asyncio.create_task(self.writer.run())

        self.wait(begin())

    def stop(self) -> None:
        async def end() -> None:
            assert self.task is not None
            self.task.cancel()
            await asyncio.wait([self.task])

        self.wait(end())

    def teardown(self) -> None:
        try:
            self.stop()
            self.wait(self.store.settle())
            # A commit that was under way when the writer stopped may still happen: let it.
            self.wait(self.store.real.commit([], [Write(b"z/barrier", b"")]))
            self.check(self.wait(self.whole_history()))
        finally:
            self.wait(self.engine.stop())
            self.runner.close()
            self.folder.cleanup()

    def make(self, shape: tuple[str, list[bytes], bool, int]) -> Call:
        verb, keys, with_id, choice = shape
        if verb == "retry" and self.past:
            return self.past[-1 - choice % len(self.past)]
        self.number += 1
        request_id = f"id-{self.number}" if with_id else None
        if verb == "delete":
            return Call((Operation(keys[0], None),), request_id, batch=False)
        value = b"%d" % self.number
        if verb == "batch":
            return Call(tuple(Operation(key, value) for key in keys), request_id, batch=True)
        return Call((Operation(keys[0], value),), request_id, batch=False)

    async def send(self, call: Call) -> list[Written]:
        first = call.operations[0]
        if call.batch:
            return await self.writer.batch(call.operations, call.request_id)
        if first.value is None:
            return [await self.writer.delete(first.key, call.request_id)]
        return [await self.writer.put(first.key, first.value, call.request_id)]

    def flip(self, kind: str) -> None:
        if kind == "none":
            return
        writes = self.store.commits[-1][1]
        records = [decode(w.value) for w in writes if w.value is not None and w.key.startswith(keyspace.DATA)]
        self.flipped.update(record.position for record in records)
        if kind == "expire":
            self.fence.refusal = DeadlinePassed
        else:
            self.fence.held += 1

    @rule(
        shapes=shapes,
        faults=fault_lists,
        flips=flip_lists,
        wall=st.integers(0, 2_000_000_000),
        healed=st.booleans(),
    )
    def clients(
        self,
        shapes: list[tuple[str, list[bytes], bool, int]],
        faults: list[str],
        flips: list[str],
        wall: int,
        healed: bool,
    ) -> None:
        """Several clients at once; the commits that they cause meet faults, and flips of the fence."""
        if healed:
            self.promoted()
        calls = [self.make(shape) for shape in shapes]
        # Only what has an id may be sent again: without one a client that does so asks for two writes.
        self.past += [call for call in calls if call.request_id is not None]
        self.wall.microseconds = wall
        self.store.faults.extend(faults)
        self.store.during.extend(lambda kind=kind: self.flip(kind) for kind in flips)

        async def all_at_once() -> list[list[Written] | BaseException]:
            return await asyncio.gather(*(self.send(call) for call in calls), return_exceptions=True)

        for call, outcome in zip(calls, self.wait(all_at_once()), strict=True):
            if isinstance(outcome, list):
                self.acknowledged.append((call, outcome))
            elif isinstance(outcome, (WriteRefused, DiskFull)):
                self.not_carried_out.append(call)
            elif not isinstance(outcome, OutcomeUnknown):
                raise outcome
        self.store.faults.clear()
        self.store.during.clear()

    @rule(key=st.sampled_from(KEYS), fault=st.sampled_from(["lost", "silent", "late", "overtaken"]))
    def retried(self, key: bytes, fault: str) -> None:
        """A client does not learn the outcome, and sends its request again."""
        put, again = [("put", [key], True, 0)], [("retry", [key], True, 0)]
        self.clients(shapes=put, faults=[fault], flips=[], wall=self.wall.microseconds, healed=True)
        self.clients(shapes=again, faults=[], flips=[], wall=self.wall.microseconds, healed=False)

    @rule(shapes=shapes)
    def stopped_in_the_middle(self, shapes: list[tuple[str, list[bytes], bool, int]]) -> None:
        calls = [self.make(shape) for shape in shapes if shape[0] != "retry"]
        self.past += [call for call in calls if call.request_id is not None]

        async def run() -> list[list[Written] | BaseException]:
            assert self.task is not None
            tasks = [asyncio.create_task(self.send(call)) for call in calls]
            for _ in range(4):
                await asyncio.sleep(0)
            self.task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        for call, outcome in zip(calls, self.wait(run()), strict=True):
            if isinstance(outcome, list):
                self.acknowledged.append((call, outcome))
            elif isinstance(outcome, (WriterStopped, WriteRefused)):
                self.not_carried_out.append(call)
            elif not isinstance(outcome, OutcomeUnknown):
                raise outcome
        self.start()

    @rule()
    def promoted(self) -> None:
        """The keeper claims the next epoch in the store and opens the fence, in this order."""
        epoch = max(self.fence.held, self.wait(self.history.epoch()) or 0) + 1
        self.wait(self.history.claim(epoch))
        self.fence.held = epoch
        self.fence.refusal = None

    @rule()
    def claimed_by_another_node(self) -> None:
        """The store moves on, and the fence here does not know it yet."""
        self.wait(self.history.claim((self.wait(self.history.epoch()) or 0) + 1))

    @rule()
    def refused(self) -> None:
        self.fence.refusal = DeadlinePassed

    async def whole_history(self) -> list[tuple[int, list[Envelope]]]:
        """Return the store's epoch and the records of each transaction."""
        found: list[tuple[int, list[Envelope]]] = []
        epoch = 0
        newest = (await self.store.real.status()).revision
        async with aclosing(self.store.real.watch(b"", None, after=0)) as watch:
            async for changes in watch:
                values = {change.key: change.value for change in changes}
                epoch = int(values.get(keyspace.EPOCH) or epoch)
                records = [
                    decode(value)
                    for key, value in values.items()
                    if value is not None and key.startswith(keyspace.DATA)
                ]
                if records:
                    assert values[keyspace.POSITION] == str(max(r.position for r in records)).encode()
                found.append((epoch, sorted(records, key=lambda record: record.position)))
                if changes[0].revision == newest:
                    return found
        raise AssertionError("a watch ended by itself")

    def check(self, history: list[tuple[int, list[Envelope]]]) -> None:
        records = [record for _, transaction in history for record in transaction]
        by_position = {record.position: record for record in records}
        # Positions have no gap and no repeat, and each record is of the epoch that the store was in.
        assert [record.position.sequence for record in records] == list(range(1, len(records) + 1))
        assert all(r.position.epoch == epoch for epoch, transaction in history for r in transaction)
        # Every acknowledged write is stored, at the position that was answered.
        for call, answers in self.acknowledged:
            for operation, written in zip(call.operations, answers, strict=True):
                if written.position is None:
                    assert operation.value is None
                    continue
                assert written.position in by_position
                record = by_position[written.position]
                assert (record.key, record.value, record.stamp) == (
                    operation.key,
                    operation.value,
                    written.stamp,
                )
        # A request is carried out at most once; one that was only ever refused, never.
        done: dict[tuple[bytes, bytes], int] = {}
        ids: dict[str, set[Position]] = {}
        stamps = Stamp(0, 0)
        for record in records:
            if record.value is not None:
                done[record.key, record.value] = done.get((record.key, record.value), 0) + 1
            if record.request is not None:
                position = Position(record.position.epoch, record.position.sequence - record.request.index)
                ids.setdefault(record.request.id, set()).add(position)
            assert record.stamp >= stamps
            stamps = record.stamp
        assert all(count == 1 for count in done.values())
        assert all(len(firsts) == 1 for firsts in ids.values())
        for call in self.not_carried_out:
            if call.request_id is None and call.operations[0].value is not None:
                assert (call.operations[0].key, call.operations[0].value) not in done
        # Nothing is acknowledged from a transaction during which the fence changed.
        for _, answers in self.acknowledged:
            assert all(written.replayed or written.position not in self.flipped for written in answers)
        self.check_reads(records)

    def check_reads(self, records: list[Envelope]) -> None:
        reader = Reader(self.store.real)
        newest = {record.key: record for record in records}
        for key in KEYS:
            record = newest.get(key)
            expected = None if record is None or record.deleted else record
            assert self.wait(reader.get(key)) == expected


TestWriterModel = WriterModel.TestCase
TestWriterModel.settings = settings(
    max_examples=model_runs(60), stateful_step_count=12, deadline=None, database=None
)
