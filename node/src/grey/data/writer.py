# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users' writes: fenced, and committed in groups.

All requests that wait go into one engine transaction; while it is made durable the next one fills up. The
fence is asked before the commit and again after it, and the transaction itself compares the epoch in the
store: a write is acknowledged only if all three name one epoch (design, section 5).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from grey.data import keyspace
from grey.data.errors import OutcomeUnknown, Overloaded, RequestIdReused, WriterStopped
from grey.data.fence import DeadlinePassed, WriteRefused
from grey.data.history import (
    first_transaction,
    format_epoch,
    format_position,
    parse_epoch,
    parse_position,
)
from grey.data.reader import decode_item, decode_value
from grey.data.requests import Operation, Written, decode_entry, entry_writes
from grey.data.waiting import MAX_OPERATIONS, Request, WaitingQueue
from grey.record.envelope import Envelope, RequestRef, encode
from grey.record.position import Position
from grey.store.interface import Compacted, Compare, CompareFailed, DiskFull, StoreDamaged, StoreError, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from grey.data.fence import Fence
    from grey.record import HybridClock
    from grey.store.interface import Item, Store

__all__ = ["Operation", "Writer", "Written"]


class _Head(NamedTuple):
    """Where the history stands; ``stored`` is what the next transaction compares (None: never written)."""

    position: Position
    stored: bytes | None


class _Answer(NamedTuple):
    """What a request is answered with, once its transaction is durable and the fence still stands."""

    request: Request
    result: list[Written] | RequestIdReused


