# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a follower makes of what a source says, in virtual time; the test plays the source."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from support.envelopes import envelope, write
from support.memory_store import MemoryStore
from support.pipe import FixedRole, PipeEnd, pipe
from support.virtual_time import run_virtual

from grey.data import keyspace
from grey.data.history import History, Provenance
from grey.record import Envelope, HybridClock, Position
from grey.record.envelope import encode
from grey.replicate import wire
from grey.replicate.channel import Channel, ChannelClosed
from grey.replicate.follower import STOPPED_SECONDS, Follower
from grey.store.interface import StoreDamaged, Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Fixture:
    """A follower of the cluster gcp; ``links`` are the source's ends of its connections, in order."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.role = FixedRole("gcp")
        self.links: asyncio.Queue[PipeEnd] = asyncio.Queue()
        self.asked: list[tuple[str, Position]] = []
        self.pages: dict[bytes | None, wire.SnapshotPage] = {}
        self.reachable = True
        self.follower = Follower(
            self.store, self.role, cluster="gcp", connect=self.connect, fetch_page=self.fetch_page,
            interval_seconds=0.1, clock=HybridClock(lambda: 0), max_clock_offset_seconds=0.5,
            monotonic=self.time, wall=lambda: 1000.0, jitter=lambda: 1.0,
        )  # fmt: skip
        self.task = asyncio.create_task(self.follower.run())

    @staticmethod
    def time() -> float:
        return asyncio.get_running_loop().time()

    @asynccontextmanager
    async def connect(self, cluster: str, position: Position, /) -> AsyncIterator[Channel]:
        self.asked.append((cluster, position))
        if not self.reachable:
            raise ChannelClosed("nobody answers")
        mine, its = pipe()
        self.links.put_nowait(its)
        try:
            yield mine
        finally:
            await mine.close()

    async def fetch_page(self, cluster: str, after: bytes | None, /) -> wire.SnapshotPage:
        await asyncio.sleep(0.01)
        if after not in self.pages:
            raise ChannelClosed("no such page")
        return self.pages[after]

    async def accept(self, head: int = 0, epoch: int = 1, cluster: str = "aws") -> Source:
        """Take the next connection and welcome it."""
        source = await self.greeted()
        await source.say(wire.Welcome(1, cluster, epoch, Position(epoch if head else 0, head)))
        return source

    async def greeted(self) -> Source:
        source = Source(await self.links.get())
        source.hello = wire.decode_from_follower(await source.end.receive())
        return source

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


class Source:
    """The source's end of one connection."""

    hello: wire.FromFollower

    def __init__(self, end: PipeEnd) -> None:
        self.end = end

    async def say(self, message: wire.FromSource) -> None:
        await self.end.send(wire.encode(message))

    async def ship(self, *envelopes: Envelope) -> None:
        """Ship each record as a transaction of its own."""
        head = envelopes[-1].position
        await self.say(wire.Records([[encode(each)] for each in envelopes], head))

    async def next(self, kind: type[wire.Probe | wire.Confirm]) -> wire.FromFollower:
        """Return the next message of a kind."""
        while True:
            message = wire.decode_from_follower(await self.end.receive())
            if isinstance(message, kind):
                return message

    async def answer(self, head: Position, *, fenced: bool = True, shipped: Position | None = None) -> None:
        probe = await self.next(wire.Probe)
        assert isinstance(probe, wire.Probe)
        await self.say(wire.Answer(probe.nonce, head, fenced, head if shipped is None else shipped))


def provenance(record: Envelope) -> Provenance:
    return Provenance(record.stamp, record.origin)


