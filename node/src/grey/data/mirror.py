# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest version of every key in memory, so that eventual reads ask no engine.

The store's watch feeds it, in order. What the writer of this process committed is here before its client
is answered, so that a client reads its own writes on the same node; such a write is kept apart until the
watch has come that far, since what the watch still brings may be older.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from grey.data import keyspace
from grey.data.history import parse_position
from grey.data.stored import decode_value
from grey.record.envelope import is_deletion
from grey.record.position import ORIGIN
from grey.store.interface import Compacted, Item, StoreDamaged, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from grey.record import Envelope, Position
    from grey.store.interface import Change, Store

DEFAULT_LIMIT_BYTES = 512 * 1024 * 1024
TOO_LARGE_SECONDS = 600.0
"""How long a store that did not fit is left alone before it is tried again."""

_KEY_OVERHEAD_BYTES = 200
"""What a key costs beside its own bytes and its record's: two objects and their place in a table."""
_PAGE_KEYS = 1000
_RETRY_SECONDS = 0.5
_WATCHED_END = keyspace.POSITION + b"\x00"

_log = logging.getLogger(__name__)


class Mirror:
    """All current keys of one store, as far as they fit; nothing happens unless ``run`` runs.

    ``position`` is that of the newest record that the watch brought, ``revision`` the store's own.
    """

    def __init__(self, store: Store, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """``limit_bytes`` bounds the memory, about; a store with more is not mirrored at all."""
        self._store = store
        self._limit = limit_bytes
        self._values: dict[bytes, bytes] = {}
        self._own: dict[bytes, tuple[int, bytes | None]] = {}
        self._following = False
        self._loaded = False
        self._expected = 0
        self.bytes = 0
        self.revision = 0
        self.position: Position = ORIGIN

    def __len__(self) -> int:
        return len(self._values)

    @property
    def complete(self) -> bool:
        """Whether all keys are here, none older than what was promised (``expect``)."""
        return self._loaded and self.revision >= self._expected

    def expect(self, revision: int) -> None:
        """Hold back what is older than a revision that wrote ``keyspace.POSITION``."""
        self._expected = max(self._expected, revision)

    def find(self, key: bytes) -> Envelope | None:
        """Return the newest version of a user's key, None when there is none; only while ``complete``.

        Raises StoreDamaged.
        """
        own = self._own.get(key) if self._own else None
        value = self._values.get(key) if own is None else own[1]
        return None if value is None else decode_value(keyspace.DATA + key, value)

    def wrote(self, revision: int, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take note of what this process committed at a revision of the store, deletions as None."""
        if not self._following or revision <= self.revision:
            return
        for key, value in records:
            # Answers come in order of revisions: the writer has one transaction under way at a time.
            self._own.pop(key, None)
            self._own[key] = (revision, value)

    async def run(self) -> None:
        """Load and follow the store until cancelled. Raises StoreDamaged; other errors are tried again."""
        while True:
            try:
                if not self._following or not self._loaded:
                    await self._load()
                if self._following:
                    await self._follow()
                else:
                    await asyncio.sleep(TOO_LARGE_SECONDS)
            except Compacted:
                # The watch was away for too long. Until everything is read anew the old state serves.
                self._following = False
            except StoreDamaged:
                raise
            except StoreError as error:
                _log.warning("memory cannot follow the data store and tries again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _load(self) -> None:
        """Read everything as it is at one revision, then show it in place of what was here."""
        self._following = True
        revision = (await self._store.status()).revision
        position = parse_position(await self._store.get(keyspace.POSITION, revision=revision))
        values: dict[bytes, bytes] = {}
        size = 0
        start = keyspace.DATA
        while True:
            page = await self._store.range(start, keyspace.DATA_END, limit=_PAGE_KEYS, revision=revision)
            for item in page.items:
                if not is_deletion(item.value):
                    key = keyspace.user_key(item.key)
                    values[key] = item.value
                    size += _cost(key, item.value)
            if size > self._limit:
                self._give_up()
                return
            if not page.more:
                break
            start = page.items[-1].key + b"\x00"
        # Until now the engine answered: what it showed meanwhile must not become older again.
        newest = await self._store.get(keyspace.POSITION)
        self.expect(0 if newest is None else newest.revision)
        self._values, self.bytes = values, size
        self.revision, self.position = revision, position
        self._forget_own()
        self._loaded = True

    async def _follow(self) -> None:
        """Apply what the watch brings; ends when there is no room any more."""
        watch = self._store.watch(keyspace.DATA, _WATCHED_END, after=self.revision)
        async with aclosing(cast("AsyncGenerator[list[Change], None]", watch)) as transactions:
            async for changes in transactions:
                for change in changes:
                    if change.key.startswith(keyspace.DATA):
                        self._apply(keyspace.user_key(change.key), change)
                    elif change.key == keyspace.POSITION:
                        self.position = _position(change)
                self.revision = changes[0].revision
                if self._own:
                    self._forget_own()
                if self.bytes > self._limit:
                    self._give_up()
                    return

    def _apply(self, key: bytes, change: Change) -> None:
        held = self._values.pop(key, None)
        if held is not None:
            self.bytes -= _cost(key, held)
        value = change.value
        if value is not None and not is_deletion(value):
            self._values[key] = value
            self.bytes += _cost(key, value)

    def _forget_own(self) -> None:
        """Drop the own writes that the watch has brought; they were noted in order of their revisions."""
        while self._own:
            key, (revision, _) = next(iter(self._own.items()))
            if revision > self.revision:
                return
            del self._own[key]

    def _give_up(self) -> None:
        _log.warning(
            "the keys need more than %d MiB of memory: reads ask the engine from now on", self._limit >> 20
        )
        self._loaded = self._following = False
        self._values, self._own, self.bytes = {}, {}, 0


def _cost(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + _KEY_OVERHEAD_BYTES


def _position(change: Change) -> Position:
    return parse_position(None if change.value is None else Item(change.key, change.value, change.revision))
