# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transactions of a follower, against everything else that may write the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.envelopes import envelope, write
from support.memory_store import MemoryStore
from support.virtual_time import run_virtual

from grey.data import keyspace
from grey.data.history import History
from grey.record import HybridClock, Position
from grey.record.envelope import encode
from grey.replicate import wire
from grey.replicate.cursor import StreamBroken
from grey.replicate.landing import Landing
from grey.store.interface import Compacted, CompareFailed, DiskFull, Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.record import Envelope
    from grey.store.interface import Compare, Write

WALL = 1_000.0


class Trouble:
    """Remembers what the landing reports, and lets a test end its waiting."""

    def __init__(self) -> None:
        self.reports: list[str | None] = []
        self.wall = WALL

    def report(self, problem: str | None) -> None:
        self.reports.append(problem)


class FullStore(MemoryStore):
    """Has no room for the first ``refusals`` commits."""

    refusals = 0

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        if self.refusals:
            self.refusals -= 1
            raise DiskFull("no space left on device")
        return await super().commit(compares, writes)


def land(store: Store, trouble: Trouble | None = None, clock: HybridClock | None = None) -> Landing:
    trouble = trouble or Trouble()
    return Landing(
        store,
        clock=clock or HybridClock(lambda: 0),
        max_clock_offset_seconds=0.5,
        wall=lambda: trouble.wall,
        report=trouble.report,
    )


def allowed() -> None:
    pass


def encoded(*transactions: Sequence[Envelope]) -> list[list[bytes]]:
    return [[encode(each) for each in transaction] for transaction in transactions]


def page(
    items: list[tuple[bytes, bytes]], since: int, until: int, following: bytes | None = None, epoch: int = 1
) -> wire.SnapshotPage:
    return wire.SnapshotPage("aws", epoch, Position(epoch, since), Position(epoch, until), items, following)


def stored(*envelopes: Envelope) -> list[tuple[bytes, bytes]]:
    return [(keyspace.data_key(each.key), encode(each)) for each in envelopes]


async def test_batch_and_cursor_are_one_transaction() -> None:
    store = MemoryStore()
    landing = land(store)
    await landing.load()
    await landing.adopt(1, allowed)
    before = (await store.status()).revision
    assert (
        await landing.apply(encoded([envelope(1, b"a"), envelope(2, b"b")], [envelope(3, b"c")]), allowed)
        == 3
    )
    assert (await store.status()).revision == before + 1
    assert store.value(keyspace.POSITION) == b"1.3"
    assert store.items(b"k/", b"k0") == dict(stored(envelope(1, b"a"), envelope(2, b"b"), envelope(3, b"c")))
    assert await landing.apply(encoded([envelope(3, b"c")]), allowed) == 0
    assert (await store.status()).revision == before + 1


async def test_another_cursor_in_the_store_stops_the_follower() -> None:
    store = MemoryStore()
    landing = land(store)
    await landing.load()
    await landing.adopt(1, allowed)
    await write(store, envelope(1, b"z"))
    with pytest.raises(CompareFailed):
        await landing.apply(encoded([envelope(1)]), allowed)
    assert store.value(b"k/a") is None


async def test_a_frozen_commit_loses_against_a_promotion() -> None:
    """The promotion comes between the follower's check and its commit; the new epoch has no record yet."""
    store = MemoryStore()
    landing = land(store)
    await landing.load()
    await landing.adopt(1, allowed)
    await History(store).claim(2)
    with pytest.raises(CompareFailed):
        await landing.apply(encoded([envelope(1)]), allowed)
    assert store.value(b"k/a") is None
    assert store.value(keyspace.POSITION) is None


async def test_a_frozen_write_loses_against_the_follower_of_the_next_primary() -> None:
    """What a writer compares is gone once another primary is followed."""
    store = MemoryStore()
    await History(store).claim(1)
    landing = land(store)
    await landing.load()
    await landing.adopt(2, allowed)
    assert store.value(keyspace.EPOCH) == b"2"
    assert await History(store).epoch() == 2


async def test_the_role_is_asked_right_before_the_commit() -> None:
    store = MemoryStore()
    landing = land(store)
    await landing.load()
    await landing.adopt(1, allowed)

    def moved() -> None:
        raise RuntimeError("the role moved")

    with pytest.raises(RuntimeError, match="moved"):
        await landing.apply(encoded([envelope(1)]), moved)
    assert store.value(b"k/a") is None


def test_a_full_disk_is_waited_out() -> None:
    async def main() -> None:
        store, trouble = FullStore(), Trouble()
        landing = land(store, trouble)
        await landing.load()
        await landing.adopt(1, allowed)
        store.refusals = 3
        assert await landing.apply(encoded([envelope(1)]), allowed) == 1
        assert asyncio.get_running_loop().time() == pytest.approx(3.0)
        problem = "no room on the disk, replication goes on by itself when there is: no space left on device"
        assert trouble.reports == [problem, problem, problem, None]

    run_virtual(main())


