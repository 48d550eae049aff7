# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a data store holds, counted and read record by record: to describe a snapshot, and to check one."""

from __future__ import annotations

from typing import TYPE_CHECKING

# msgspec resolves annotations when the class is used, so nothing here may hide behind TYPE_CHECKING.
import msgspec

from grey.data import keyspace
from grey.data.history import parse_epoch, parse_position
from grey.data.identity import Identity, parse_identity
from grey.data.requests import decode_entry
from grey.data.stored import decode_value
from grey.record import Position
from grey.record.position import ORIGIN
from grey.store.interface import Item, StoreDamaged

if TYPE_CHECKING:
    from grey.store.interface import Store

_PAGE_KEYS = 1000
_DUE_BYTES = 8


class Contents(msgspec.Struct, frozen=True):
    """What one consistent state of a store holds.

    ``keys`` have a value, ``deletions`` are the records of keys that are gone, ``requests`` the remembered
    request ids. ``copying``: a full copy was under way, so that it is no state that a primary ever had.
    """

    identity: Identity | None
    epoch: int | None
    position: Position
    copying: bool
    keys: int
    deletions: int
    requests: int

    @property
    def newest_epoch(self) -> int:
        """The newest epoch that this data knows, 0 when it knows none."""
        return max(self.epoch or 0, self.position.epoch)


class Tally:
    """Reads the keys of one state of a store, in any order, each once."""

    def __init__(self) -> None:
        self._marks: dict[bytes, bytes] = {}
        self._newest: Position = ORIGIN
        self._keys = 0
        self._deletions = 0
        self._requests = 0

    def add(self, key: bytes, value: bytes) -> None:
        """Read one stored key. Raises StoreDamaged when it is not what its place says."""
        if key.startswith(keyspace.DATA):
            self._add_record(key, value)
        elif key.startswith(keyspace.REQUEST):
            decode_entry(value)
            self._requests += 1
        elif key.startswith(keyspace.EXPIRY):
            if len(key) < len(keyspace.EXPIRY) + _DUE_BYTES:
                raise StoreDamaged(f"the index entry {key!r} of an expiry is too short; restore a backup")
        else:
            self._marks[key] = value

    def contents(self) -> Contents:
        """Return what it all was. Raises StoreDamaged."""
        position = parse_position(self._mark(keyspace.POSITION))
        if self._newest > position:
            raise StoreDamaged(
                f"the newest record is {self._newest}, but the position of the store is {position}: "
                "they belong together, so this is no state that a store ever had; restore a backup"
            )
        return Contents(
            identity=parse_identity(self._mark(keyspace.IDENTITY)),
            epoch=parse_epoch(self._mark(keyspace.EPOCH)),
            position=position,
            copying=keyspace.COPYING in self._marks,
            keys=self._keys,
            deletions=self._deletions,
            requests=self._requests,
        )

    def _add_record(self, key: bytes, value: bytes) -> None:
        record = decode_value(key, value)
        if record.key != keyspace.user_key(key):
            raise StoreDamaged(
                f"at the key {keyspace.user_key(key)!r} stands the record of {record.key!r}; restore a backup"
            )
        self._newest = max(self._newest, record.position)
        if record.deleted:
            self._deletions += 1
        else:
            self._keys += 1

    def _mark(self, key: bytes) -> Item | None:
        value = self._marks.get(key)
        return None if value is None else Item(key, value, 0)


async def examine(store: Store) -> Contents:
    """Read everything that a store holds, as it is at one revision. Raises StoreDamaged, Compacted."""
    tally = Tally()
    start, revision, more = b"", None, True
    while more:
        page = await store.range(start, None, limit=_PAGE_KEYS, revision=revision)
        for item in page.items:
            tally.add(item.key, item.value)
        revision, more = page.revision, page.more
        start = page.items[-1].key + b"\x00" if page.items else start
    return tally.contents()
