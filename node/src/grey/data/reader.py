# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads of users' keys from the local store, as it stands. Fences and staleness are the caller's concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from grey.data import keyspace
from grey.data.history import History
from grey.data.stored import decode_item
from grey.record import Envelope, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from grey.data.history import State
    from grey.data.mirror import Mirror
    from grey.store.interface import Page, Store

PAGE_BYTES = 4 * 1024 * 1024
"""The most bytes of values in one page, unless its first value alone is larger."""

_PAST_TOMBSTONES = 1000
_READS = 4
_WALKS = 64
"""So many walks through the keys are known at a time; others are found again, with more work."""


class Listing(msgspec.Struct, frozen=True):
    """Keys in order, as they were at ``position``; pages of one walk are told apart by nothing else.

    ``next`` is what to pass as ``after`` for the keys that follow, with ``position`` as ``at``; None at the
    end. A page may be short, even empty, and still have ``next``.
    """

    envelopes: list[Envelope]
    next: bytes | None
    position: Position


class Reader:
    """Reads users' keys."""

    def __init__(
        self,
        store: Store,
        *,
        history: History | None = None,
        mirror: Mirror | None = None,
        now: Callable[[], int | None] | None = None,
    ) -> None:
        """``now`` gives the primary's time in microseconds and hides what has expired; None on a replica."""
        self._store = store
        self._history = history or History(store)
        self._mirror = mirror
        self._now = now
        self._walks: dict[Position, State] = {}

    async def get(self, key: bytes, *, serializable: bool = False) -> Envelope | None:
        """Return the newest version of a key; None when it is missing, deleted or expired.

        ``serializable`` asks memory, or this member of the engine alone: the answer may be old, but never
        older than what was written through this node. Else it is the newest there is. Raises StoreDamaged.
        """
        mirror = self._mirror
        if serializable and mirror is not None and mirror.complete:
            envelope = mirror.find(key)
        else:
            item = await self._store.get(keyspace.data_key(key), serializable=serializable)
            envelope = None if item is None else decode_item(item)
        if envelope is None or envelope.deleted or _hidden(envelope, self._time()):
            return None
        return envelope

    async def list(
        self, prefix: bytes, *, limit: int, after: bytes | None, at: Position | None = None
    ) -> Listing:
        """Return up to ``limit`` (at least 1) keys with a prefix, those after the key ``after`` only.

        ``at`` is the ``position`` of the walk's earlier pages; they may have come from another cluster. None
        begins a walk with the newest state. The work of one call is bounded, however many deleted keys lie in
        between. Raises Compacted when that state is no longer kept, NotYetHere, Diverged, StoreDamaged.
        """
        start = keyspace.data_key(prefix)
        end = keyspace.prefix_end(start)
        if after is not None:
            start = max(start, keyspace.data_key(after) + b"\x00")
        state = None if at is None else await self._state_at(at)
        if end is not None and start >= end:
            return Listing([], None, (state or await self._history.newest()).position)
        now = self._time()
        found: list[Envelope] = []
        size = 0
        for number in range(_READS):
            wanted = limit - len(found)
            # Past the first read there were tombstones: look further, but not for a few keys at a time.
            wanted = max(wanted, _PAST_TOMBSTONES) if number else wanted
            page = await self._store.range(
                start, end, limit=wanted, revision=None if state is None else state.revision
            )
            if state is None:
                state = await self._history.state_of(page.revision)
            envelopes, more = _merged(page, state.beyond, start, end)
            for place, envelope in enumerate(envelopes):
                start = keyspace.data_key(envelope.key) + b"\x00"
                if envelope.value is None or _hidden(envelope, now):
                    continue
                size += len(envelope.value)
                if found and size > PAGE_BYTES:
                    return Listing(found, found[-1].key, state.position)
                found.append(envelope)
                if len(found) == limit:
                    last = place == len(envelopes) - 1 and not more
                    return Listing(found, None if last else envelope.key, state.position)
            if not more:
                return Listing(found, None, state.position)
        assert state is not None
        return Listing(found, keyspace.user_key(start[:-1]), state.position)

    async def _state_at(self, position: Position) -> State:
        """Return the state at a position, from memory for the walks that go on."""
        state = self._walks.pop(position, None) or await self._history.state_at(position)
        self._walks[position] = state
        if len(self._walks) > _WALKS:
            del self._walks[next(iter(self._walks))]
        return state

    def _time(self) -> int | None:
        return None if self._now is None else self._now()


def _hidden(envelope: Envelope, now: int | None) -> bool:
    return now is not None and envelope.expires is not None and envelope.expires <= now


def _merged(
    page: Page, beyond: Mapping[bytes, Envelope], start: bytes, end: bytes | None
) -> tuple[Sequence[Envelope], bool]:
    """Return the envelopes of a page, with those that belong to its state but to a later transaction."""
    envelopes = [decode_item(item) for item in page.items]
    if not beyond:
        return envelopes, page.more
    if page.more:
        end = page.items[-1].key + b"\x00"
    merged = {envelope.key: envelope for envelope in envelopes}
    for key, envelope in beyond.items():
        stored = keyspace.data_key(key)
        if stored >= start and (end is None or stored < end):
            merged[key] = envelope
    return [merged[key] for key in sorted(merged)], page.more
