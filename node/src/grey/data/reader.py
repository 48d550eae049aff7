# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads of users' keys from the local store, as it stands. Fences and staleness are the caller's concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from grey.data import keyspace
from grey.record.envelope import Envelope, decode
from grey.store.interface import StoreDamaged

if TYPE_CHECKING:
    from grey.store.interface import Item, Store

PAGE_BYTES = 4 * 1024 * 1024
"""The most bytes of values in one page, unless its first value alone is larger."""

_PAST_TOMBSTONES = 1000
_READS = 4


class Listing(msgspec.Struct, frozen=True):
    """Keys in order. ``next`` is what to pass as ``after`` for the keys that follow; None at the end.

    A page may be short, even empty, and still have ``next``.
    """

    envelopes: list[Envelope]
    next: bytes | None


class Reader:
    """Reads users' keys."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, key: bytes) -> Envelope | None:
        """Return the newest version of a key; None when it is missing or deleted. Raises StoreDamaged."""
        item = await self._store.get(keyspace.data_key(key))
        if item is None:
            return None
        envelope = decode_item(item)
        return None if envelope.deleted else envelope

    async def list(self, prefix: bytes, *, limit: int, after: bytes | None) -> Listing:
        """Return up to ``limit`` (at least 1) keys with a prefix, those after the key ``after`` only.

        The work of one call is bounded, however many deleted keys lie in between. Raises StoreDamaged.
        """
        start = keyspace.data_key(prefix)
        end = keyspace.prefix_end(start)
        if after is not None:
            start = max(start, keyspace.data_key(after) + b"\x00")
        if end is not None and start >= end:
            return Listing([], None)
        found: list[Envelope] = []
        size = 0
        for number in range(_READS):
            wanted = limit - len(found)
            # Past the first read there were tombstones: look further, but not for a few keys at a time.
            page = await self._store.range(
                start, end, limit=max(wanted, _PAST_TOMBSTONES) if number else wanted
            )
            for place, item in enumerate(page.items):
                envelope = decode_item(item)
                start = item.key + b"\x00"
                if envelope.value is None:
                    continue
                size += len(envelope.value)
                if found and size > PAGE_BYTES:
                    return Listing(found, found[-1].key)
                found.append(envelope)
                if len(found) == limit:
                    last = place == len(page.items) - 1 and not page.more
                    return Listing(found, None if last else envelope.key)
            if not page.more:
                return Listing(found, None)
        return Listing(found, keyspace.user_key(start[:-1]))


def decode_item(item: Item) -> Envelope:
    """Read the envelope of a stored key; raises StoreDamaged."""
    return decode_value(item.key, item.value)


def decode_value(stored_key: bytes, value: bytes) -> Envelope:
    """Read the envelope stored under ``stored_key``; raises StoreDamaged."""
    try:
        return decode(value)
    except msgspec.DecodeError as error:
        raise StoreDamaged(
            f"the record of key {keyspace.user_key(stored_key)!r} cannot be read: {error}; restore a backup, "
            f"or copy from another cluster"
        ) from error