class Writer:
    """Takes users' writes and commits them in groups; nothing happens unless ``run`` runs."""

    def __init__(
        self,
        store: Store,
        fence: Fence,
        *,
        cluster: str,
        clock: HybridClock,
        max_waiting: int = 4096,
    ) -> None:
        """``cluster`` is the origin of what is written here."""
        self._store = store
        self._fence = fence
        self._cluster = cluster
        self._clock = clock
        self._max_waiting = max_waiting
        self._queue = WaitingQueue()
        self._arrived = asyncio.Event()
        self._stopped = False
        self._head: _Head | None = None

    async def put(self, key: bytes, value: bytes, request_id: str | None = None) -> Written:
        """Set a key durably.

        Raises OutcomeUnknown; or WriteRefused, RequestIdReused, Overloaded, WriterStopped, DiskFull or
        another StoreError, and then nothing was written. A cancelled caller does not know the outcome.
        """
        return (await self._submit((Operation(key, value),), request_id, batch=False))[0]

    async def delete(self, key: bytes, request_id: str | None = None) -> Written:
        """Delete a key durably; nothing is written when it is not there. Raises what ``put`` raises."""
        return (await self._submit((Operation(key, None),), request_id, batch=False))[0]

    async def batch(self, operations: Sequence[Operation], request_id: str | None = None) -> list[Written]:
        """Carry out operations on distinct keys, all or nothing; the answers are in their order.

        Every operation writes a record, also the delete of a key that is not there. Raises what ``put``
        raises, and ValueError for no operation, more than MAX_OPERATIONS, or a key that occurs twice.
        """
        if not 1 <= len(operations) <= MAX_OPERATIONS:
            raise ValueError(f"a batch has 1 to {MAX_OPERATIONS} operations, not {len(operations)}")
        if len({operation.key for operation in operations}) != len(operations):
            raise ValueError("a batch writes a key at most once")
        return await self._submit(tuple(operations), request_id, batch=True)

    async def run(self) -> None:
        """Commit what waits until cancelled. Raises StoreDamaged when the store cannot go on."""
        self._stopped = False
        self._head = None
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while group := self._queue.take_group():
                    await self._carry_out(group)
        finally:
            self._stopped = True
            _refuse(self._queue.drain(), WriterStopped())

    async def _submit(
        self, operations: tuple[Operation, ...], request_id: str | None, *, batch: bool
    ) -> list[Written]:
        if self._stopped:
            raise WriterStopped
        if len(self._queue) >= self._max_waiting:
            raise Overloaded(len(self._queue))
        outcome: asyncio.Future[list[Written]] = asyncio.get_running_loop().create_future()
        self._queue.append(Request(operations, request_id, outcome, batch=batch))
        self._arrived.set()
        return await outcome

    async def _carry_out(self, group: list[Request]) -> None:
        """Answer every request of a group, or put it back in front of the queue."""
        try:
            await self._attempt(group)
        except CompareFailed:
            # The epoch or the position moved: look at everything again, at the request ids too.
            self._head = None
            self._queue.put_back([request for request in group if not request.outcome.done()])
        except OutcomeUnknown as unknown:
            self._head = None
            _refuse(group, unknown)
        except StoreDamaged as damage:
            _refuse(group, damage)
            raise
        except (WriteRefused, StoreError) as refusal:
            _refuse(group, refusal)
        except BaseException:
            _refuse(group, WriterStopped())
            raise

    async def _attempt(self, group: list[Request]) -> None:
        epoch = self._fence.epoch()
        head, found = await self._look(group, epoch)
        envelopes, answers = self._plan(group, epoch, head, found)
        if envelopes:
            await self._commit(group, envelopes, epoch, head)
        elif self._fence.epoch() != epoch:
            raise DeadlinePassed
        for request, result in answers:
            if isinstance(result, RequestIdReused):
                _refuse([request], result)
            elif not request.outcome.done():
                request.outcome.set_result(result)

    async def _look(self, group: list[Request], epoch: int) -> tuple[_Head, dict[bytes, Item]]:
        """Read what the group depends on: request ids, keys to delete, and where the history stands.

        Raises WriteRefused when the store is not in ``epoch``.
        """
        keys = [request.entry_key for request in group if request.entry_key is not None]
        keys += [request.data_keys[0] for request in group if _is_single_delete(request)]
        head = self._head
        if head is not None and not keys:
            return head, {}
        found = await self._store.get_many([keyspace.EPOCH, keyspace.POSITION, *keys])
        if parse_epoch(found.get(keyspace.EPOCH)) != epoch:
            raise DeadlinePassed
        item = found.get(keyspace.POSITION)
        head = _Head(parse_position(item), None if item is None else item.value)
        if head.position.epoch > epoch:
            raise DeadlinePassed
        if item is not None and head != self._head:
            # Somebody else wrote it: another process before, a follower, or a commit that came late.
            await self._prime_clock(item.revision)
        self._head = head
        return head, found

    async def _prime_clock(self, revision: int) -> None:
        """Take note of the newest records' stamps, so that a wall clock that was set back does no harm."""
        try:
            changes = await first_transaction(self._store, after=revision - 1)
        except Compacted:
            return
        for change in changes:
            if change.value is not None and change.key.startswith(keyspace.DATA):
                self._clock.observe(decode_value(change.key, change.value).stamp)

    def _plan(
        self, group: list[Request], epoch: int, head: _Head, found: dict[bytes, Item]
    ) -> tuple[list[Envelope], list[_Answer]]:
        """Decide what to write and what to answer."""
        envelopes: list[Envelope] = []
        answers: list[_Answer] = []
        for request in group:
            earlier = _earlier_answer(request, found)
            if earlier is not None:
                answers.append(_Answer(request, earlier))
                continue
            key = request.operations[0].key
            if _is_single_delete(request) and not _exists(found.get(request.data_keys[0])):
                answers.append(_Answer(request, [Written(key, None, None, existed=False)]))
                continue
            first = head.position.sequence + len(envelopes) + 1
            records = self._records(request, Position(epoch, first))
            envelopes += records
            answers.append(
                _Answer(request, [Written(record.key, record.position, record.stamp) for record in records])
            )
        return envelopes, answers

    def _records(self, request: Request, first: Position) -> list[Envelope]:
        """Return the records of a request: one stamp, consecutive positions."""
        stamp = self._clock.now()
        count = len(request.operations)
        name = request.request_id
        return [
            Envelope(
                key=operation.key,
                value=operation.value,
                position=Position(first.epoch, first.sequence + index),
                stamp=stamp,
                origin=self._cluster,
                request=None if name is None else RequestRef(name, index, count, request.digest),
            )
            for index, operation in enumerate(request.operations)
        ]

    async def _commit(self, group: list[Request], envelopes: list[Envelope], epoch: int, head: _Head) -> None:
        """Make the records durable, and check that they may be acknowledged.

        Raises CompareFailed and DiskFull (nothing was written), OutcomeUnknown; before anything else is
        raised, the group has been told that its outcome is unknown.
        """
        last = envelopes[-1].position
        writes = [Write(keyspace.data_key(envelope.key), encode(envelope)) for envelope in envelopes]
        writes += entry_writes(envelopes)
        writes.append(Write(keyspace.POSITION, format_position(last)))
        compares = [
            Compare(keyspace.EPOCH, format_epoch(epoch)),
            Compare(keyspace.POSITION, head.stored),
        ]
        try:
            await self._store.commit(compares, writes)
            held = self._fence.epoch()
        except (CompareFailed, DiskFull):
            raise
        except WriteRefused as refusal:
            raise OutcomeUnknown(f"it was stored too late, {refusal}") from refusal
        except StoreDamaged as damage:
            _refuse(group, OutcomeUnknown(str(damage)))
            raise
        except StoreError as error:
            raise OutcomeUnknown(str(error)) from error
        except BaseException:
            _refuse(group, OutcomeUnknown("the node stopped before the store answered"))
            raise
        if held != epoch:
            raise OutcomeUnknown(f"epoch {epoch} ended while it was stored, now it is {held}")
        self._head = _Head(last, format_position(last))


def _is_single_delete(request: Request) -> bool:
    return not request.batch and request.operations[0].value is None


def _exists(item: Item | None) -> bool:
    return item is not None and not decode_item(item).deleted


def _earlier_answer(request: Request, found: dict[bytes, Item]) -> list[Written] | RequestIdReused | None:
    """Return what a request with this id was answered before; None when there was none."""
    if request.entry_key is None or request.request_id is None or request.entry_key not in found:
        return None
    entry = decode_entry(found[request.entry_key].value)
    if entry.digest != request.digest:
        return RequestIdReused(request.request_id)
    return [
        Written(operation.key, entry.position(index), entry.stamp, replayed=True)
        for index, operation in enumerate(request.operations)
    ]


def _refuse(requests: Iterable[Request], error: Exception) -> None:
    """Give callers that still wait the error, to each its own copy: a raised one collects tracebacks."""
    for request in requests:
        if not request.outcome.done():
            own = type(error).__new__(type(error), *error.args)
            own.__dict__.update(error.__dict__)
            own.__cause__ = error
            request.outcome.set_exception(own)
