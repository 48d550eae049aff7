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
from grey.data.conditions import Expired, holds
from grey.data.errors import (
    ConditionFailed,
    DataError,
    OutcomeUnknown,
    Overloaded,
    RequestIdReused,
    WriterStopped,
)
from grey.data.expiry import index_writes
from grey.data.fence import DeadlinePassed, WriteRefused
from grey.data.history import (
    first_transaction,
    format_epoch,
    format_position,
    parse_epoch,
    parse_position,
)
from grey.data.requests import Operation, Written, decode_entry, entry_writes, needless_write
from grey.data.stored import decode_item, decode_value
from grey.data.turns import Turns
from grey.data.waiting import MAX_OPERATIONS, Request, WaitingQueue
from grey.record import SteadyClock
from grey.record.envelope import Envelope, RequestRef, encode
from grey.record.position import Position
from grey.store.interface import Compacted, Compare, CompareFailed, DiskFull, StoreDamaged, StoreError, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from grey.data.conditions import At, Condition
    from grey.data.fence import Fence
    from grey.data.mirror import Mirror
    from grey.record import HybridClock
    from grey.store.interface import Item, Store

__all__ = ["Operation", "Writer", "Written"]

MAX_TTL_SECONDS = 100 * 366 * 86400.0
"""About a hundred years; whoever wants longer wants no time to live."""


_LINGER_SECONDS = 0.004
_GATHER_SECONDS = 0.002
_GATHER_TURNS = 3
"""So many turns of the event loop lie between the bytes of a request and its place in the queue."""


class _Head(NamedTuple):
    """Where the history stands; ``stored`` is what the next transaction compares (None: never written)."""

    position: Position
    stored: bytes | None


class _Answer(NamedTuple):
    """What a request is answered with, once its transaction is durable and the fence still stands."""

    request: Request
    result: list[Written] | RequestIdReused | ConditionFailed


