# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary whose data is replaced by an older copy writes other records under the same positions.

Its history forks within one epoch: (epoch, sequence) alone cannot tell the two apart. Both ends are the
shipping code, in virtual time.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.envelopes import envelope, write
from support.memory_store import MemoryStore
from support.pipe import FixedRole, PipeEnd, pipe
from support.replication_oracle import Violation
from support.virtual_time import run_virtual

from grey.data import keyspace
from grey.data.history import History
from grey.record import HybridClock
from grey.replicate.follower import STOPPED_SECONDS, Follower
from grey.replicate.source import Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grey.record import Position
    from grey.replicate.channel import Channel
    from grey.replicate.wire import SnapshotPage

HELD = 5
"""The replica holds so many records when the primary's data is replaced by a copy that has fewer."""
COPIED = 3


class Pair:
    """The primary aws, whose data a test replaces, and the replica gcp."""

    def __init__(self) -> None:
        self.replica = MemoryStore()
        self.role = FixedRole("aws")
        self.ends: list[PipeEnd] = []
        self.serving: list[asyncio.Task[None]] = []
        self.start_primary(MemoryStore())
        loop = asyncio.get_running_loop()
        self.follower = Follower(
            self.replica, FixedRole("gcp"), cluster="gcp", connect=self.connect, fetch_page=self.fetch_page,
            interval_seconds=0.1, clock=HybridClock(lambda: 0), max_clock_offset_seconds=10.0,
            monotonic=loop.time, wall=lambda: 2000.0, jitter=lambda: 1.0,
        )  # fmt: skip
        self.task = asyncio.create_task(self.follower.run())

    def start_primary(self, store: MemoryStore) -> None:
        """Start the primary's process on a store."""
        self.primary = store
        self.source = Source(
            store, History(store), self.role, cluster="aws", batch_size=10, interval_seconds=0.1,
            monotonic=asyncio.get_running_loop().time,
        )  # fmt: skip

    async def stop_primary(self) -> None:
        """Close the connections of the process that ended; it answers no page either."""
        for end in self.ends:
            await end.close()
        self.ends.clear()

    @asynccontextmanager
    async def connect(self, _cluster: str, _position: Position, /) -> AsyncIterator[Channel]:
        mine, its = pipe()
        self.ends.append(its)
        self.serving.append(asyncio.create_task(self.source.serve(its, "gcp")))
        try:
            yield mine
        finally:
            await mine.close()

    async def fetch_page(self, _cluster: str, after: bytes | None, /) -> SnapshotPage:
        return await self.source.snapshot_page(after)

    async def write_and_follow(self, last: int) -> None:
        """Let the replica follow the records up to ``last`` (a full copy would leave it without history)."""
        await self.until(self.follower.consistent)
        for sequence in range(1, last + 1):
            await write(self.primary, envelope(sequence, b"%d" % sequence))
        await self.held(last)
        assert self.follower.copies == 0

    async def held(self, sequence: int) -> None:
        """Wait until the replica holds the record with a sequence."""
        await self.until(lambda: self.replica.value(keyspace.POSITION) == b"1.%d" % sequence)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def older_copy() -> MemoryStore:
    store = MemoryStore()
    for sequence in range(1, COPIED + 1):
        await write(store, envelope(sequence, b"%d" % sequence))
    return store


async def write_anew(store: MemoryStore, last: int, together: int) -> None:
    """Write records up to ``last`` after the copy's end, so many in each transaction."""
    for first in range(COPIED + 1, last + 1, together):
        sequences = range(first, min(first + together, last + 1))
        await write(store, *(envelope(n, b"new %d" % n, b"new", seconds=1500.0) for n in sequences))


async def fork(*, seen_shorter: bool, last: int, together: int) -> str:
    """Replace the primary's data behind a replica; return what the replica tells of it.

    ``seen_shorter``: the replica connects before the primary has written past its cursor, too. Raises
    Violation when the replica's data is not what it was.
    """
    pair = Pair()
    await pair.write_and_follow(HELD)
    before = pair.replica.items(b"", b"\xff")
    copy = await older_copy()
    if not seen_shorter:
        await write_anew(copy, last, together)
    pair.start_primary(copy)
    await pair.stop_primary()
    if seen_shorter:
        await pair.until(lambda: "which has 1.3 in its place" in (pair.follower.problem() or ""))
        await write_anew(copy, last, together)
    await asyncio.sleep(2 * STOPPED_SECONDS)
    await write(copy, envelope(last + 1, b"later", seconds=1600.0))
    await asyncio.sleep(2 * STOPPED_SECONDS)
    if pair.replica.items(b"", b"\xff") != before:
        raise Violation(
            f"the replica mixes two histories: it stands at {await History(pair.replica).position()} with "
            f"{sorted(pair.replica.items(keyspace.DATA, keyspace.DATA_END))}"
        )
    pair.task.cancel()
    await pair.stop_primary()
    await asyncio.gather(*pair.serving)
    return pair.follower.problem() or ""


@pytest.mark.parametrize("together", [1, 2, 10])
@pytest.mark.parametrize("last", [HELD, HELD + 1, HELD + 40])
@pytest.mark.parametrize("seen_shorter", [True, False])
def test_a_replica_never_goes_on_in_another_history(seen_shorter: bool, last: int, together: int) -> None:
    problem = run_virtual(fork(seen_shorter=seen_shorter, last=last, together=together))
    assert problem == (
        "following aws: aws does not have the records that this cluster holds up to 1.5: gcp stands at 1.5, "
        "where its record was written by aws at 1000000000.5, that of aws by aws at 1500000000.5: the "
        "history forked within epoch 1. Nothing here is overwritten; this cluster has to rejoin"
    )


def test_a_replica_before_the_fork_follows() -> None:
    """What it holds is in both histories."""

    async def story() -> None:
        pair = Pair()
        await pair.write_and_follow(COPIED)
        copy = await older_copy()
        await write_anew(copy, 9, 2)
        pair.start_primary(copy)
        await pair.stop_primary()
        await pair.held(9)
        assert pair.replica.items(b"k/", b"k0") == copy.items(b"k/", b"k0")
        pair.task.cancel()

    run_virtual(story())


async def _nothing(*_arguments: object, **_options: object) -> None:
    return None


def source_compares_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Source, "_forked", _nothing)


def follower_proves_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(History, "provenance_of", _nothing)


@pytest.mark.parametrize(
    "plant", [source_compares_nothing, follower_proves_nothing], ids=lambda plant: plant.__name__
)
@pytest.mark.parametrize("seen_shorter", [True, False])
def test_the_story_catches(
    plant: Callable[[pytest.MonkeyPatch], None], seen_shorter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of the proof, taken out of the shipping code."""
    plant(monkeypatch)
    with pytest.raises(Violation, match=r"the replica mixes two histories: it stands at 1\.8 with "):
        run_virtual(fork(seen_shorter=seen_shorter, last=7, together=1))
