# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark of data that was restored from a snapshot.

What the cluster wrote after the snapshot may be anywhere: on replicas, with clients. Were the same epoch to
go on from the snapshot, other records would get the positions of those. So the mark names the newest epoch
that the snapshot knows, and whoever holds the role takes no writes in it, nor in an older one. A higher
epoch is another history, which forks at the snapshot; the mark stays and means nothing there.

Each member's host of an engine makes the mark by itself: it must come out as the same bytes everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from grey.data import keyspace
from grey.record import Position
from grey.store.interface import Compare, StoreDamaged, Write

if TYPE_CHECKING:
    from grey.data.contents import Contents
    from grey.store.interface import Item, Store


class Mark(msgspec.Struct, frozen=True):
    """``epoch`` and ``position`` are the newest of the snapshot, ``snapshot`` is the SHA-256 of its data."""

    epoch: int
    position: Position
    snapshot: str


def parse_mark(item: Item | None) -> Mark | None:
    """Read a stored mark; raises StoreDamaged."""
    if item is None:
        return None
    try:
        return msgspec.json.decode(item.value, type=Mark)
    except msgspec.DecodeError as error:
        raise StoreDamaged(
            f"the mark of a restored store cannot be read: {error}; restore it again"
        ) from error


async def write_mark(store: Store, held: Contents, snapshot: str) -> None:
    """Mark data that nobody serves yet; ``snapshot`` is the SHA-256 of what it was restored from.

    Raises what a commit raises.
    """
    mark = Mark(held.newest_epoch, held.position, snapshot)
    before = await store.get(keyspace.RESTORED)
    await store.commit(
        [Compare(keyspace.RESTORED, None if before is None else before.value)],
        [Write(keyspace.RESTORED, msgspec.json.encode(mark))],
    )
