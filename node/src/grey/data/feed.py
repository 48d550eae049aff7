# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells a client every change of the keys with a prefix, in order of their positions, from a position on."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import msgspec

from grey.data import keyspace
from grey.data.errors import Copied
from grey.data.history import parse_position
from grey.data.stored import decode_value
from grey.record import Envelope, Position
from grey.store.interface import Item

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from grey.data.history import History
    from grey.store.interface import Change, Store

PROGRESS_SECONDS = 5.0
"""While nothing matches, the watcher hears at least this often how far the store is."""

_WATCHED_END = keyspace.POSITION + b"\x00"


class Batch(msgspec.Struct, frozen=True):
    """The changes of one transaction of this store, in order of their positions; none: only progress.

    Whoever has seen this batch has seen every change up to ``position``, and can go on from there anywhere.
    """

    envelopes: list[Envelope]
    position: Position


class Feed:
    """Watches of users' keys. Each costs one watch of the store, and no memory while its client is slow."""

    def __init__(self, store: Store, history: History, *, progress_seconds: float = PROGRESS_SECONDS) -> None:
        self._store = store
        self._history = history
        self._progress = progress_seconds

    async def watch(self, prefix: bytes, after: Position | None) -> AsyncIterator[Batch]:
        """Give the changes after a position; None: from now on, and where that is comes first.

        Raises Compacted when the changes are no longer kept, Diverged when the position belongs to another
        history, NotYetHere, Copied when a full copy begins, StoreDamaged and other errors of the store.
        """
        if await self._store.get(keyspace.COPYING) is not None:
            raise Copied
        state = await (self._history.newest() if after is None else self._history.state_at(after))
        revision, seen = state.revision, state.position
        # Once more: of a copy that has begun by this revision, the changes that follow say nothing.
        if await self._store.get(keyspace.COPYING, revision=revision) is not None:
            raise Copied
        if after is None:
            yield Batch([], seen)
        source = self._store.watch(keyspace.DATA, _WATCHED_END, after=revision)
        async with aclosing(cast("AsyncGenerator[list[Change], None]", source)) as transactions:
            found = self._batches(transactions, keyspace.data_key(prefix), seen)
            # Closed before its source: what it still waits for would keep that from being closed.
            async with aclosing(cast("AsyncGenerator[Batch, None]", found)) as batches:
                async for batch in batches:
                    yield batch

    async def _batches(
        self, transactions: AsyncIterator[list[Change]], prefix: bytes, seen: Position
    ) -> AsyncIterator[Batch]:
        """Turn transactions into batches, and the silence between those that match into progress."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._progress
        following: asyncio.Future[list[Change]] | None = None
        try:
            while True:
                if following is None:
                    following = asyncio.ensure_future(anext(transactions))
                await asyncio.wait([following], timeout=max(0.0, due - loop.time()))
                found: list[Envelope] = []
                if following.done():
                    found, upto = _read(following.result(), prefix, seen)
                    following = None
                    seen = max(seen, upto)
                if found or loop.time() >= due:
                    yield Batch(found, seen)
                    due = loop.time() + self._progress
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


def _read(changes: list[Change], prefix: bytes, after: Position) -> tuple[list[Envelope], Position]:
    """Return the records of a transaction that match and come after a position, and where it ends.

    A key that was removed is no record: its deletion was one before. Raises Copied, StoreDamaged.
    """
    found: list[Envelope] = []
    upto = after
    for change in changes:
        if change.value is None:
            continue
        if change.key.startswith(prefix):
            envelope = decode_value(change.key, change.value)
            if envelope.position > after:
                found.append(envelope)
        elif change.key == keyspace.POSITION:
            upto = parse_position(Item(change.key, change.value, change.revision))
        elif change.key == keyspace.COPYING:
            raise Copied
    found.sort(key=lambda envelope: envelope.position)
    return found, upto
