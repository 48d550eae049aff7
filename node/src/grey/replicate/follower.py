# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica's end of replication: follows whoever holds the role.

One connection at a time: Hello with the own cursor, then the stream, or a full copy first. Whatever goes
wrong ends the connection; the next one begins with what the store holds durably.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from grey.data.history import History
from grey.record.position import ORIGIN
from grey.replicate import wire
from grey.replicate.channel import ChannelClosed
from grey.replicate.cursor import StreamBroken
from grey.replicate.landing import Landing
from grey.replicate.staleness import Staleness
from grey.replicate.tasks import race
from grey.store.interface import CompareFailed, StoreDamaged, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.federation.interface import RoleRecord, RoleView
    from grey.record import HybridClock, Position
    from grey.replicate.channel import Channel, Connect, FetchPage
    from grey.store.interface import Store

SILENCE_SECONDS = 10.0
"""The source answers many probes a second; one that says nothing for so long is gone."""
PAGE_SECONDS = 60.0
"""How long a page of a full copy may take."""
LONGEST_BACKOFF_SECONDS = 5.0
STOPPED_SECONDS = 30.0
"""How often a source that refuses for good is asked again."""

_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_POLL_SECONDS = 0.25
_LONGEST_PROBE_SECONDS = 1.0
_log = logging.getLogger(__name__)


class TargetChanged(Exception):
    """The role moved: this connection is over."""


class CannotFollow(Exception):
    """Following would destroy or mix histories; somebody has to decide. The message says what and why."""


_EXPECTED = (
    CannotFollow,
    ChannelClosed,
    StoreError,
    StreamBroken,
    TimeoutError,
    wire.ProtocolError,
    wire.SourceRefused,
)