def virtual(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test in virtual time."""

    def run() -> None:
        async def main() -> None:
            await test()

        run_virtual(main())

    run.__name__ = test.__name__
    return run


@virtual
async def test_it_follows_applies_and_confirms() -> None:
    it = Fixture()
    assert it.follower.lag_seconds() is None
    source = await it.accept()
    assert source.hello == wire.Hello(1, "gcp", Position(0, 0))
    await source.ship(envelope(1, b"a"), envelope(2, b"b"))
    assert await source.next(wire.Confirm) == wire.Confirm(Position(1, 2))
    assert it.store.value(keyspace.POSITION) == b"1.2"
    assert it.store.value(keyspace.EPOCH) == b"1"
    assert (it.follower.records_applied, it.follower.batches_applied, it.follower.connections) == (2, 1, 1)
    assert it.follower.source_cluster() == "aws"
    assert it.follower.problem() is None
    assert it.follower.consistent()


@virtual
async def test_lag_counts_from_the_probe_whose_head_is_here() -> None:
    it = Fixture()
    source = await it.accept()
    probe = await source.next(wire.Probe)
    assert isinstance(probe, wire.Probe)
    sent = it.time()
    await asyncio.sleep(1)
    await source.say(wire.Answer(probe.nonce, Position(1, 1), True, Position(0, 0)))
    await asyncio.sleep(1)
    assert it.follower.lag_seconds() is None
    assert it.follower.lag_records() == 1
    await source.ship(envelope(1))
    await asyncio.sleep(1)
    assert it.follower.lag_seconds() == pytest.approx(it.time() - sent)
    assert it.follower.lag_records() == 0
    await source.end.close()
    await asyncio.sleep(1)
    assert it.follower.lag_seconds() == pytest.approx(it.time() - sent)


@virtual
async def test_an_answer_without_a_fence_leaves_the_lag_unknown() -> None:
    it = Fixture()
    source = await it.accept()
    await source.answer(Position(0, 0), fenced=False)
    await asyncio.sleep(0.5)
    assert it.follower.lag_seconds() is None


@virtual
async def test_a_hole_drops_the_connection_and_is_asked_for_again() -> None:
    it = Fixture()
    source = await it.accept()
    await source.ship(envelope(1), envelope(3, b"b"))
    source = await it.accept(head=3)
    assert source.hello == wire.Hello(1, "gcp", Position(0, 0))
    assert it.store.items(b"k/", b"k0") == {}
    assert it.follower.last_error == (
        "following aws: wanted the record after 1.1, found 1.3: some are missing"
    )


@virtual
async def test_a_lost_end_is_noticed_while_nothing_is_written() -> None:
    it = Fixture()
    source = await it.accept()
    await source.ship(envelope(1))
    await source.answer(Position(1, 2), shipped=Position(1, 2))
    source = await it.accept(head=2)
    assert source.hello == wire.Hello(1, "gcp", Position(1, 1), provenance(envelope(1)))
    assert it.follower.last_error == "following aws: 1.2 was sent, 1.1 is the last that came"


@virtual
async def test_records_that_come_twice_are_applied_once() -> None:
    it = Fixture()
    source = await it.accept()
    for records in ((envelope(1), envelope(2)), (envelope(1), envelope(2)), (envelope(2), envelope(3))):
        await source.ship(*records)
        await source.next(wire.Confirm)
    assert it.follower.records_applied == 3
    assert it.store.value(keyspace.POSITION) == b"1.3"


@virtual
async def test_a_restart_goes_on_from_the_durable_cursor() -> None:
    first = Fixture()
    source = await first.accept()
    await source.ship(envelope(1))
    await source.next(wire.Confirm)
    first.task.cancel()
    second = Fixture(first.store)
    assert not second.follower.consistent()
    source = await second.accept(head=1)
    assert source.hello == wire.Hello(1, "gcp", Position(1, 1), provenance(envelope(1)))
    assert second.follower.consistent()
    assert second.follower.lag_seconds() is None


@virtual
async def test_the_hello_proves_the_last_record_while_the_history_has_it() -> None:
    it = Fixture()
    source = await it.accept()
    await source.ship(envelope(1, b"a"), envelope(2, b"b", None), envelope(3, b"c"))
    await source.next(wire.Confirm)
    await History(it.store).claim(2)  # later transactions than that of the record change nothing
    it.role.record = FixedRole("gcp", "azure", 2).record
    source = await it.accept(head=3, epoch=2, cluster="azure")
    assert source.hello == wire.Hello(1, "gcp", Position(1, 3), provenance(envelope(3)))
    await it.store.compact((await it.store.status()).revision)
    await source.end.close()
    source = await it.accept(head=3, epoch=2, cluster="azure")
    assert source.hello == wire.Hello(1, "gcp", Position(1, 3))


@virtual
async def test_reconnects_back_off_and_start_anew_after_progress() -> None:
    it = Fixture()
    it.reachable = False
    moments: list[float] = []
    for _ in range(9):
        count = len(it.asked)
        await it.until(lambda count=count: len(it.asked) > count)
        moments.append(it.time())
    gaps = [round(b - a, 1) for a, b in pairwise(moments)]
    assert gaps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert it.follower.problem() == "following aws: nobody answers"
    it.reachable = True
    source = await it.accept()
    await it.until(lambda: it.follower.problem() is None)
    await source.ship(envelope(1))
    await source.next(wire.Confirm)
    closed = it.time()
    await source.end.close()
    await it.accept(head=1)
    assert it.time() - closed < 0.3


@virtual
async def test_it_follows_the_role() -> None:
    it = Fixture()
    source = await it.accept()
    await source.ship(envelope(1))
    await source.next(wire.Confirm)
    it.role.record = FixedRole("gcp", "azure", 2).record
    with pytest.raises(ChannelClosed):
        await source.next(wire.Confirm)
    source = await it.accept(head=1, epoch=2, cluster="azure")
    assert it.asked[-1] == ("azure", Position(1, 1))
    await it.until(lambda: it.store.value(keyspace.EPOCH) == b"2")
    it.role.record = FixedRole("gcp", "gcp", 3).record
    with pytest.raises(ChannelClosed):
        await source.next(wire.Confirm)
    await asyncio.sleep(20)
    assert it.links.empty()
    assert it.follower.source_cluster() is None
    assert it.follower.problem() is None


@virtual
async def test_nobody_is_followed_before_there_is_a_role() -> None:
    it = Fixture()
    it.role.record = None
    await asyncio.sleep(5)
    assert it.links.empty()
    assert it.follower.consistent()


@virtual
async def test_a_former_primary_is_not_followed_also_after_a_restart() -> None:
    store = MemoryStore()
    await History(store).claim(3)
    it = Fixture(store)
    await it.until(lambda: it.follower.problem() is not None)
    assert "has followed epoch 3, but the newest role record known here says aws in epoch 1" in (
        it.follower.problem() or ""
    )
    assert it.asked == []


@virtual
async def test_a_source_of_another_epoch_or_name_is_left() -> None:
    for cluster, epoch in (("aws", 2), ("azure", 1)):
        it = Fixture()
        await it.accept(cluster=cluster, epoch=epoch, head=1)
        await it.until(lambda it=it: it.follower.problem() is not None)
        assert f"wanted aws in epoch 1, found {cluster} in epoch {epoch}" in (it.follower.problem() or "")
        assert it.store.value(keyspace.EPOCH) is None
        it.task.cancel()


@virtual
async def test_diverged_data_is_never_overwritten() -> None:
    store = MemoryStore()
    await write(store, envelope(1), envelope(2, b"b"))
    before = store.items(b"", b"\xff")
    it = Fixture(store)
    source = await it.greeted()
    await source.say(wire.Refused("diverged", "gcp stands at 1.2: that is not part of the history"))
    started = it.time()
    source = await it.greeted()
    assert it.time() - started >= STOPPED_SECONDS
    assert it.follower.problem() == (
        "following aws: aws does not have the records that this cluster holds up to 1.2: "
        "gcp stands at 1.2: that is not part of the history. Nothing here is overwritten; this cluster has "
        "to rejoin"
    )
    assert store.items(b"", b"\xff") == before


@virtual
async def test_a_source_that_lost_records_is_not_copied() -> None:
    store = MemoryStore()
    await write(store, *(envelope(n, b"%d" % n) for n in range(1, 6)))
    it = Fixture(store)
    it.pages[None] = wire.SnapshotPage("aws", 1, Position(1, 3), Position(1, 3), [], b"r/")
    source = await it.greeted()
    await source.say(wire.Refused("compacted", "gone"))
    await it.until(lambda: it.follower.problem() is not None)
    assert "holds records up to 1.5: a full copy would destroy them" in (it.follower.problem() or "")
    assert store.value(keyspace.COPYING) is None
    assert it.follower.copies == 0


@virtual
async def test_no_full_copy_over_records_of_an_earlier_epoch() -> None:
    store = MemoryStore()
    await write(store, envelope(1))
    it = Fixture(store)
    it.role.record = FixedRole("gcp", "aws", 2).record
    source = await it.greeted()
    await source.say(wire.Refused("compacted", "gone"))
    await it.until(lambda: it.follower.problem() is not None)
    assert "nobody can say whether the records here are part of it" in (it.follower.problem() or "")
    assert store.value(keyspace.COPYING) is None


@virtual
async def test_an_empty_replica_begins_with_a_full_copy() -> None:
    it = Fixture()
    item = (b"k/a", encode(envelope(4)))
    it.pages[None] = wire.SnapshotPage("aws", 1, Position(1, 4), Position(1, 4), [item], b"r/")
    it.pages[b"r/"] = wire.SnapshotPage("aws", 1, Position(1, 5), Position(1, 6), [], None)
    await it.accept(head=4)
    source = await it.accept(head=6)
    assert source.hello == wire.Hello(1, "gcp", Position(1, 4))
    assert not it.follower.consistent()
    await source.answer(Position(1, 6), shipped=Position(1, 4))
    await source.ship(envelope(5, b"b"))
    await source.next(wire.Confirm)
    assert not it.follower.consistent()
    assert it.follower.lag_seconds() is None
    assert it.follower.lag_records() is None
    await source.ship(envelope(6, b"c"))
    await source.next(wire.Confirm)
    assert it.follower.consistent()
    assert it.follower.lag_seconds() is not None
    assert sorted(it.store.items(b"k/", b"k0")) == [b"k/a", b"k/b", b"k/c"]
    assert it.follower.copies == 1


@virtual
async def test_an_interrupted_copy_of_another_epoch_begins_anew() -> None:
    it = Fixture()
    item = (b"k/a", encode(envelope(4)))
    it.pages[None] = wire.SnapshotPage("aws", 1, Position(1, 4), Position(1, 4), [item], b"r/")
    it.pages[b"r/"] = wire.SnapshotPage("aws", 1, Position(1, 4), Position(1, 9), [], None)
    await it.accept(head=4)
    await it.accept(head=9)
    assert not it.follower.consistent()
    it.role.record = FixedRole("gcp", "azure", 2).record
    it.pages[None] = wire.SnapshotPage("azure", 2, Position(1, 4), Position(1, 4), [], b"r/")
    it.pages[b"r/"] = wire.SnapshotPage("azure", 2, Position(1, 4), Position(1, 4), [], None)
    for _ in range(2):
        source = await it.greeted()
        await source.say(wire.Welcome(1, "azure", 2, Position(1, 4)))
    await it.until(it.follower.consistent)
    assert it.store.items(b"k/", b"k0") == {}
    assert it.follower.copies == 2


@virtual
async def test_a_silent_source_is_left() -> None:
    it = Fixture()
    await it.greeted()
    await it.until(lambda: it.follower.problem() is not None)
    assert it.follower.problem() == "following aws: it does not answer"
    assert it.time() == pytest.approx(10.0, abs=0.1)
    await it.accept()
    await it.until(lambda: it.follower.problem() is None)
    await it.until(lambda: it.follower.problem() is not None)
    assert it.time() == pytest.approx(20.2, abs=0.3)


@virtual
async def test_nonsense_from_the_source_is_named() -> None:
    it = Fixture()
    source = await it.accept()
    await source.say(wire.Welcome(1, "aws", 1, Position(0, 0)))
    await it.until(lambda: it.follower.problem() is not None)
    assert it.follower.problem() == "following aws: wanted Records or Answer, found a second Welcome"
    source = await it.greeted()
    await source.say(wire.Answer(1, Position(0, 0), True, Position(0, 0)))
    await it.until(
        lambda: it.follower.problem() != "following aws: wanted Records or Answer, found a second Welcome"
    )
    assert it.follower.problem() == "following aws: wanted Welcome or Refused first, found Answer"


@virtual
async def test_a_source_that_stops_being_the_primary_is_asked_again_soon() -> None:
    it = Fixture()
    source = await it.accept()
    await source.say(wire.Refused("not_primary", "aws does not serve replicas now"))
    before = it.time()
    await it.accept()
    assert it.time() - before < 0.5


@virtual
async def test_damaged_marks_end_the_follower() -> None:
    store = MemoryStore()
    await store.commit([], [Write(keyspace.POSITION, b"nonsense")])
    it = Fixture(store)
    with pytest.raises(StoreDamaged):
        await it.task
    assert "nonsense" in (it.follower.problem() or "")