def test_a_stamp_from_the_future_stalls_and_is_not_dropped() -> None:
    async def main() -> None:
        store, trouble = MemoryStore(), Trouble()
        clock = HybridClock(lambda: int(WALL * 1e6))
        landing = land(store, trouble, clock)
        await landing.load()
        await landing.adopt(1, allowed)
        future = envelope(1, seconds=WALL + 60)
        task = asyncio.create_task(landing.apply(encoded([future]), allowed))
        await asyncio.sleep(10)
        assert store.value(b"k/a") is None
        assert "stamped 60.0 s ahead" in (trouble.reports[-1] or "")
        assert "max_clock_offset (0.5 s)" in (trouble.reports[-1] or "")
        assert clock.now() < future.stamp
        trouble.wall += 59.9
        assert await task == 1
        assert trouble.reports[-1] is None
        assert clock.now() > future.stamp

    run_virtual(main())


async def test_a_hole_is_not_applied() -> None:
    store = MemoryStore()
    landing = land(store)
    await landing.load()
    await landing.adopt(1, allowed)
    with pytest.raises(StreamBroken):
        await landing.apply(encoded([envelope(1)], [envelope(3, b"b")]), allowed)
    assert store.items(b"k/", b"k0") == {}


async def test_a_full_copy_from_beginning_to_end() -> None:
    store = MemoryStore()
    await write(store, envelope(1, b"gone"), envelope(2, b"kept"))
    landing = land(store)
    await landing.load()
    assert landing.consistent

    first = page(stored(envelope(5, b"k2"), envelope(2, b"kept")), 6, 6, keyspace.REQUEST)
    await landing.begin_copy(first, allowed)
    assert not landing.consistent
    assert store.value(b"k/gone") is not None
    await landing.merge(None, first, allowed)
    assert store.items(b"k/", b"k0") == dict(first.items)
    second = page([(b"r/id", b"entry")], 7, 8)
    await landing.merge(first.next, second, allowed)
    await landing.end_pages(second.until, allowed)
    assert landing.cursor == Position(1, 6)

    again = land(store)
    await again.load()
    assert not again.consistent
    assert (again.cursor, again.marker) == (landing.cursor, landing.marker)
    assert not await again.finish_copy(allowed)
    await again.apply(encoded([envelope(7, b"k2")]), allowed)
    assert not await again.finish_copy(allowed)
    await again.apply(encoded([envelope(8, b"kept", None)]), allowed)
    assert await again.finish_copy(allowed)
    assert again.consistent
    assert store.items(b"k/", b"k0") == dict(stored(envelope(7, b"k2"), envelope(8, b"kept", None)))
    assert store.items(b"r/", b"r0") == {b"r/id": b"entry"}
    assert store.value(keyspace.COPYING) is None


async def test_the_history_before_a_full_copy_is_not_served() -> None:
    """The records that came in pages are missing in it: a replica that goes on from there would miss them."""
    store = MemoryStore()
    await write(store, envelope(1, b"a"))
    landing = land(store)
    await landing.load()
    only = page(stored(envelope(9, b"b")), 9, 9)
    await landing.begin_copy(only, allowed)
    await landing.merge(keyspace.REQUEST, page([], 9, 9), allowed)
    await landing.end_pages(only.until, allowed)
    assert await landing.finish_copy(allowed)
    await landing.apply(encoded([envelope(10, b"c")]), allowed)
    history = History(store)
    for sequence in (1, 5):
        with pytest.raises(Compacted):
            await history.revision_of(Position(1, sequence))
    assert await history.revision_of(Position(1, 9)) < await history.revision_of(Position(1, 10))


async def test_a_page_overwrites_what_a_copy_of_a_former_primary_left() -> None:
    """A higher position here than there: the new primary does not have that record."""
    store = MemoryStore()
    landing = land(store)
    await landing.load()
    former = page(stored(envelope(90, b"a"), envelope(95, b"b")), 99, 99)
    await landing.begin_copy(former, allowed)
    await landing.merge(None, former, allowed)
    present = page(stored(envelope(50, b"a")), 70, 70, epoch=2)
    await landing.begin_copy(present, allowed)
    await landing.merge(None, present, allowed)
    assert store.items(b"k/", b"k0") == dict(stored(envelope(50, b"a")))


async def test_a_commit_of_an_abandoned_copy_cannot_land_in_the_next_one() -> None:
    """Both begin at the same position; the first one's commit was on its way when it was given up."""
    store = MemoryStore()
    first, second = land(store), land(store)
    await first.load()
    old = page(stored(envelope(1, b"a")), 1, 1)
    await first.begin_copy(old, allowed)
    await second.load()
    new = page(stored(envelope(2, b"a")), 1, 2)
    await second.begin_copy(new, allowed)
    await second.merge(None, new, allowed)
    with pytest.raises(CompareFailed):
        await first.merge(None, old, allowed)
    assert store.items(b"k/", b"k0") == dict(new.items)
