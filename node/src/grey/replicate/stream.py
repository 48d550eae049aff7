# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One stream of the source: ships what the store's watch reports, cut at transaction boundaries.

Memory is bounded: one batch that is being collected, one transaction that waits for it, and at most
``MOST_UNCONFIRMED`` batches on the way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from grey.data import keyspace
from grey.record.envelope import decode
from grey.replicate import wire
from grey.replicate.batcher import Batcher
from grey.replicate.tasks import closing, race
from grey.store.interface import Change, StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.data.history import History
    from grey.record import Position
    from grey.replicate.channel import Channel
    from grey.store.interface import Store

MOST_UNCONFIRMED = 4
"""Batches that may be on the way without a Confirm."""
SILENCE_SECONDS = 30.0
"""A follower probes many times a second; one that is silent for so long is gone."""
ROLE_CHECK_SECONDS = 0.25
"""An idle stream asks so often whether this is still the primary."""


class Stream:
    """Serves one follower from a revision of the own store on."""

    def __init__(
        self,
        store: Store,
        history: History,
        channel: Channel,
        *,
        check_role: Callable[[], None],
        after: Position,
        revision: int,
        batch_size: int,
        interval_seconds: float,
        monotonic: Callable[[], float],
        confirmed: Callable[[Position], None],
        shipped: Callable[[int], None],
    ) -> None:
        """``check_role`` raises when the epoch of the stream is over; ``revision`` is where ``after`` stands.

        ``confirmed`` is told each position that the follower holds, ``shipped`` the records of each batch.
        """
        self._store = store
        self._history = history
        self._channel = channel
        self._check_role = check_role
        self._after = after
        self._revision = revision
        self._interval = interval_seconds
        self._monotonic = monotonic
        self._note_confirmed = confirmed
        self._note_shipped = shipped
        self._batcher = Batcher(batch_size)
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._nonce: int | None = None
        self._unconfirmed: deque[Position] = deque()
        self._sent_upto = after
        self._head = after

    async def run(self) -> None:
        """Serve until something ends it: always raises.

        ChannelClosed, ProtocolError, TimeoutError (a silent follower), Compacted, what ``check_role`` raises,
        and the errors of the store.
        """
        await race(self._collect(), self._ship(), self._listen())

    async def _collect(self) -> None:
        """Move transactions from the watch into the batch, waiting while there is no room."""
        watch = self._store.watch(keyspace.DATA, keyspace.DATA_END, after=self._revision)
        async with closing(watch) as transactions:
            async for changes in transactions:
                records = _records(changes, self._after)
                if not records:
                    continue
                encoded = [data for _, data in records]
                while not self._batcher.add(encoded, records[-1][0]):
                    self._room.clear()
                    self._wake.set()
                    await self._room.wait()
                self._wake.set()

    async def _ship(self) -> None:
        """Send batches, each when it is full or an interval after the one before, and answers in between."""
        due = self._monotonic()
        while True:
            self._wake.clear()
            self._check_role()
            if self._nonce is not None:
                await self._answer(self._nonce)
            ready = not self._batcher.empty and len(self._unconfirmed) < MOST_UNCONFIRMED
            wait = 0.0 if self._batcher.full else due - self._monotonic()
            if ready and wait <= 0:
                due = self._monotonic() + self._interval
                await self._send_batch()
                continue
            try:
                async with asyncio.timeout(min(wait, ROLE_CHECK_SECONDS) if ready else ROLE_CHECK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _send_batch(self) -> None:
        batch = self._batcher.take()
        if batch is None:
            return
        self._room.set()
        self._unconfirmed.append(batch.upto)
        self._sent_upto = batch.upto
        self._head = max(self._head, batch.upto)
        await self._channel.send(wire.encode(wire.Records(batch.transactions, self._head)))
        self._note_shipped(batch.records)

    async def _answer(self, nonce: int) -> None:
        """Answer the newest probe. The role is checked after the head is read (``grey.replicate.wire``)."""
        self._nonce = None
        self._head = max(self._head, await self._history.position())
        self._check_role()
        await self._channel.send(
            wire.encode(wire.Answer(nonce, self._head, fenced=True, shipped=self._sent_upto))
        )

    async def _listen(self) -> None:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                message = wire.decode_from_follower(await self._channel.receive())
            if isinstance(message, wire.Probe):
                self._nonce = message.nonce
            elif isinstance(message, wire.Confirm):
                self._confirm(message.position)
            else:
                raise wire.ProtocolError("wanted Probe or Confirm, found a second Hello")
            self._wake.set()

    def _confirm(self, position: Position) -> None:
        if position > self._sent_upto:
            raise wire.ProtocolError(f"the follower confirms {position}, but was sent {self._sent_upto} only")
        while self._unconfirmed and self._unconfirmed[0] <= position:
            self._unconfirmed.popleft()
        self._note_confirmed(position)


def _records(changes: list[Change], after: Position) -> list[tuple[Position, bytes]]:
    """Return the records of one transaction that come after a position, in order.

    A key that was removed is no record. Nothing removes tombstones yet; a delete is a record of its own.
    """
    try:
        found = [
            (decode(change.value).position, change.value) for change in changes if change.value is not None
        ]
    except msgspec.DecodeError as error:
        where = changes[0].revision
        raise StoreDamaged(
            f"a record of revision {where} in the data store cannot be read ({error}): it is not replicated. "
            "Restore this cluster from a backup or promote another one"
        ) from error
    return sorted(record for record in found if record[0] > after)