class Follower:
    """Keeps this cluster's store equal to the primary's; a ``federation.interface.ReplicationView``.

    ``records_applied``, ``batches_applied``, ``connections`` and ``copies`` (full copies that were begun)
    count up; ``last_error`` is the newest failure in words.
    """

    def __init__(
        self,
        store: Store,
        role: RoleView,
        *,
        cluster: str,
        connect: Connect,
        fetch_page: FetchPage,
        interval_seconds: float,
        clock: HybridClock,
        max_clock_offset_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``monotonic`` should count while the machine sleeps (CLOCK_BOOTTIME); both are in seconds."""
        self._history = History(store)
        self._role = role
        self._cluster = cluster
        self._connect = connect
        self._fetch_page = fetch_page
        self._monotonic = monotonic
        self._jitter = jitter
        self._poll = min(interval_seconds, _LONGEST_POLL_SECONDS)
        self._probe_interval = min(interval_seconds / 2, _LONGEST_PROBE_SECONDS)
        self._staleness = Staleness(monotonic)
        self._landing = Landing(
            store,
            clock=clock,
            max_clock_offset_seconds=max_clock_offset_seconds,
            wall=wall,
            report=self._report,
        )
        self._target: RoleRecord | None = None
        self._head: Position | None = None
        self._problem: str | None = None
        self._failures = 0
        self.records_applied = 0
        self.batches_applied = 0
        self.connections = 0
        self.copies = 0
        self.last_error: str | None = None

    async def run(self) -> None:
        """Follow for ever; does nothing while this cluster holds the role. Raises StoreDamaged only."""
        while True:
            target = self._wanted()
            self._target = target
            pause = 0.0
            try:
                if target is None:
                    await self._idle()
                else:
                    await self._follow(target)
            except TargetChanged:
                self._failures = 0
            except _EXPECTED as error:
                pause = self._fail(error)
                if isinstance(error, StoreDamaged):
                    raise
            finally:
                self._staleness.disconnected()
            await self._pause(pause)

    def lag_seconds(self) -> float | None:
        """Return how old the state here is at most; None while it is unknown."""
        return self._staleness.seconds() if self.consistent() else None

    def lag_records(self) -> int | None:
        """Return how many records the primary had, at its last word, that are not applied here."""
        if self._head is None or self._target is None or not self.consistent():
            return None
        return max(0, self._head.sequence - self._landing.cursor.sequence)

    def consistent(self) -> bool:
        """Whether the data here is a state that the primary once had (not in the middle of a full copy)."""
        return self._landing.consistent

    def position(self) -> Position:
        """Return the position up to which the store holds the primary's records."""
        return self._landing.cursor

    def problem(self) -> str | None:
        """Return what keeps this replica from following, for the operator; None when nothing does."""
        return self._problem

    def source_cluster(self) -> str | None:
        """Return the cluster that is being followed; None when there is none."""
        return None if self._target is None else self._target.cluster

    def _wanted(self) -> RoleRecord | None:
        holder = self._role.holder()
        if holder is None or holder.cluster == self._cluster or self._role.is_primary():
            return None
        return holder

    def _check(self, target: RoleRecord) -> None:
        """Raise TargetChanged when ``target`` is not to be followed any more."""
        if not _same(self._wanted(), target):
            raise TargetChanged

    async def _idle(self) -> None:
        if not self._landing.loaded:
            await self._landing.load()
        self._problem = None
        await asyncio.sleep(self._poll)

    async def _follow(self, target: RoleRecord) -> None:
        """Make one connection to ``target`` and use it until something ends it."""
        await self._landing.load()
        if self._landing.epoch > target.epoch:
            raise CannotFollow(
                f"the data here has followed epoch {self._landing.epoch}, but the newest role record known "
                f"here says {target.cluster} in epoch {target.epoch}; if this stays, the federation store is "
                "older than the data: restore the newer one"
            )
        here = self._landing.cursor
        hello = wire.Hello(wire.VERSION, self._cluster, here, await self._history.provenance_of(here))
        async with (
            asyncio.timeout(SILENCE_SECONDS) as limit,
            self._connect(target.cluster, here) as channel,
        ):
            copy = await self._greet(channel, target, hello)
            limit.reschedule(None)
            if not copy:
                self._problem = None
                await race(self._receive(channel, target), self._probe(channel, target))
                return
        await self._copy(target)

    async def _greet(self, channel: Channel, target: RoleRecord, hello: wire.Hello) -> bool:
        """Ask for the stream; say whether a full copy is needed instead."""
        here = hello.from_position
        await _send(channel, hello)
        answer = wire.decode_from_source(await channel.receive())
        self.connections += 1
        self._check(target)
        if isinstance(answer, wire.Refused) and answer.code == "compacted":
            if here != ORIGIN and here.epoch != target.epoch:
                raise CannotFollow(
                    f"{target.cluster} (epoch {target.epoch}) no longer keeps the history at {here}, so that "
                    "nobody can say whether the records here are part of it; a full copy might destroy some. "
                    "Take a backup of this cluster's data, then start it empty"
                )
            return True
        if isinstance(answer, wire.Refused):
            raise _refusal(answer, target, here)
        if not isinstance(answer, wire.Welcome):
            raise wire.ProtocolError(f"wanted Welcome or Refused first, found {type(answer).__name__}")
        if (answer.version, answer.cluster, answer.epoch) != (wire.VERSION, target.cluster, target.epoch):
            raise wire.ProtocolError(
                f"wanted {target.cluster} in epoch {target.epoch}, found {answer.cluster} in epoch "
                f"{answer.epoch}"
            )
        if answer.head < here:
            raise wire.ProtocolError(f"{target.cluster} stands at {answer.head}, before the {here} held here")
        self._head = answer.head
        marker = self._landing.marker
        if marker is None:
            return here == ORIGIN and answer.head != ORIGIN
        resumable = marker.end is not None and (marker.source, marker.epoch) == (target.cluster, target.epoch)
        return not resumable

    async def _receive(self, channel: Channel, target: RoleRecord) -> None:
        """Apply what comes; ends by an exception only."""

        def check() -> None:
            self._check(target)

        await self._landing.adopt(target.epoch, check)
        await self._applied(check)
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                message = wire.decode_from_source(await channel.receive())
            if isinstance(message, wire.Records):
                self._head = message.head
                self.records_applied += await self._landing.apply(message.transactions, check)
                self.batches_applied += 1
                self._failures = 0
                await self._applied(check)
                await _send(channel, wire.Confirm(self._landing.cursor))
            elif isinstance(message, wire.Answer):
                if message.shipped > self._landing.cursor:
                    raise StreamBroken(
                        f"{message.shipped} was sent, {self._landing.cursor} is the last that came"
                    )
                self._head = message.head
                self._staleness.answered(message.nonce, message.head, fenced=message.fenced)
                await self._applied(check)
            elif isinstance(message, wire.Refused):
                raise _refusal(message, target, self._landing.cursor)
            else:
                raise wire.ProtocolError("wanted Records or Answer, found a second Welcome")

    async def _applied(self, check: Callable[[], None]) -> None:
        """Note how far the store is, and whether that ends a full copy."""
        if await self._landing.finish_copy(check):
            _log.info("the full copy is complete at %s", self._landing.cursor)
        if self._landing.consistent:
            self._staleness.applied(self._landing.cursor)

    async def _probe(self, channel: Channel, target: RoleRecord) -> None:
        """Send nonces, and end the connection when the role moves."""
        while True:
            self._check(target)
            nonce = self._staleness.send()
            if nonce is not None:
                await _send(channel, wire.Probe(nonce))
            await asyncio.sleep(self._probe_interval)

    async def _copy(self, target: RoleRecord) -> None:
        """Fetch all pages of a full copy; the next connection follows the stream from where it began."""

        def check() -> None:
            self._check(target)

        page = await self._page(target, None)
        if page.since < self._landing.cursor:
            raise CannotFollow(
                f"{target.cluster} stands at {page.since}, but this cluster holds records up to "
                f"{self._landing.cursor}: a full copy would destroy them"
            )
        self.copies += 1
        _log.info("a full copy from %s begins at %s", target.cluster, page.since)
        self._staleness.forget()
        await self._landing.begin_copy(page, check)
        self._problem = None
        after: bytes | None = None
        while True:
            await self._landing.merge(after, page, check)
            if page.next is None:
                break
            after = page.next
            page = await self._page(target, after)
        await self._landing.end_pages(page.until, check)
        self._failures = 0

    async def _page(self, target: RoleRecord, after: bytes | None) -> wire.SnapshotPage:
        async with asyncio.timeout(PAGE_SECONDS):
            page = await self._fetch_page(target.cluster, after)
        self._check(target)
        if (page.cluster, page.epoch) != (target.cluster, target.epoch):
            raise wire.ProtocolError(
                f"wanted a page of {target.cluster} in epoch {target.epoch}, found one of {page.cluster} in "
                f"epoch {page.epoch}"
            )
        return page

    def _report(self, problem: str | None) -> None:
        self._problem = problem
        if problem is not None:
            self.last_error = problem

    def _fail(self, error: Exception) -> float:
        """Tell people about a failure; return how many seconds to wait before the next try."""
        problem = _words(error, self.source_cluster())
        if problem != self._problem:
            _log.warning("%s", problem)
        self._failures += 1
        self._report(problem)
        refused = isinstance(error, wire.SourceRefused) and error.refused.code != "not_primary"
        if refused or isinstance(error, CannotFollow):
            return STOPPED_SECONDS
        longest = min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 16), LONGEST_BACKOFF_SECONDS)
        return longest * (0.5 + self._jitter() / 2)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until the role moves."""
        until = self._monotonic() + seconds
        while (left := until - self._monotonic()) > 0 and _same(self._wanted(), self._target):  # noqa: ASYNC110
            await asyncio.sleep(min(left, self._poll))


async def _send(channel: Channel, message: wire.FromFollower) -> None:
    """Send, but not for ever: the buffers of a connection whose other end is gone stay full."""
    async with asyncio.timeout(SILENCE_SECONDS):
        await channel.send(wire.encode(message))


def _same(one: RoleRecord | None, other: RoleRecord | None) -> bool:
    """Whether two role records name the same primary in the same epoch."""
    if one is None or other is None:
        return one is other
    return (one.cluster, one.epoch) == (other.cluster, other.epoch)


def _words(error: Exception, cluster: str | None) -> str:
    if isinstance(error, CompareFailed):
        return "the cursor or the epoch in the data store is not what this replica wrote last; it looks again"
    if isinstance(error, StoreError):
        return f"the data store: {error}"
    if isinstance(error, TimeoutError):
        return f"following {cluster}: it does not answer"
    return f"following {cluster}: {error}"


def _refusal(refused: wire.Refused, target: RoleRecord, here: Position) -> Exception:
    if refused.code == "diverged":
        return CannotFollow(
            f"{target.cluster} does not have the records that this cluster holds up to {here}: "
            f"{refused.message}. Nothing here is overwritten; this cluster has to rejoin"
        )
    return wire.SourceRefused(refused)
