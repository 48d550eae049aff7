# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import msgspec
import pytest
from support.envelopes import envelope, write
from support.memory_store import MemoryStore

from grey.data import keyspace
from grey.data.history import History
from grey.record import Position, RequestRef
from grey.replicate import snapshot, wire
from grey.replicate.snapshot import Marker
from grey.store.interface import StoreDamaged, Write


def page(items: list[tuple[bytes, bytes]], following: bytes | None) -> wire.SnapshotPage:
    return wire.SnapshotPage("aws", 1, Position(1, 1), Position(1, 1), items, following)


def test_the_marker_is_readable() -> None:
    marker = Marker("aws", 2, 3, Position(2, 7))
    assert Marker.decode(marker.encode()) == marker
    with_end = msgspec.structs.replace(marker, end=Position(2, 9))
    assert Marker.decode(with_end.encode()) == with_end
    with pytest.raises(StoreDamaged, match="marker of a full copy"):
        Marker.decode(b"{}")


def test_pages_cover_both_ranges_without_a_gap() -> None:
    assert snapshot.covered(None, page([(b"k/a", b"")], b"k/a")) == (b"k/", b"k/a\x00")
    assert snapshot.covered(b"k/a", page([(b"k/b", b"")], b"r/")) == (b"k/a\x00", b"k0")
    assert snapshot.covered(b"r/", page([(b"r/1", b"")], b"r/1")) == (b"r/\x00", b"r/1\x00")
    assert snapshot.covered(b"r/1", page([], None)) == (b"r/1\x00", b"r0")
    with pytest.raises(wire.ProtocolError, match="wanted the token"):
        snapshot.covered(b"m/epoch", page([], None))


@pytest.mark.parametrize(
    "wrong",
    [
        page([(b"m/epoch", b"")], None),
        page([(b"k/a", b"")], b"k/c"),
        page([(b"k/d", b""), (b"k/c", b"")], None),
        page([(b"k/c", b""), (b"k/c", b"")], None),
        page([(b"r/1", b"")], None),
        page([], b"k/a"),
    ],
)
def test_a_page_with_keys_that_do_not_belong_there_is_refused(wrong: wire.SnapshotPage) -> None:
    with pytest.raises(wire.ProtocolError, match="page of a full copy"):
        snapshot.covered(b"k/b", wrong)


async def test_all_pages_together_are_the_store() -> None:
    store = MemoryStore(page_items=2)
    request = RequestRef("id", 0, 1, b"d")
    for number in range(1, 6):
        await write(store, envelope(number, b"%d" % number, request=request if number == 3 else None))
    found: list[tuple[bytes, bytes]] = []
    after, pages = None, 0
    while True:
        got = await snapshot.read_page(store, History(store), after, cluster="aws", epoch=1)
        assert (got.cluster, got.epoch, got.since, got.until) == ("aws", 1, Position(1, 5), Position(1, 5))
        start, end = snapshot.covered(after, got)
        assert all(start <= key < end for key, _ in got.items)
        found += got.items
        pages += 1
        if got.next is None:
            break
        after = got.next
    assert dict(found) == store.items(b"k/", b"k0") | store.items(b"r/", b"r0")
    assert len(found) == 6
    assert pages == 4


async def test_a_page_is_bounded_in_bytes() -> None:
    store = MemoryStore()
    for number in range(8):
        await write(store, envelope(number + 1, b"%d" % number, bytes(1_000_000)))
    first = await snapshot.read_page(store, History(store), None, cluster="aws", epoch=1)
    assert [key for key, _ in first.items] == [b"k/0", b"k/1", b"k/2", b"k/3"]
    assert first.next == b"k/3"
    assert len(wire.encode(first)) < wire.MAX_MESSAGE_BYTES


async def test_an_empty_store_is_two_pages() -> None:
    store = MemoryStore()
    first = await snapshot.read_page(store, History(store), None, cluster="aws", epoch=1)
    assert (first.items, first.next) == ([], keyspace.REQUEST)
    second = await snapshot.read_page(store, History(store), first.next, cluster="aws", epoch=1)
    assert (second.items, second.next) == ([], None)


async def test_the_differences_make_a_range_equal() -> None:
    store = MemoryStore(page_items=2)
    await store.commit([], [Write(key, b"old") for key in (b"k/a", b"k/b", b"k/c", b"k/d", b"k/e", b"k/z")])
    want = {b"k/a": b"old", b"k/bb": b"new", b"k/d": b"new"}
    async for writes in snapshot.differences(store, want.items(), b"k/", b"k/f"):
        await store.commit([], writes)
    assert store.items(b"k/", b"k/f") == want
    assert store.value(b"k/z") == b"old"
    assert [w async for w in snapshot.differences(store, want.items(), b"k/", b"k/f")] == []


async def test_the_differences_come_in_bearable_transactions() -> None:
    many = [(b"k/%05d" % number, b"v") for number in range(1200)]
    large = [(b"k/%d" % number, bytes(600_000)) for number in range(3)]
    store = MemoryStore()
    assert [len(w) async for w in snapshot.differences(store, many, b"k/", b"k0")] == [500, 500, 200]
    assert [len(w) async for w in snapshot.differences(store, large, b"k/", b"k0")] == [1, 1, 1]


def test_a_damaged_record_in_a_page_is_named() -> None:
    with pytest.raises(wire.ProtocolError, match="cannot be read"):
        snapshot.newest_stamp(page([(b"k/a", b"\xc1")], None))
    assert snapshot.newest_stamp(page([(b"r/1", b"\xc1")], None)) is None
