# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every transaction that a follower writes into its own store.

Each of them compares the three marks of the store with what this follower believes they are:

- the **cursor**, so that a batch takes effect once, whatever was repeated or left unknown;
- the **marker** of a full copy, so that no record lands beside it;
- the **epoch**. The follower records there the epoch of the primary it follows, before the first one.
  Since that key is compared by every write of this cluster too and only ever grows, the two never overtake
  each other: a transaction of the follower that was frozen since before this cluster was promoted fails, as
  the promotion has claimed a higher epoch; a write that was frozen since before this cluster lost the role
  fails, as the epoch it was given is no longer there; and the stream of a former primary is refused, also
  after a restart.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from grey.data import keyspace
from grey.data.expiry import index_writes
from grey.data.history import format_epoch, format_position, parse_epoch, parse_position
from grey.data.requests import entry_writes
from grey.record.position import ORIGIN
from grey.replicate import cursor, snapshot
from grey.store.interface import Compare, DiskFull, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from grey.record import Envelope, HybridClock, Position, Stamp
    from grey.replicate.wire import SnapshotPage
    from grey.store.interface import Store

RETRY_SECONDS = 1.0
"""How often a full disk or a stamp from the future is looked at again."""

_MARKS = (keyspace.POSITION, keyspace.EPOCH, keyspace.COPYING)
_log = logging.getLogger(__name__)


class Landing:
    """The store of a replica, as its follower writes it. Not for two tasks at once."""

    def __init__(
        self,
        store: Store,
        *,
        clock: HybridClock,
        max_clock_offset_seconds: float,
        wall: Callable[[], float],
        report: Callable[[str | None], None],
    ) -> None:
        """``report`` is told what holds the follower up, and None when it goes on."""
        self._store = store
        self._clock = clock
        self._max_offset = max_clock_offset_seconds
        self._wall = wall
        self._report = report
        self._stored: dict[bytes, bytes | None] = dict.fromkeys(_MARKS)
        self.loaded = False
        self.cursor: Position = ORIGIN
        self.epoch = 0
        self.marker: snapshot.Marker | None = None

    @property
    def consistent(self) -> bool:
        """Whether the data is known not to be in the middle of a full copy."""
        return self.loaded and self.marker is None

    async def load(self) -> None:
        """Read the marks as they are now. Raises StoreDamaged."""
        found = await self._store.get_many(_MARKS)
        cursor_item, epoch_item, marker_item = (found.get(key) for key in _MARKS)
        self.cursor = parse_position(cursor_item)
        self.epoch = parse_epoch(epoch_item) or 0
        self.marker = None if marker_item is None else snapshot.Marker.decode(marker_item.value)
        self._stored = {key: found[key].value if key in found else None for key in _MARKS}
        self.loaded = True

    async def adopt(self, epoch: int, check: Callable[[], None]) -> None:
        """Record the epoch of the primary that is followed from now on; it must not be lower than before."""
        if epoch != self.epoch:
            await self._commit([], {keyspace.EPOCH: format_epoch(epoch)}, check)
            self.epoch = epoch

    async def apply(self, received: Sequence[Sequence[bytes]], check: Callable[[], None]) -> int:
        """Write the received transactions, each whole and once; return the number of new records.

        ``check`` is called right before every commit and raises when this follower must not write any more.
        Raises StreamBroken, and what a commit raises except DiskFull, which is waited out.
        """
        transactions = cursor.unseen(self.cursor, self.epoch, cursor.read(received))
        newest = cursor.newest_stamp(transactions)
        if newest is not None:
            await self._await_clock(newest, check)
        count = 0
        for step in cursor.steps(transactions, _side_writes):
            await self._write_step(step, check)
            count += len(step.records)
        return count

    async def _write_step(self, step: cursor.Step, check: Callable[[], None]) -> None:
        writes = [Write(keyspace.data_key(record.envelope.key), record.encoded) for record in step.records]
        mark: dict[bytes, bytes | None] = {keyspace.POSITION: format_position(step.cursor)}
        await self._commit([*writes, *step.entries], mark, check)
        self.cursor = step.cursor

    async def begin_copy(self, page: SnapshotPage, check: Callable[[], None]) -> None:
        """Make the marker durable, before anything is changed; ``page`` is the first one."""
        attempt = 1 if self.marker is None else self.marker.attempt + 1
        marker = snapshot.Marker(page.cluster, page.epoch, attempt, page.since)
        marks = {keyspace.COPYING: marker.encode(), keyspace.EPOCH: format_epoch(page.epoch)}
        self.marker = marker
        await self._commit([], marks, check)
        self.epoch = page.epoch

    async def merge(self, after: bytes | None, page: SnapshotPage, check: Callable[[], None]) -> None:
        """Make the range that a page covers equal to it. Raises ProtocolError."""
        start, end = snapshot.covered(after, page)
        newest = snapshot.newest_stamp(page)
        if newest is not None:
            await self._await_clock(newest, check)
        async for writes in snapshot.differences(self._store, page.items, start, end):
            await self._commit([*writes, *snapshot.index_of(writes)], {}, check)

    async def end_pages(self, until: Position, check: Callable[[], None]) -> None:
        """Note that all pages are here; the stream is followed from where the copy began to ``until``."""
        assert self.marker is not None
        marker = msgspec.structs.replace(self.marker, end=until)
        marks = {keyspace.COPYING: marker.encode(), keyspace.POSITION: format_position(marker.start)}
        await self._commit([], marks, check)
        self.marker, self.cursor = marker, marker.start

    async def finish_copy(self, check: Callable[[], None]) -> bool:
        """End the copy if the cursor has reached its end; say whether it did."""
        marker = self.marker
        if marker is None or marker.end is None or self.cursor < marker.end:
            return False
        await self._store.compact((await self._store.status()).revision)
        await self._commit([], {keyspace.COPYING: None}, check)
        self.marker = None
        return True

    async def _await_clock(self, newest: Stamp, check: Callable[[], None]) -> None:
        """Wait until no stamp is too far ahead of this clock; a record is never dropped for its stamp."""
        waited = False
        while (ahead := newest.microseconds / 1e6 - self._wall()) > self._max_offset:
            if not waited:
                _log.error("a received record is stamped %.1f s ahead of this clock: waiting", ahead)
            self._report(
                f"a received record is stamped {ahead:.1f} s ahead of this node's clock, more than "
                f"max_clock_offset ({self._max_offset:g} s): compare the clocks here and on the primary "
                "(chronyc tracking); replication goes on by itself when they agree"
            )
            waited = True
            await asyncio.sleep(RETRY_SECONDS)
            check()
        if waited:
            self._report(None)
        self._clock.observe(newest)

    async def _commit(
        self, writes: Sequence[Write], marks: Mapping[bytes, bytes | None], check: Callable[[], None]
    ) -> None:
        """Write in one transaction if all marks are as they were read last; wait while the disk is full."""
        compares = [Compare(key, value) for key, value in self._stored.items()]
        everything = [*writes, *(Write(key, value) for key, value in marks.items())]
        waited = False
        while True:
            check()
            try:
                await self._store.commit(compares, everything)
                break
            except DiskFull as error:
                if not waited:
                    _log.error("replication waits for room on the disk: %s", error)
                self._report(f"no room on the disk, replication goes on by itself when there is: {error}")
                waited = True
                await asyncio.sleep(RETRY_SECONDS)
        self._stored.update(marks)
        if waited:
            self._report(None)


def _side_writes(records: Sequence[Envelope]) -> list[Write]:
    """Return what is stored beside the records of one transaction: request ids and the index of expiries."""
    return [*entry_writes(records), *index_writes(records)]
