# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deletes on the primary what has outlived its time, by ordinary deletes that replicate.

The index ``x/`` says when a key is to be looked at. Whoever stores a record with a time to live writes its
entry in the same transaction, also a replica, so that a promotion finds it. An entry is a hint and no more:
what counts is the record. It follows from the record alone and names a moment a little before the record
expires, the same one for many versions, so that a key that is renewed again and again has few entries.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from grey.data import keyspace
from grey.data.errors import ConditionFailed, DataError
from grey.data.fence import WriteRefused
from grey.data.stored import decode_item
from grey.store.interface import Compare, CompareFailed, StoreDamaged, StoreError, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from grey.data.fence import Fence
    from grey.data.writer import Writer
    from grey.record import Envelope
    from grey.store.interface import Item, Store

SWEEP_SECONDS = 0.5
"""How often is looked for keys whose time is over; on a replica, where only stale entries go, less often."""

_REPLICA_SECONDS = 10.0
_PAGE_ENTRIES = 250
_PAUSE_SECONDS = 0.02
_SHARES = 16
_SOON_MICROSECONDS = 2_000_000

_log = logging.getLogger(__name__)


def due_of(envelope: Envelope) -> int:
    """Return when a record with a time to live is to be looked at first, in microseconds.

    That is up to a sixteenth of its time to live before it expires, and at least a second or so.
    """
    expires = envelope.expires or 0
    share = max(0, expires - envelope.stamp.microseconds) // _SHARES
    grain = 1 << max(20, share.bit_length() - 1)
    return _storable(expires // grain * grain)


def index_writes(envelopes: Iterable[Envelope]) -> list[Write]:
    """Return the index entries that are stored together with some records."""
    return [
        Write(keyspace.expiry_key(due_of(envelope), envelope.key), b"")
        for envelope in envelopes
        if envelope.expires is not None
    ]


class _Due(NamedTuple):
    """An entry whose moment has come, and the record of its key as it was read."""

    entry: bytes
    stored: Item | None
    envelope: Envelope | None


class Expiry:
    """Runs on the node that leads its cluster; deletes only while that cluster is the primary.

    ``deleted`` counts up.
    """

    def __init__(
        self,
        store: Store,
        fence: Fence,
        writer: Writer,
        *,
        now: Callable[[], int],
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``now`` is the clock that the writer counts times to live by, in microseconds.

        ``leads`` says whether this node does the work of its cluster; another one would do it twice.
        """
        self._store = store
        self._fence = fence
        self._writer = writer
        self._now = now
        self._leads = leads
        self.deleted = 0

    async def run(self) -> None:
        """Sweep until cancelled. Raises StoreDamaged; other errors are tried again."""
        while True:
            primary = self._is_primary()
            try:
                if self._leads():
                    await self.sweep()
            except StoreDamaged:
                raise
            except (StoreError, DataError, WriteRefused) as error:
                _log.warning("the expiry of keys stopped half way and goes on soon: %s", error)
            await self._rest(primary=primary)

    async def sweep(self) -> int:
        """Look once at every key whose moment has come; return how many were deleted."""
        now = self._now()
        start, end = keyspace.EXPIRY, keyspace.expiry_key(_storable(now) + 1, b"")
        deleted = 0
        while True:
            page = await self._store.range(start, end, limit=_PAGE_ENTRIES)
            due = await self._records_of(page.items)
            if self._is_primary():
                deleted += await self._delete([each for each in due if _over(each, now)])
            await self._tidy(due, now)
            if not page.more:
                return deleted
            start = page.items[-1].key + b"\x00"
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _records_of(self, entries: Sequence[Item]) -> list[_Due]:
        keys = [keyspace.data_key(keyspace.due_key(entry.key)[1]) for entry in entries]
        found = await self._store.get_many(keys) if keys else {}
        stored = [found.get(key) for key in keys]
        return [
            _Due(entry.key, item, None if item is None else decode_item(item))
            for entry, item in zip(entries, stored, strict=True)
        ]

    async def _delete(self, due: Sequence[_Due]) -> int:
        """Delete what is still what was read; return how many keys that were. Raises what a write raises."""
        calls = [
            self._writer.expire(each.envelope.key, each.envelope.position) for each in due if each.envelope
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        done = 0
        for outcome in outcomes:
            if not isinstance(outcome, BaseException):
                done += 1
            elif not isinstance(outcome, ConditionFailed):
                raise outcome
        self.deleted += done
        return done

    async def _tidy(self, due: Sequence[_Due], now: int) -> None:
        """Remove the entries that no record stands behind, and put off those that came too early."""
        left = [each for each in due if _stale(each) or _early(each, now)]
        while left:
            compares = [_unchanged(each) for each in left]
            writes = [Write(each.entry, None) for each in left]
            writes += [
                Write(_exact(each.envelope), b"") for each in left if each.envelope and not _stale(each)
            ]
            try:
                await self._store.commit(compares, writes)
            except CompareFailed as failed:
                del left[failed.index]
            else:
                return

    def _is_primary(self) -> bool:
        try:
            self._fence.epoch()
        except WriteRefused:
            return False
        return True

    async def _rest(self, *, primary: bool) -> None:
        """Wait for the next sweep; one that was not the primary's is followed soon by the primary's first."""
        loop = asyncio.get_running_loop()
        until = loop.time() + (SWEEP_SECONDS if primary else _REPLICA_SECONDS)
        while (left := until - loop.time()) > 0 and self._is_primary() == primary:  # noqa: ASYNC110
            await asyncio.sleep(min(left, SWEEP_SECONDS))


def _over(due: _Due, now: int) -> bool:
    """Whether the record of an entry has expired."""
    return not _stale(due) and due.envelope is not None and (due.envelope.expires or 0) <= now


def _stale(due: _Due) -> bool:
    """Whether an entry belongs to no record any more: its key was deleted or has a newer version."""
    envelope = due.envelope
    if envelope is None or envelope.deleted or envelope.expires is None:
        return True
    return due.entry not in (keyspace.expiry_key(due_of(envelope), envelope.key), _exact(envelope))


def _early(due: _Due, now: int) -> bool:
    """Whether an entry's record expires so late that it is not worth to look at it again until then."""
    envelope = due.envelope
    if _stale(due) or envelope is None:
        return False
    return due.entry != _exact(envelope) and (envelope.expires or 0) > now + _SOON_MICROSECONDS


def _exact(envelope: Envelope) -> bytes:
    return keyspace.expiry_key(_storable(envelope.expires or 0), envelope.key)


def _unchanged(due: _Due) -> Compare:
    key = keyspace.data_key(keyspace.due_key(due.entry)[1])
    return Compare(key, None if due.stored is None else due.stored.value)


def _storable(microseconds: int) -> int:
    return min(max(microseconds, 0), 2**63)
