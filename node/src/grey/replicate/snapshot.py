# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fuzzy full copy: pages while the source goes on writing, then the stream from where the copy began.

1. The first page says where the source stood (``start``). Nothing is changed here before the marker
   ``keyspace.COPYING`` is durable; while it exists the data is no consistent state, also after a restart.
2. Every page makes the range that it covers equal to the source's: what differs is written, what the source
   does not have is removed. What is here may have a *higher* position than the page and is overwritten all
   the same: it can only come from a copy of a former primary, and the new one may not have that record.
3. The cursor is set to ``start``; the marker notes where the source stood after the last page (``end``).
   From here on the copy need not begin anew: the stream is followed. A record may replace a newer version
   that a page brought; that one follows before ``end``.
4. When the cursor reaches ``end`` the state is the source's state at the cursor. The own history is compacted
   up to here, since the records that came in pages are missing in it, and then the marker is removed.

A copy belongs to one source and one epoch; with another of either, or when the log was compacted meanwhile,
it begins anew.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from grey.data import keyspace
from grey.data.expiry import index_writes
from grey.record import Position
from grey.record.envelope import decode
from grey.replicate import wire
from grey.store.interface import StoreDamaged, Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from grey.data.history import History
    from grey.record import Stamp
    from grey.store.interface import Store

PAGE_KEYS = 1000
PAGE_BYTES = 4 * 1024 * 1024
CHUNK_WRITES = 500
CHUNK_BYTES = 1024 * 1024
"""At most so many keys and about so many bytes of a page are one transaction; a key is two writes at most."""

_RANGES = ((keyspace.DATA, keyspace.DATA_END), (keyspace.REQUEST, keyspace.REQUEST_END))


class Marker(msgspec.Struct, frozen=True):
    """What ``keyspace.COPYING`` holds (JSON). ``end`` is None until all pages are here.

    ``attempt`` tells two copies apart that begin at the same position, so that a commit of the one that was
    given up, still on its way to the engine, cannot land in the other.
    """

    source: str
    epoch: int
    attempt: int
    start: Position
    end: Position | None = None

    def encode(self) -> bytes:
        """Return the stored form."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, stored: bytes) -> Marker:
        """Read the stored form; raises StoreDamaged."""
        try:
            return msgspec.json.decode(stored, type=cls)
        except msgspec.DecodeError as error:
            raise StoreDamaged(
                f"the marker of a full copy cannot be read: {error}. Restore a backup"
            ) from error


def interval(after: bytes | None) -> tuple[bytes, bytes]:
    """Return the range of stored keys that the page after a token is taken from; raises ProtocolError."""
    if after is None:
        return _RANGES[0]
    for start, end in _RANGES:
        if start <= after < end:
            return after + b"\x00", end
    raise wire.ProtocolError(f"wanted the token of a page of a full copy, found {after!r}")


def covered(after: bytes | None, page: wire.SnapshotPage) -> tuple[bytes, bytes]:
    """Return the range of stored keys that a page is the whole truth about; raises ProtocolError."""
    start, end = interval(after)
    if page.next is not None and page.next < end:
        end = page.next + b"\x00"
    keys = [key for key, _ in page.items]
    inside = not keys or (start <= keys[0] and keys[-1] < end)
    if not inside or any(left >= right for left, right in itertools.pairwise(keys)):
        raise wire.ProtocolError("a page of a full copy holds keys that do not belong there")
    if page.next is not None and page.next < start:
        raise wire.ProtocolError("a page of a full copy leads back")
    return start, end


async def read_page(
    store: Store, history: History, after: bytes | None, *, cluster: str, epoch: int
) -> wire.SnapshotPage:
    """Read the page after a token from the source's store.

    The positions are those of the store itself, read before and after the page, so that every record up to
    ``since`` is in the pages from here on, and none in this page is newer than ``until``.
    """
    start, end = interval(after)
    since = await history.position()
    found = await store.range(start, end, limit=PAGE_KEYS)
    until = await history.position()
    items: list[tuple[bytes, bytes]] = []
    size = 0
    for item in found.items:
        size += len(item.key) + len(item.value)
        if items and size > PAGE_BYTES:
            break
        items.append((item.key, item.value))
    if items and (found.more or len(items) < len(found.items)):
        following: bytes | None = items[-1][0]
    else:
        following = keyspace.REQUEST if end == keyspace.DATA_END else None
    return wire.SnapshotPage(cluster, epoch, since, until, items, following)


async def differences(
    store: Store, items: Iterable[tuple[bytes, bytes]], start: bytes, end: bytes
) -> AsyncIterator[list[Write]]:
    """Give the writes that make ``[start, end)`` hold ``items``, in transactions of a bearable size."""
    wanted = dict(items)
    keys = list(wanted)
    for first in range(0, len(keys), CHUNK_WRITES):
        some = keys[first : first + CHUNK_WRITES]
        here = await store.get_many(some)
        puts = [Write(key, wanted[key]) for key in some if key not in here or here[key].value != wanted[key]]
        for chunk in _chunks(puts):
            yield chunk
    while True:
        page = await store.range(start, end, limit=CHUNK_WRITES)
        removals = [Write(item.key, None) for item in page.items if item.key not in wanted]
        if removals:
            yield removals
        if not page.more or not page.items:
            return
        start = page.items[-1].key + b"\x00"


def index_of(writes: Iterable[Write]) -> list[Write]:
    """Return the index entries of those writes that are records with a time to live; no page carries them."""
    records = (write.value for write in writes if write.key.startswith(keyspace.DATA))
    return index_writes(decode(value) for value in records if value is not None)


def newest_stamp(page: wire.SnapshotPage) -> Stamp | None:
    """Return the greatest stamp in a page; raises ProtocolError when a record in it cannot be read."""
    try:
        stamps = (decode(value).stamp for key, value in page.items if key.startswith(keyspace.DATA))
        return max(stamps, default=None)
    except msgspec.DecodeError as error:
        raise wire.ProtocolError(f"a record in a page of a full copy cannot be read: {error}") from error


def _chunks(writes: Iterable[Write]) -> Iterable[list[Write]]:
    chunk: list[Write] = []
    size = 0
    for write in writes:
        length = len(write.key) + len(write.value or b"")
        if chunk and size + length > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(write)
        size += length
    if chunk:
        yield chunk
