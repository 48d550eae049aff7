# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes of an engine: one stream that all watches of this process share, and streams into the past.

All streams ask for everything. Every revision of the store then appears, so that nothing can be missed
without notice, and a watch of a quiet range knows how far it has come.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from grey.link.etcd import grpc
from grey.link.etcd_fault import MemberFault
from grey.store import etcd_wire
from grey.store.interface import Change, Compacted, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from grey.store.etcd_calls import Calls
    from grey.store.etcd_upkeep import Upkeep

_log = logging.getLogger(__name__)

HELD_BYTES = 8 * 1024 * 1024
HELD_TRANSACTIONS = 4096
_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 1.0


class Transaction(msgspec.Struct, frozen=True):
    """All changes of one revision."""

    revision: int
    changes: list[Change]


async def follow(calls: Calls, upkeep: Upkeep, after: int) -> AsyncGenerator[list[Transaction], None]:
    """Report all transactions newer than ``after``, in order, as many at once as the engine sends.

    Raises Compacted when some of them are gone, MemberFault when the stream ends.
    """
    stream = (await calls.stubs()).watch.Watch()
    try:
        await _write(stream, etcd_wire.watch_everything(after))
        seen = after
        begun: Transaction | None = None  # it may go on in the next fragment
        while True:
            answer = await _read(stream)
            if answer.compact_revision:
                raise Compacted(seen, etcd_wire.from_etcd(answer.compact_revision))
            if answer.canceled:
                raise MemberFault(f"the engine ended the watch: {answer.cancel_reason}", carried_out=None)
            found, begun = _transactions(answer, seen, begun)
            if not found:
                continue
            if not _is_live(answer, found, seen) and not await upkeep.is_kept(seen):
                raise Compacted(seen, await upkeep.compacted())
            seen = found[-1].revision
            yield found
    finally:
        stream.cancel()


def _transactions(
    answer: Any, seen: int, begun: Transaction | None
) -> tuple[list[Transaction], Transaction | None]:
    """Return the transactions that an answer completes, and the one that its last fragment will."""
    found: list[Transaction] = []
    for event in answer.events:
        revision = etcd_wire.from_etcd(event.kv.mod_revision)
        if revision <= seen:
            continue
        if begun is None or begun.revision != revision:
            if begun is not None:
                found.append(begun)
            begun = Transaction(revision, [])
        change = etcd_wire.change(event)
        if change is not None:
            begun.changes.append(change)
    if begun is not None and not answer.fragment:
        found.append(begun)
        begun = None
    return found, begun


def _is_live(answer: Any, found: Sequence[Transaction], seen: int) -> bool:
    """Say whether the answer was made by the commit itself.

    One that etcd reads from its history lacks the removals of its first revision, if that is the one up to
    which it is compacted, and etcd does not say so.
    """
    revision = found[0].revision
    newest = etcd_wire.from_etcd(answer.header.revision)
    return len(found) == 1 and revision == seen + 1 == newest and not answer.fragment


class Tail:
    """The newest transactions of the engine, and word of every new one. ``newest`` is the last that came."""

    def __init__(self, calls: Calls, upkeep: Upkeep, newest: int) -> None:
        """``newest`` is the revision to begin after."""
        self.newest = newest
        self._oldest = newest
        self._calls = calls
        self._upkeep = upkeep
        self._held: deque[Transaction] = deque()
        self._held_bytes = 0
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def since(self, seen: int) -> list[Transaction] | None:
        """Return the transactions newer than ``seen``; None when not all of them are held."""
        if seen < self._oldest:
            return None
        found: list[Transaction] = []
        for transaction in reversed(self._held):
            if transaction.revision <= seen:
                break
            found.append(transaction)
        found.reverse()
        return found

    async def news(self) -> None:
        """Wait until something new has come, or the store was closed."""
        await asyncio.shield(self._news)

    def forget(self, revision: int) -> None:
        """Drop what is not newer than ``revision``: it was compacted."""
        while self._held and self._held[0].revision <= revision:
            self._drop()
        self._oldest = max(self._oldest, min(revision, self.newest))

    async def run(self) -> None:
        """Follow the engine until cancelled, however often it goes away."""
        retry = _FIRST_RETRY_SECONDS
        while True:
            began = self.newest
            try:
                async with aclosing(follow(self._calls, self._upkeep, self.newest)) as stream:
                    async for found in stream:
                        self._take(found)
            except Compacted:
                await self._start_anew()
            except (MemberFault, StoreError) as fault:
                _log.info("the engine's changes cannot be followed: %s", fault)
            retry = _FIRST_RETRY_SECONDS if self.newest > began else min(2 * retry, _LAST_RETRY_SECONDS)
            await asyncio.sleep(retry)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        news.set_result(None)

    async def _start_anew(self) -> None:
        """Go on from the newest revision; who had not come so far reads the history himself."""
        try:
            status = await self._calls.status()
        except MemberFault as fault:
            _log.info("the engine does not say its newest revision: %s", fault)
            return
        self.newest = self._oldest = max(self.newest, etcd_wire.from_etcd(status.header.revision))
        self._held.clear()
        self._held_bytes = 0
        self.wake()

    def _take(self, found: list[Transaction]) -> None:
        for transaction in found:
            self._held.append(transaction)
            self._held_bytes += _size(transaction)
        self.newest = found[-1].revision
        while self._held and (self._held_bytes > HELD_BYTES or len(self._held) > HELD_TRANSACTIONS):
            self._drop()
        self.wake()

    def _drop(self) -> None:
        dropped = self._held.popleft()
        self._held_bytes -= _size(dropped)
        self._oldest = dropped.revision


def _size(transaction: Transaction) -> int:
    return sum(len(change.key) + len(change.value or b"") for change in transaction.changes)


async def _write(stream: Any, request: Any) -> None:
    try:
        await stream.write(request)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as fault:
        raise _ended(fault) from None


async def _read(stream: Any) -> Any:
    try:
        answer = await stream.read()
    except grpc.aio.AioRpcError as fault:
        raise _ended(fault) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise MemberFault("the connection was closed", carried_out=None) from None
    if answer is grpc.aio.EOF:
        raise MemberFault("the engine ended the stream", carried_out=None)
    return answer


def _ended(fault: Any) -> MemberFault:
    words = fault.details() if isinstance(fault, grpc.aio.AioRpcError) else str(fault)
    return MemberFault(str(words), carried_out=None)
