# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the store from growing for ever: forgets old request ids and compacts the history.

greyd alone compacts its engine, never past what a replica has confirmed, up to a limit (design, section 4).
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

from grey.data import keyspace
from grey.data.errors import Diverged
from grey.store.interface import Compacted, Compare, CompareFailed, StoreDamaged, StoreError, Write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from grey.data.history import History
    from grey.record import Position
    from grey.store.interface import Item, Store, StoreStatus

MOST_FULL = (0.5, 0.7, 0.85)
"""How much of an engine's space may be in use before history goes in spite of the count of revisions, of its
age, and of a replica that lags, in this order: a full engine takes no writes at all."""

_PASS_SECONDS = 10.0
_PAGE_ITEMS = 500
_PAUSE_SECONDS = 0.02

_log = logging.getLogger(__name__)


async def _nobody_to_tell(_: Position) -> bool:
    return True


class Housekeeping:
    """Runs beside the reader and the writer on every cluster, primary or not."""

    def __init__(
        self,
        store: Store,
        history: History,
        *,
        confirmed: Callable[[], Position | None],
        announce: Callable[[Position], Awaitable[bool]] = _nobody_to_tell,
        keep_revisions: int = 100_000,
        keep_at_most: int = 1_000_000,
        keep_seconds: float = 300,
        request_ttl_seconds: float = 600,
        leads: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``confirmed`` gives the lowest position that the replicas hold; None: nobody holds compaction back.

        ``announce`` tells the federation from which position on history will be kept, before what a replica
        lacks goes, and says if that was heard: else history goes only when the engine is almost full.
        At least ``keep_revisions`` stay, and whatever is younger than ``keep_seconds``: clients that walk
        through the keys or resume a watch need it. ``keep_at_most`` revisions are kept for a replica that
        lags, and no more of any age. ``leads`` says whether this node does the work of its cluster.
        ``monotonic`` is in seconds.
        """
        self._store = store
        self._history = history
        self._confirmed = confirmed
        self._announce = announce
        self._keep_revisions = keep_revisions
        self._keep_at_most = keep_at_most
        self._keep_seconds = keep_seconds
        self._leads = leads
        self._ttl = request_ttl_seconds
        self._monotonic = monotonic
        self._goes_on_at = keyspace.REQUEST
        # How old a revision is, and what it wrote, follows from when this process first saw it by its own
        # monotonic clock: a wall clock that jumps must neither forget too early nor keep for ever.
        self._marks: deque[tuple[float, int]] = deque()

    async def run(self) -> None:
        """Tidy every ten seconds until cancelled. Raises StoreDamaged; other errors are tried again."""
        while True:
            try:
                if self._leads():
                    await self.compact()
                    await self.expire_requests()
            except StoreDamaged:
                raise
            except StoreError as error:
                _log.warning("housekeeping stopped half way and goes on in %g s: %s", _PASS_SECONDS, error)
            await asyncio.sleep(_PASS_SECONDS)

    async def expire_requests(self) -> int:
        """Remove the request ids that have been here for the time to live; return how many.

        One call takes ten seconds or so at most, so that millions of ids hold no compaction up; the next
        one goes on where it ended.
        """
        self._mark((await self._store.status()).revision)
        newest_expired = self._older_than(self._ttl)
        if newest_expired is None:
            return 0
        removed = 0
        start = self._goes_on_at
        until = self._monotonic() + _PASS_SECONDS
        while True:
            page = await self._store.range(start, keyspace.REQUEST_END, limit=_PAGE_ITEMS)
            removed += await self._remove([item for item in page.items if item.revision <= newest_expired])
            start = page.items[-1].key + b"\x00" if page.more else keyspace.REQUEST
            if not page.more or self._monotonic() >= until:
                self._goes_on_at = start
                return removed
            await asyncio.sleep(_PAUSE_SECONDS)

    def _mark(self, revision: int) -> None:
        """Note that a revision is there; as many marks stay as the oldest question needs."""
        now = self._monotonic()
        self._marks.append((now, revision))
        oldest = now - max(self._ttl, self._keep_seconds)
        while len(self._marks) > 1 and self._marks[1][0] <= oldest:
            self._marks.popleft()

    def _older_than(self, seconds: float) -> int | None:
        """Return the newest revision that is known to be so old; None when none is."""
        until = self._monotonic() - seconds
        place = bisect_right(self._marks, until, key=lambda mark: mark[0])
        return self._marks[place - 1][1] if place else None

    async def _remove(self, items: Sequence[Item]) -> int:
        """Remove entries that are still what was read; one that was refreshed meanwhile stays."""
        left = list(items)
        while left:
            try:
                await self._store.commit(
                    [Compare(item.key, item.value) for item in left], [Write(item.key, None) for item in left]
                )
            except CompareFailed as failed:
                del left[failed.index]
            else:
                return len(left)
        return 0

    async def compact(self) -> int | None:
        """Drop history that is kept for nobody; return up to which revision, None when nothing was done."""
        status = await self._store.status()
        self._mark(status.revision)
        by_count, by_age, by_replicas = (_full(status) >= limit for limit in MOST_FULL)
        target = status.revision - (0 if by_count else self._keep_revisions)
        if not by_age:
            target = min(target, self._older_than(self._keep_seconds) or 0)
        if target <= status.compacted:
            return None
        position = self._confirmed()
        if position is not None and not by_replicas:
            target = min(target, await self._held_back_at(position, status.compacted))
        target = max(target, status.revision - self._keep_at_most)
        # Small steps cost as much as large ones, so a twentieth of what is kept is allowed to gather; but few
        # revisions may fill an engine too.
        step = 1 if by_count else max(1, self._keep_revisions // 20)
        if target < status.compacted + step:
            return None
        if position is not None and not await self._may_pass(position, target) and not by_replicas:
            _log.warning("history that a replica lacks stays: the federation could not be told that it goes")
            return None
        await self._store.compact(target)
        return target

    async def _may_pass(self, position: Position, target: int) -> bool:
        """Say whether history up to revision ``target`` may go though a replica stands at ``position``."""
        oldest = (await self._history.state_of(target)).position
        return oldest <= position or await self._announce(oldest)

    async def _held_back_at(self, position: Position, compacted: int) -> int:
        """Return the newest revision that may go for the sake of a replica that stands at ``position``."""
        try:
            return await self._history.revision_of(position)
        except (Compacted, Diverged):
            # That replica needs a full copy. Those behind it are unknown, so nothing goes before the limit.
            return compacted


def _full(status: StoreStatus) -> float:
    """Return how much of an engine's space is in use, 0 to 1; 0 for one that has no limit."""
    if not status.limit_bytes:
        return 0.0
    return (status.bytes if status.used_bytes is None else status.used_bytes) / status.limit_bytes