class Writer:
    """Takes users' writes and commits them in groups; nothing happens unless ``run`` runs."""

    def __init__(
        self,
        store: Store,
        fence: Fence,
        *,
        cluster: str,
        clock: HybridClock,
        now: Callable[[], int] | None = None,
        mirror: Mirror | None = None,
        max_waiting: int = 4096,
    ) -> None:
        """``cluster`` is the origin of what is written here.

        ``now`` counts times to live, in microseconds since the Unix epoch (a SteadyClock's, which those who
        hide and delete what has expired share). ``mirror`` is told what was committed before anybody is
        answered.
        """
        self._store = store
        self._fence = fence
        self._cluster = cluster
        self._clock = clock
        self._now = now or SteadyClock().now
        self._mirror = mirror
        self._max_waiting = max_waiting
        self._queue = WaitingQueue()
        self._arrived = asyncio.Event()
        self._stopped = False
        self._head: _Head | None = None
        self._turns = Turns(store)
        self._overtaken = 0

    async def put(
        self,
        key: bytes,
        value: bytes,
        request_id: str | None = None,
        *,
        ttl_seconds: float | None = None,
        condition: Condition | None = None,
    ) -> Written:
        """Set a key durably, for ``ttl_seconds`` (None: for ever), if the condition holds.

        Raises OutcomeUnknown; or WriteRefused, ConditionFailed, RequestIdReused, Overloaded, WriterStopped,
        DiskFull or another StoreError, and then nothing was written. A cancelled caller does not know the
        outcome.
        """
        operation = Operation(key, value, ttl_seconds, condition)
        return (await self._submit((operation,), request_id, batch=False))[0]

    async def delete(
        self, key: bytes, request_id: str | None = None, *, condition: At | None = None
    ) -> Written:
        """Delete a key durably; nothing is written when it is not there. Raises what ``put`` raises."""
        operation = Operation(key, None, condition=condition)
        return (await self._submit((operation,), request_id, batch=False))[0]

    async def expire(self, key: bytes, position: Position) -> Written:
        """Delete a version whose time is over. Raises what ``delete`` raises."""
        operation = Operation(key, None, condition=Expired(position))
        return (await self._submit((operation,), None, batch=False))[0]

    async def batch(self, operations: Sequence[Operation], request_id: str | None = None) -> list[Written]:
        """Carry out operations on distinct keys, all or nothing; the answers are in their order.

        Every operation writes a record, also the delete of a key that is not there. Raises what ``put``
        raises, and ValueError for no operation, more than MAX_OPERATIONS (one with a time to live counts
        twice), or a key that occurs twice.
        """
        if not 1 <= len(operations) <= MAX_OPERATIONS:
            raise ValueError(f"a batch has 1 to {MAX_OPERATIONS} operations, not {len(operations)}")
        if (
            sum(operation.ttl_seconds is not None for operation in operations) + len(operations)
            > MAX_OPERATIONS
        ):
            raise ValueError(
                f"an operation with a time to live counts twice, and {MAX_OPERATIONS} is the most"
            )
        if len({operation.key for operation in operations}) != len(operations):
            raise ValueError("a batch writes a key at most once")
        return await self._submit(tuple(operations), request_id, batch=True)

    async def run(self) -> None:
        """Commit what waits until cancelled. Raises StoreDamaged when the store cannot go on."""
        self._stopped = False
        self._head = None
        try:
            while True:
                if self._turns.held is not None:
                    await self._linger()
                await self._arrived.wait()
                self._arrived.clear()
                await self._gather()
                while group := self._queue.take_group():
                    await self._carry_out(group)
                    await self._gather()
        finally:
            self._stopped = True
            _refuse(self._queue.drain(), WriterStopped())

    async def _gather(self) -> None:
        """Let requests that have reached this host join: a transaction costs as much as several of them.

        Nobody waits for those that may come: a few turns of the loop without another one end it.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _GATHER_SECONDS
        seen = 0
        while seen < len(self._queue) < MAX_OPERATIONS and loop.time() < end:
            seen = len(self._queue)
            for _ in range(_GATHER_TURNS):
                await asyncio.sleep(0)

    async def _linger(self) -> None:
        """Keep the turn for the next requests of the clients that were just answered, but not without any."""
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._arrived.wait()
        except TimeoutError:
            await self._turns.give_back()

    async def _submit(
        self, operations: tuple[Operation, ...], request_id: str | None, *, batch: bool
    ) -> list[Written]:
        if self._stopped:
            raise WriterStopped
        if len(self._queue) >= self._max_waiting:
            raise Overloaded(len(self._queue))
        for operation in operations:
            if operation.ttl_seconds is not None and not 0 < operation.ttl_seconds <= MAX_TTL_SECONDS:
                raise ValueError(f"a time to live is up to {MAX_TTL_SECONDS} s, not {operation.ttl_seconds}")
        outcome: asyncio.Future[list[Written]] = asyncio.get_running_loop().create_future()
        self._queue.append(Request(operations, request_id, outcome, batch=batch))
        self._arrived.set()
        return await outcome

    async def _carry_out(self, group: list[Request]) -> None:
        """Answer every request of a group, or put it back in front of the queue."""
        try:
            await self._answer(group)
        finally:
            self._queue.finish(group)

    async def _answer(self, group: list[Request]) -> None:
        try:
            await self._attempt(group)
        except CompareFailed:
            # The epoch or the position moved: look at everything again, at the request ids too.
            self._head = None
            self._overtaken += 1
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
        if self._overtaken:
            await self._turns.contend(self._overtaken)
        epoch = self._fence.epoch()
        head, found = await self._look(group, epoch)
        envelopes, needless, answers = self._plan(group, epoch, head, found)
        if envelopes or needless:
            await self._commit(group, envelopes, needless, epoch, head)
        elif self._fence.epoch() != epoch:
            raise DeadlinePassed
        self._overtaken = 0
        if self._mirror is not None and any(_done_before(result) for _, result in answers):
            mark = found.get(keyspace.POSITION)
            self._mirror.expect(0 if mark is None else mark.revision)
        for request, result in answers:
            if isinstance(result, DataError):
                _refuse([request], result)
            elif not request.outcome.done():
                request.outcome.set_result(result)

    async def _look(self, group: list[Request], epoch: int) -> tuple[_Head, dict[bytes, Item]]:
        """Read what the group depends on: request ids, keys that matter, and where the history stands.

        Raises WriteRefused when the store is not in ``epoch``.
        """
        keys = [request.entry_key for request in group if request.entry_key is not None]
        keys += [key for request in group for key in request.depends_on]
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
    ) -> tuple[list[Envelope], list[Write], list[_Answer]]:
        """Decide what to write and what to answer.

        The second part keeps the ids of deletes that found nothing to delete: a late first attempt must not
        delete what was put after its retry was answered.
        """
        envelopes: list[Envelope] = []
        needless: list[Write] = []
        answers: list[_Answer] = []
        now = self._now()
        for request in group:
            earlier: list[Written] | RequestIdReused | ConditionFailed | None = _earlier_answer(
                request, found
            )
            if earlier is None:
                earlier = _unmet(request, found, now)
                if isinstance(earlier, list) and request.request_id is not None:
                    needless.append(needless_write(request.request_id, request.digest, self._clock.now()))
            if earlier is not None:
                answers.append(_Answer(request, earlier))
                continue
            first = head.position.sequence + len(envelopes) + 1
            records = self._records(request, Position(epoch, first), now)
            envelopes += records
            answers.append(
                _Answer(request, [Written(record.key, record.position, record.stamp) for record in records])
            )
        return envelopes, needless, answers

    def _records(self, request: Request, first: Position, now: int) -> list[Envelope]:
        """Return the records of a request: one stamp, consecutive positions; ``now`` in microseconds."""
        stamp = self._clock.now()
        origin, name, digest = self._cluster, request.request_id, request.digest
        epoch, sequence = first.epoch, first.sequence
        count = len(request.operations)
        return [
            Envelope(
                operation.key,
                operation.value,
                Position(epoch, sequence + index),
                stamp,
                origin,
                None if name is None else RequestRef(name, index, count, digest),
                None if operation.ttl_seconds is None else now + int(operation.ttl_seconds * 1e6),
            )
            for index, operation in enumerate(request.operations)
        ]

    async def _commit(
        self, group: list[Request], envelopes: list[Envelope], needless: list[Write], epoch: int, head: _Head
    ) -> None:
        """Make the records durable, and check that they may be acknowledged.

        Raises CompareFailed and DiskFull (nothing was written), OutcomeUnknown; before anything else is
        raised, the group has been told that its outcome is unknown.
        """
        last = envelopes[-1].position if envelopes else head.position
        writes = [Write(keyspace.data_key(envelope.key), encode(envelope)) for envelope in envelopes]
        stored = len(writes)
        writes += entry_writes(envelopes)
        writes += needless
        writes += index_writes(envelopes)
        if envelopes:
            writes.append(Write(keyspace.POSITION, format_position(last)))
        last_turn = self._turns.release()
        writes += last_turn
        compares = [
            Compare(keyspace.EPOCH, format_epoch(epoch)),
            Compare(keyspace.POSITION, head.stored),
            self._turns.compare(),
        ]
        try:
            revision = await self._store.commit(compares, writes)
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
        if last_turn:
            self._turns.released()
        if self._mirror is not None:
            records = zip(envelopes, writes[:stored], strict=True)
            self._mirror.wrote(revision, [(e.key, None if e.deleted else w.value) for e, w in records])
        if held != epoch:
            raise OutcomeUnknown(f"epoch {epoch} ended while it was stored, now it is {held}")
        self._head = _Head(last, format_position(last) if envelopes else head.stored)


def _unmet(request: Request, found: dict[bytes, Item], now: int) -> list[Written] | ConditionFailed | None:
    """Return the answer of a request that must not or need not be carried out; None when it is."""
    for key, operation in zip(request.data_keys, request.operations, strict=True):
        condition = operation.condition
        if condition is None and not request.is_single_delete:
            continue
        envelope = decode_item(found[key]) if key in found else None
        position = None if envelope is None or envelope.deleted else envelope.position
        expired = envelope is not None and envelope.expires is not None and envelope.expires <= now
        if condition is None:
            if position is None or expired:
                return [Written(operation.key, None, None, existed=False)]
        elif not holds(condition, position, expired=expired):
            return ConditionFailed(operation.key, None if expired else position)
    return None


def _earlier_answer(request: Request, found: dict[bytes, Item]) -> list[Written] | RequestIdReused | None:
    """Return what a request with this id was answered before; None when there was none."""
    if request.entry_key is None or request.request_id is None or request.entry_key not in found:
        return None
    entry = decode_entry(found[request.entry_key].value)
    if entry.digest != request.digest:
        return RequestIdReused(request.request_id)
    if entry.count == 0:
        return [Written(request.operations[0].key, None, None, existed=False, replayed=True)]
    return [
        Written(operation.key, entry.position(index), entry.stamp, replayed=True)
        for index, operation in enumerate(request.operations)
    ]


def _done_before(result: list[Written] | DataError) -> bool:
    """Whether another write did what is acknowledged: this process may not have seen it yet."""
    return isinstance(result, list) and (result[0].replayed or not result[0].existed)


def _refuse(requests: Iterable[Request], error: Exception) -> None:
    """Give callers that still wait the error, to each its own copy: a raised one collects tracebacks."""
    for request in requests:
        if not request.outcome.done():
            own = type(error).__new__(type(error), *error.args)
            own.__dict__.update(error.__dict__)
            own.__cause__ = error
            request.outcome.set_exception(own)
