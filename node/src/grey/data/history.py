# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history that a store holds: its epoch, its position, and which of its own revisions a position is."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from grey.data import keyspace
from grey.data.errors import Diverged, HigherEpoch, NotYetHere
from grey.data.restored import parse_mark
from grey.data.stored import decode_value
from grey.record import Position, Stamp
from grey.record.position import ORIGIN
from grey.store.interface import Compacted, Compare, CompareFailed, EngineUnreachable, StoreDamaged, Write

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from grey.record import Envelope
    from grey.store.interface import Change, Item, Store, StoreStatus


PATIENCE_SECONDS = 5.0
"""How long the engine may take to tell a transaction that it has."""


class Provenance(msgspec.Struct, frozen=True, array_like=True):
    """When and where a record was written: tells apart two that have one position in two histories."""

    stamp: Stamp
    origin: str


class State(NamedTuple):
    """What a store held at ``position``: what it held at its ``revision``, and the records ``beyond``.

    Those, by key, belong to the transaction after that revision, which a replica made of several.
    """

    position: Position
    revision: int
    beyond: dict[bytes, Envelope]


class History:
    """Reads and moves the marks that a store keeps of its own history."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def epoch(self) -> int | None:
        """Return the epoch in which this cluster may write, None before the first. Raises StoreDamaged."""
        return parse_epoch(await self._store.get(keyspace.EPOCH))

    async def position(self) -> Position:
        """Return the position of the newest record held here. Raises StoreDamaged."""
        return parse_position(await self._store.get(keyspace.POSITION))

    async def restored(self) -> int | None:
        """Return the epoch of the snapshot that this data was restored from, None when it was not.

        In that epoch and below nothing is written here any more. Raises StoreDamaged.
        """
        mark = parse_mark(await self._store.get(keyspace.RESTORED))
        return None if mark is None else mark.epoch

    async def claim(self, epoch: int) -> None:
        """Make ``epoch`` the one in which writes are taken here; the same again changes nothing.

        From then on every write of a lower epoch fails. Raises HigherEpoch, and what a commit raises; after
        CommitUncertain call it again.
        """
        while True:
            item = await self._store.get(keyspace.EPOCH)
            held = parse_epoch(item)
            if held == epoch:
                return
            if held is not None and held > epoch:
                raise HigherEpoch(epoch, held)
            try:
                await self._store.commit(
                    [Compare(keyspace.EPOCH, None if item is None else item.value)],
                    [Write(keyspace.EPOCH, format_epoch(epoch))],
                )
            except CompareFailed:
                continue

    async def revision_of(self, position: Position) -> int:
        """Return the newest revision at which every record held here was at or before ``position``.

        Whoever holds the records up to ``position`` holds those of this revision, and lacks nothing that is
        not in a later one. Raises Diverged when this history has another epoch at that sequence or is
        shorter, Compacted when that part of the history is no longer kept.
        """
        try:
            return (await self.state_at(position)).revision
        except NotYetHere as shorter:
            raise Diverged(position, shorter.held) from shorter

    async def newest(self) -> State:
        """Return the newest state. Raises StoreDamaged."""
        while True:
            try:
                return await self.state_of((await self._store.status()).revision)
            except Compacted:
                continue

    async def state_of(self, revision: int) -> State:
        """Return the state at a revision of the store. Raises Compacted, StoreDamaged."""
        return State(await self._position_at(revision), revision, {})

    async def state_at(self, position: Position) -> State:
        """Return the state at a position, with the newest revision that has nothing beyond it.

        Raises what ``revision_of`` raises, but NotYetHere when this history may still get there.
        """
        while True:
            # A member's status is its own word, and it may lag; it has caught up when it answers this.
            await self._store.get(keyspace.POSITION)
            status = await self._store.status()
            try:
                return await self._search(position, status)
            except Compacted:
                # What was looked at first may be gone by now, and what is asked for still be there.
                if (await self._store.status()).compacted == status.compacted:
                    raise

    async def _search(self, position: Position, status: StoreStatus) -> State:
        low, high = status.compacted, status.revision
        held = await self._position_at(low)
        if held.sequence > position.sequence:
            raise Compacted(low - 1, low)
        # Invariant: at ``low`` the sequence is not beyond the one asked for, after ``high`` it is.
        while low < high:
            middle = (low + high + 1) // 2
            found = await self._position_at(middle)
            if found.sequence <= position.sequence:
                low, held = middle, found
            else:
                high = middle - 1
        if held == position:
            return State(position, low, {})
        if held.sequence == position.sequence:
            raise Diverged(position, held)
        if low == status.revision:
            raise Diverged(position, held) if position.epoch < held.epoch else NotYetHere(position, held)
        beyond = _upto(await first_transaction(self._store, after=low), position.sequence)
        last = max((envelope.position for envelope in beyond), default=held)
        if last.sequence < position.sequence:
            # The records came with a full copy: nothing here says in which epochs they were written.
            raise Compacted(low, low + 1)
        if last != position:
            raise Diverged(position, last)
        return State(position, low, {envelope.key: envelope for envelope in beyond})

    async def provenance_of(self, position: Position, *, revision: int | None = None) -> Provenance | None:
        """Return the provenance of the record at ``position``; None when its transaction is not kept here.

        So it is at the origin, right after a full copy and after compaction. ``revision`` is what
        ``revision_of`` returned for the position; without it the position is that of the newest record here
        (None when it is not). Raises StoreDamaged.
        """
        if position == ORIGIN:
            return None
        try:
            mark = await self._store.get(keyspace.POSITION, revision=revision)
            if mark is not None and parse_position(mark) == position:
                before = mark.revision - 1
            elif revision is not None:
                before = revision  # the record is inside the next transaction
            else:
                return None
            found = _record(await first_transaction(self._store, after=before), position.sequence)
        except Compacted:
            return None
        return None if found is None else Provenance(found.stamp, found.origin)

    async def _position_at(self, revision: int) -> Position:
        return parse_position(await self._store.get(keyspace.POSITION, revision=revision))


async def first_transaction(store: Store, *, after: int) -> list[Change]:
    """Return the changes of the first transaction after a revision, which must exist.

    Raises Compacted; EngineUnreachable when the engine has frozen meanwhile: a watch alone would wait for it.
    """
    watch = cast("AsyncGenerator[list[Change], None]", store.watch(b"", None, after=after))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(watch):
            return await anext(watch)
    except TimeoutError:
        raise EngineUnreachable(
            f"the engine did not tell the changes after revision {after} within {PATIENCE_SECONDS:g} s"
        ) from None


def _upto(changes: list[Change], sequence: int) -> list[Envelope]:
    """Return the records of a transaction up to a sequence number; raises StoreDamaged."""
    found = [
        decode_value(change.key, change.value)
        for change in changes
        if change.value is not None and change.key.startswith(keyspace.DATA)
    ]
    return [envelope for envelope in found if envelope.position.sequence <= sequence]


def _record(changes: list[Change], sequence: int) -> Envelope | None:
    """Return the record of a transaction with a sequence number; raises StoreDamaged."""
    for change in changes:
        if change.value is not None and change.key.startswith(keyspace.DATA):
            found = decode_value(change.key, change.value)
            if found.position.sequence == sequence:
                return found
    return None


def format_epoch(epoch: int) -> bytes:
    """Return the stored form of an epoch."""
    return str(epoch).encode("ascii")


def format_position(position: Position) -> bytes:
    """Return the stored form of a position."""
    return str(position).encode("ascii")


def parse_epoch(item: Item | None) -> int | None:
    """Read a stored epoch; raises StoreDamaged."""
    if item is None:
        return None
    if not item.value.isdigit():
        raise StoreDamaged(f"the epoch in the store is {item.value!r}, a number was wanted; restore a backup")
    return int(item.value)


def parse_position(item: Item | None) -> Position:
    """Read a stored position, the origin when there is none; raises StoreDamaged."""
    if item is None:
        return ORIGIN
    try:
        return Position.parse(item.value.decode("ascii", "replace"))
    except ValueError as error:
        raise StoreDamaged(f"the position in the store: {error}; restore a backup") from error
