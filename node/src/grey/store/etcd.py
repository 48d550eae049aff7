# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data store of clusters, on etcd: what greyd reaches through the member that runs beside it.

A commit is one transaction of etcd, which answers when a majority of the members has synced it. Everything is
asked of the one member beside this node; when it has failed, so has the node, and clients go to another.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from grey.link.etcd_fault import MemberFault
from grey.store import etcd_wire
from grey.store.etcd_calls import (
    COMPACTED,
    FUTURE,
    NO_SPACE,
    Calls,
    EtcdAccess,
    is_too_large,
    unanswered,
    uncommitted,
)
from grey.store.etcd_upkeep import Upkeep
from grey.store.etcd_watch import Tail, follow
from grey.store.interface import (
    Change,
    CommitUncertain,
    Compacted,
    Compare,
    Item,
    Page,
    QuotaExceeded,
    StoreError,
    StoreStatus,
    Write,
    check_transaction,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from grey.store.etcd_watch import Transaction

__all__ = ["EtcdAccess", "EtcdStore"]

PAGE_BYTES = 4 * 1024 * 1024
"""Keys and values that one page of a range holds, about; one larger item is returned alone."""

_FIRST_ITEMS = 32
_MOST_ITEMS = 512
_KEYS_AT_ONCE = 128
_KEYS_LOOKED_AT = 32
_RETRY_SECONDS = 0.2


class EtcdStore:
    """A data store on one member of an etcd (``grey.store.interface.Store``)."""

    def __init__(self, calls: Calls, upkeep: Upkeep, revision: int) -> None:
        """Use ``open``."""
        self._calls = calls
        self._upkeep = upkeep
        self._tail = Tail(calls, upkeep, revision)
        self._following = asyncio.create_task(self._tail.run(), name="store-tail")
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, access: EtcdAccess, *, timeout_seconds: float) -> EtcdStore:
        """Connect with the engine; ``timeout_seconds`` bounds this and every later call.

        The member needs no majority for this. Raises EngineUnreachable.
        """
        calls = Calls(access, timeout_seconds)
        try:
            status = await calls.status()
        except MemberFault as fault:
            await calls.close()
            raise unanswered(fault, access.endpoint, "be reached") from fault
        except BaseException:
            await calls.close()
            raise
        revision = etcd_wire.from_etcd(status.header.revision)
        return cls(calls, Upkeep(calls, access.quota_bytes), revision)

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        """Apply all writes at once if all comparisons hold, durably; return the revision."""
        check_transaction(compares, writes)
        before = self._calls.newest
        try:
            answer = await self._calls.transaction(
                etcd_wire.transaction(compares, writes), serializable=False
            )
        except MemberFault as fault:
            if fault.said == NO_SPACE:
                raise await self._refused_for_space(writes, before) from fault
            raise uncommitted(fault, self._calls.endpoint) from fault
        return etcd_wire.committed(answer, compares)

    async def get(
        self, key: bytes, *, revision: int | None = None, serializable: bool = False
    ) -> Item | None:
        """Return the key, now or as it was at ``revision``."""
        try:
            answer = await self._calls.range(etcd_wire.one(key, revision, serializable=serializable))
        except MemberFault as fault:
            raise await self._read_fault(fault, revision) from fault
        return next(iter(etcd_wire.items(answer.kvs)), None)

    async def get_many(self, keys: Sequence[bytes], *, serializable: bool = False) -> dict[bytes, Item]:
        """Return those of the keys that exist, all read at one revision."""
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, Item] = {}
        at: int | None = None
        most = _KEYS_AT_ONCE
        deadline = self._calls.deadline()
        while wanted:
            request = etcd_wire.reads(wanted[:most], at, serializable=serializable)
            try:
                answer = await self._calls.transaction(request, serializable=serializable, deadline=deadline)
            except MemberFault as fault:
                if is_too_large(fault) and most > 1:
                    most = max(1, most // 8)
                elif fault.said == COMPACTED:
                    wanted, at = list(dict.fromkeys(keys)), None
                    found.clear()
                else:
                    raise unanswered(fault, self._calls.endpoint, "answer") from fault
                continue
            for response in answer.responses:
                found.update((item.key, item) for item in etcd_wire.items(response.response_range.kvs))
            at = etcd_wire.from_etcd(answer.header.revision) if at is None else at
            del wanted[:most]
        return found

    async def range(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int,
        revision: int | None = None,
        serializable: bool = False,
    ) -> Page:
        """Return at most ``limit`` keys of the range in order, and at most about 4 MiB.

        etcd bounds an answer by its number of keys only, so a page is fetched in parts that grow as far as
        what was read so far lets expect.
        """
        if limit < 1:
            raise ValueError(f"a page holds at least one key, not {limit}")
        items: list[Item] = []
        size = 0
        at = revision
        most = _FIRST_ITEMS
        deadline = self._calls.deadline()
        while True:
            part = min(limit - len(items), most)
            first = items[-1].key + b"\0" if items else start
            request = etcd_wire.some(first, end, at, limit=part, serializable=serializable)
            try:
                answer = await self._calls.range(request, deadline)
            except MemberFault as fault:
                if is_too_large(fault) and part > 1:
                    most = max(1, part // 8)
                    continue
                if fault.said == COMPACTED and items and at is not None and revision is None:
                    return Page(items, at, more=True)
                raise await self._read_fault(fault, at) from fault
            at = etcd_wire.from_etcd(answer.header.revision) if at is None else at
            for item in etcd_wire.items(answer.kvs):
                size += len(item.key) + len(item.value)
                if items and size > PAGE_BYTES:
                    return Page(items, at, more=True)
                items.append(item)
            if not answer.more or len(items) == limit:
                return Page(items, at, answer.more)
            most = _next_part(len(items), size)

    async def watch(self, start: bytes, end: bytes | None, *, after: int) -> AsyncIterator[list[Change]]:
        """Report every change of the range in transactions newer than revision ``after``, in order."""
        seen = after
        while True:
            self._calls.check_open()
            if seen >= self._tail.newest:
                await self._tail.news()
                continue
            async with aclosing(self._newer(seen)) as newer:
                async for transactions in newer:
                    for transaction in transactions:
                        seen = transaction.revision
                        if changes := _within(transaction.changes, start, end):
                            yield changes

    async def _newer(self, seen: int) -> AsyncGenerator[list[Transaction], None]:
        """Report transactions newer than ``seen``, at least until those that are held go on from there."""
        held = self._tail.since(seen)
        if held is not None:
            yield held
            return
        try:
            async with aclosing(follow(self._calls, self._upkeep, seen)) as past:
                async for found in past:
                    yield found
                    if self._tail.since(found[-1].revision) is not None:
                        return
        except MemberFault:
            await asyncio.sleep(_RETRY_SECONDS)

    async def compact(self, revision: int) -> None:
        """Drop the history up to and including ``revision``; current values stay. Idempotent."""
        self._calls.check_open()
        if revision <= 0:
            return
        try:
            await self._calls.compact(revision)
        except MemberFault as fault:
            if fault.said != COMPACTED:
                raise await self._read_fault(fault, revision) from fault
        else:
            self._upkeep.note_compaction(revision)
        self._tail.forget(revision)

    async def status(self) -> StoreStatus:
        """Return the revisions, the size and how the engine is; needs no majority."""
        try:
            return await self._upkeep.status()
        except MemberFault as fault:
            raise unanswered(fault, self._calls.endpoint, "say how it is") from fault

    async def reclaim(self) -> bool:
        """Give back the space that compaction freed, and lift this member's space alarm if there is room.

        Does something only when the member is short of space; it answers nothing else while it defragments.
        Raises EngineUnreachable.
        """
        try:
            return await self._upkeep.reclaim()
        except MemberFault as fault:
            raise unanswered(fault, self._calls.endpoint, "give back space") from fault

    async def close(self) -> None:
        """Wait for the answers of what was asked, disconnect. Watchers end with StoreError. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._following.cancel()
        await self._calls.close()
        await asyncio.gather(self._following, return_exceptions=True)
        self._tail.wake()

    async def _read_fault(self, fault: MemberFault, revision: int | None) -> StoreError:
        """Return what a failed question about ``revision`` means."""
        if revision is not None and fault.said in (COMPACTED, FUTURE):
            try:
                if fault.said == COMPACTED:
                    return Compacted(revision, await self._upkeep.compacted())
                newest = etcd_wire.from_etcd((await self._calls.status()).header.revision)
            except MemberFault as second:
                fault = second
            else:
                return StoreError(f"revision {revision} does not exist yet, the newest is {newest}")
        return unanswered(fault, self._calls.endpoint, "answer")

    async def _refused_for_space(self, writes: Sequence[Write], before: int) -> StoreError:
        """Find out whether a transaction that was refused for want of space was carried out.

        The member that notices the want first has carried it out before it says so. It was not if one of the
        keys that it sets has not changed since ``before``, or nothing has.
        """
        full = f"the engine at {self._calls.endpoint} has reached its quota of space (alarm NOSPACE)"
        keys = [write.key for write in writes if write.value is not None][:_KEYS_LOOKED_AT]
        try:
            answer = await self._calls.transaction(
                etcd_wire.reads(keys, None, serializable=False), serializable=False
            )
        except MemberFault as fault:
            return CommitUncertain(f"{full}; whether this was still written is unknown: {fault}")
        unchanged = etcd_wire.from_etcd(answer.header.revision) == before
        for response in answer.responses:
            found = etcd_wire.items(response.response_range.kvs)
            unchanged = unchanged or any(item.revision <= before for item in found)
        if unchanged:
            return QuotaExceeded(f"{full}; nothing was written")
        return CommitUncertain(f"{full}; whether this was still written is unknown")


def _next_part(count: int, size: int) -> int:
    """Return how many more items to ask for, given what a page holds so far."""
    room = (PAGE_BYTES - size) * count // max(size, 1)
    return max(1, min(room + 1, 8 * count, _MOST_ITEMS))


def _within(changes: Sequence[Change], start: bytes, end: bytes | None) -> list[Change]:
    return [change for change in changes if change.key >= start and (end is None or change.key < end)]
