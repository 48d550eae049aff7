# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of replication on the embedded store, in real time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.pipe import FixedRole, pipe

from grey.data import keyspace
from grey.data.history import History, Provenance
from grey.data.requests import Operation
from grey.data.writer import Writer
from grey.record import HybridClock
from grey.record.envelope import decode
from grey.replicate.follower import Follower
from grey.replicate.source import Source
from grey.replicate.tasks import closing
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from grey.record import Position
    from grey.replicate.channel import Channel
    from grey.replicate.wire import SnapshotPage

INTERVAL = 0.02


class Pair:
    """The primary aws with its writer and source, and the store of the replica gcp."""

    def __init__(self, primary: SqliteStore, replica: SqliteStore) -> None:
        self.primary = primary
        self.replica = replica
        role = FixedRole("aws")
        self.history = History(primary)
        self.writer = Writer(primary, role, cluster="aws", clock=HybridClock())
        self.source = Source(
            primary, self.history, role, cluster="aws", batch_size=50, interval_seconds=INTERVAL
        )

    @asynccontextmanager
    async def connect(self, _cluster: str, _position: Position, /) -> AsyncIterator[Channel]:
        mine, its = pipe(4)
        task = asyncio.create_task(self.source.serve(its, "gcp"))
        try:
            yield mine
        finally:
            await mine.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def fetch_page(self, _cluster: str, after: bytes | None, /) -> SnapshotPage:
        return await self.source.snapshot_page(after)

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[Follower]:
        """Run a follower for a while."""
        follower = Follower(
            self.replica,
            FixedRole("gcp"),
            cluster="gcp",
            connect=self.connect,
            fetch_page=self.fetch_page,
            interval_seconds=INTERVAL,
            clock=HybridClock(),
            max_clock_offset_seconds=5.0,
        )
        task = asyncio.create_task(follower.run())
        try:
            yield follower
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def caught_up(self, follower: Follower) -> None:
        async with asyncio.timeout(30):
            while not (follower.consistent() and await self.same_position()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def same_position(self) -> bool:
        return await History(self.replica).position() == await self.history.position()

    async def write(self, first: int, count: int) -> None:
        """Do ``count`` requests at once: puts, deletes of earlier keys, batches; every third has an id."""

        async def one(number: int) -> None:
            request = f"id-{number}" if number % 3 == 0 else None
            key = b"key-%d" % (number % 37)
            if number % 5 == 4:
                await self.writer.delete(key, request)
            elif number % 5 == 3:
                await self.writer.batch([Operation(key, b"b"), Operation(b"other" + key, None)], request)
            else:
                await self.writer.put(key, b"%d" % number, request)

        await asyncio.gather(*(one(number) for number in range(first, first + count)))

    async def content(self, store: SqliteStore) -> dict[bytes, bytes]:
        data = await store.range(keyspace.DATA, keyspace.DATA_END, limit=1000)
        requests = await store.range(keyspace.REQUEST, keyspace.REQUEST_END, limit=1000)
        return {item.key: item.value for item in [*data.items, *requests.items]}


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(
        await SqliteStore.create(tmp_path / "primary.sqlite"),
        await SqliteStore.create(tmp_path / "replica.sqlite"),
    )
    await made.history.claim(1)
    task = asyncio.create_task(made.writer.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await made.primary.close()
    await made.replica.close()


async def test_a_replica_holds_what_the_primary_holds(pair: Pair) -> None:
    await pair.write(0, 100)
    async with pair.follow() as follower:
        await pair.write(100, 150)
        await pair.caught_up(follower)
        async with asyncio.timeout(10):
            while follower.lag_seconds() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (follower.lag_records(), follower.problem(), follower.copies) == (0, None, 1)
    await pair.write(250, 50)
    async with pair.follow() as follower:
        await pair.caught_up(follower)
        assert follower.copies == 0
        assert follower.records_applied > 0
    content = await pair.content(pair.primary)
    assert await pair.content(pair.replica) == content
    assert sum(key.startswith(keyspace.REQUEST) for key in content) > 80


async def test_a_replica_that_was_away_too_long_is_copied(pair: Pair) -> None:
    async with pair.follow() as follower:
        await pair.write(0, 50)
        await pair.caught_up(follower)
    await pair.write(50, 100)
    await pair.primary.compact((await pair.primary.status()).revision - 1)
    async with pair.follow() as follower:
        writing = asyncio.create_task(pair.write(150, 100))
        await pair.caught_up(follower)
        await writing
        await pair.caught_up(follower)
        assert follower.copies == 1
    assert await pair.content(pair.replica) == await pair.content(pair.primary)
    assert await pair.replica.get(keyspace.COPYING) is None


async def test_every_record_is_told_from_others_on_both_ends(pair: Pair) -> None:
    async with pair.follow() as follower:
        # Were something written before it is connected, it would take a full copy, which proves no record.
        async with asyncio.timeout(30):
            while follower.lag_seconds() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await pair.write(0, 60)
        await pair.caught_up(follower)
    assert follower.copies == 0
    newest = await pair.history.position()
    written = {}
    async with closing(pair.primary.watch(keyspace.DATA, keyspace.DATA_END, after=0)) as transactions:
        async for changes in transactions:
            records = [decode(change.value) for change in changes if change.value is not None]
            written |= {record.position: Provenance(record.stamp, record.origin) for record in records}
            if newest in written:
                break
    assert len(written) == newest.sequence
    for history in (pair.history, History(pair.replica)):
        assert await history.provenance_of(newest) == written[newest]
        for position, provenance in written.items():
            revision = await history.revision_of(position)
            assert await history.provenance_of(position, revision=revision) == provenance
