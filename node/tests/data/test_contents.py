# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted in a store, and what is found to be wrong in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.envelopes import envelope, write

from grey.data import keyspace
from grey.data.contents import Contents, examine
from grey.data.history import History, format_position
from grey.data.identity import Identity, write_identity
from grey.data.restored import Mark, parse_mark, write_mark
from grey.record import Position, RequestRef
from grey.record.envelope import encode
from grey.store.interface import StoreDamaged, Write

if TYPE_CHECKING:
    from grey.store.interface import Store

OWN = Identity("test", "aws", None, "1")


async def fill(store: Store) -> None:
    await write_identity(store, OWN)
    await write(store, envelope(1, b"a", request=RequestRef("r", 0, 2, b"")), envelope(2, b"b"))
    await write(store, envelope(3, b"a", None))
    await write(store, envelope(4, b"c"))


async def test_everything_is_counted(store: Store) -> None:
    await fill(store)
    found = await examine(store)
    assert found == Contents(OWN, 1, Position(1, 4), copying=False, keys=2, deletions=1, requests=1)
    assert found.newest_epoch == 1


async def test_an_empty_store_holds_nothing(store: Store) -> None:
    found = await examine(store)
    assert (found.identity, found.keys, found.newest_epoch, str(found.position)) == (None, 0, 0, "0.0")


async def test_a_full_copy_under_way_is_told(store: Store) -> None:
    await store.commit([], [Write(keyspace.COPYING, b"{}")])
    assert (await examine(store)).copying


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Write(keyspace.data_key(b"c"), b"\xff"), "record of key b'c' cannot be read"),
        (Write(keyspace.data_key(b"c"), encode(envelope(2, b"d"))), "stands the record of b'd'"),
        (
            Write(keyspace.data_key(b"c"), encode(envelope(5, b"c"))),
            "the newest record is 1.5, but the position",
        ),
        (
            Write(keyspace.POSITION, format_position(Position(1, 3))),
            "the newest record is 1.4, but the position",
        ),
        (Write(keyspace.request_key("r"), b"\xff"), "entry of a request id cannot be read"),
        (Write(keyspace.EXPIRY + b"1", b""), "of an expiry is too short"),
        (Write(keyspace.IDENTITY, b"{"), "identity in the store cannot be read"),
    ],
)
async def test_damage_is_named(store: Store, damage: Write, words: str) -> None:
    await fill(store)
    await store.commit([], [damage])
    with pytest.raises(StoreDamaged, match=words):
        await examine(store)


async def test_restored_data_says_up_to_which_epoch_it_must_not_be_written(store: Store) -> None:
    await fill(store)
    history = History(store)
    assert await history.restored() is None
    for _ in range(2):
        await write_mark(store, await examine(store), "sum")
        assert await history.restored() == 1
    assert parse_mark(await store.get(keyspace.RESTORED)) == Mark(1, Position(1, 4), "sum")


async def test_data_restored_again_bears_the_newer_mark(store: Store) -> None:
    await fill(store)
    await write_mark(store, await examine(store), "sum")
    await history_of_a_newer_epoch(store)
    await write_mark(store, await examine(store), "other")
    assert await History(store).restored() == 2


async def history_of_a_newer_epoch(store: Store) -> None:
    await write(store, envelope(5, b"e", epoch=2))


async def test_a_mark_that_cannot_be_read_is_named(store: Store) -> None:
    await store.commit([], [Write(keyspace.RESTORED, b"{")])
    with pytest.raises(StoreDamaged, match="mark of a restored store"):
        await History(store).restored()
