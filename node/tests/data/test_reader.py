# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from grey.data import keyspace
from grey.data.reader import Listing, Reader
from grey.record import Envelope, Position, Stamp
from grey.record.envelope import encode
from grey.record.position import ORIGIN
from grey.store.interface import StoreDamaged, Write

if TYPE_CHECKING:
    from grey.store.interface import Store


def envelope(key: bytes, value: bytes | None) -> Envelope:
    return Envelope(key, value, Position(1, 1), Stamp(1, 0), "a")


async def fill(store: Store, values: dict[bytes, bytes | None]) -> None:
    writes = [Write(keyspace.data_key(key), encode(envelope(key, value))) for key, value in values.items()]
    for start in range(0, len(writes), 1000):
        await store.commit([], writes[start : start + 1000])


async def pages(reader: Reader, prefix: bytes, limit: int) -> list[Listing]:
    found = [await reader.list(prefix, limit=limit, after=None)]
    while found[-1].next is not None:
        at = found[0].position
        found.append(await reader.list(prefix, limit=limit, after=found[-1].next, at=at))
    return found


def keys(found: list[Listing]) -> list[bytes]:
    return [each.key for page in found for each in page.envelopes]


async def test_get(store: Store) -> None:
    await fill(store, {b"a": b"1", b"gone": None, b"empty": b""})
    reader = Reader(store)
    assert await reader.get(b"a") == envelope(b"a", b"1")
    assert await reader.get(b"empty") == envelope(b"empty", b"")
    assert await reader.get(b"gone") is None
    assert await reader.get(b"missing") is None


async def test_nothing_but_users_keys_is_listed(store: Store) -> None:
    await fill(store, {b"a": b"1", b"\xff": b"2", b"\xff\xff": b"3"})
    await store.commit([], [Write(keyspace.EPOCH, b"1"), Write(keyspace.request_key("x"), b"y")])
    reader = Reader(store)
    assert keys(await pages(reader, b"", 100)) == [b"a", b"\xff", b"\xff\xff"]
    assert keys(await pages(reader, b"\xff", 100)) == [b"\xff", b"\xff\xff"]


async def test_pages_by_prefix(store: Store) -> None:
    names = [b"user:%02d" % number for number in range(25)]
    await fill(store, dict.fromkeys([b"user", b"user:", b"user;", b"z", *names], b"v"))
    found = await pages(Reader(store), b"user:", 10)
    assert keys(found) == [b"user:", *names]
    assert [len(page.envelopes) for page in found] == [10, 10, 6]


async def test_a_full_last_page_has_no_next(store: Store) -> None:
    await fill(store, dict.fromkeys([b"a", b"b"], b"v"))
    assert (await Reader(store).list(b"", limit=2, after=None)).next is None


async def test_after_a_key_outside_the_prefix(store: Store) -> None:
    await fill(store, dict.fromkeys([b"a", b"b1", b"b2", b"c"], b"v"))
    reader = Reader(store)
    assert keys([await reader.list(b"b", limit=9, after=b"a")]) == [b"b1", b"b2"]
    assert await reader.list(b"b", limit=9, after=b"c") == Listing([], None, ORIGIN)
    assert keys([await reader.list(b"b", limit=9, after=b"b1")]) == [b"b2"]


async def test_ten_thousand_keys(store: Store) -> None:
    names = [b"p/%05d" % number for number in range(10_000)]
    await fill(store, dict.fromkeys(names, b"v"))
    found = await pages(Reader(store), b"p/", 1000)
    assert keys(found) == names
    assert len(found) == 10


class Counting:
    """Counts the keys that ranges return."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read = 0

    async def range(self, start: bytes, end: bytes | None, *, limit: int, revision: int | None) -> Any:
        page = await self._store.range(start, end, limit=limit, revision=revision)
        self.read += len(page.items)
        return page

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_a_desert_of_deleted_keys(store: Store, limit: int) -> None:
    """The work of one call is bounded; short pages lead through in the end."""
    await fill(store, {b"%05d" % number: None if 5 <= number < 9995 else b"v" for number in range(10_000)})
    counting = Counting(store)
    reader = Reader(counting)  # type: ignore[arg-type]
    found: list[Listing] = []
    after = None
    while not found or after is not None:
        counting.read = 0
        found.append(await reader.list(b"", limit=limit, after=after))
        assert counting.read <= 4000
        after = found[-1].next
    assert keys(found) == [b"%05d" % number for number in [*range(5), *range(9995, 10_000)]]
    assert len(found) < 20


async def test_a_page_is_bounded_in_bytes(store: Store) -> None:
    for number in range(9):
        await fill(store, {b"%d" % number: bytes(1024 * 1024), b"%d-" % number: None})
    found = await pages(Reader(store), b"", 100)
    assert keys(found) == [b"%d" % number for number in range(9)]
    assert all(sum(len(each.value or b"") for each in page.envelopes) <= 4 * 1024 * 1024 for page in found)


async def test_damage_names_the_key(store: Store) -> None:
    await store.commit([], [Write(keyspace.data_key(b"bad"), b"\xc1")])
    reader = Reader(store)
    with pytest.raises(StoreDamaged, match=r"record of key b'bad' cannot be read"):
        await reader.get(b"bad")
    with pytest.raises(StoreDamaged):
        await reader.list(b"", limit=1, after=None)
