# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every engine promises of its reads (``grey.store.interface``)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from grey.store.interface import Compacted, Item, StoreError, Write

from .test_engine import put

if TYPE_CHECKING:
    from grey.store.interface import Store


async def test_serializable_reads(store: Store) -> None:
    """On one process they are as good as the others."""
    await put(store, b"a", b"1")
    await put(store, b"a", b"2")
    second = Item(b"a", b"2", 2)
    assert await store.get(b"a", serializable=True) == second
    assert await store.get(b"a", revision=1, serializable=True) == Item(b"a", b"1", 1)
    assert await store.get_many([b"a", b"b"], serializable=True) == {b"a": second}
    page = await store.range(b"", None, limit=2, serializable=True)
    assert (page.items, page.revision, page.more) == ([second], 2, False)


async def test_ranges_at_a_revision(store: Store) -> None:
    """The pages of one walk show one state, whatever is written meanwhile."""
    await store.commit([], [Write(b"k%d" % number, b"1") for number in range(6)])
    await store.commit([], [Write(b"k1", b"2"), Write(b"k3", None), Write(b"k9", b"2")])
    await put(store, b"k3", b"3")
    await store.commit([], [Write(b"k0", None), Write(b"k5", b"4")])
    assert [item.key for item in (await store.range(b"", None, limit=9, revision=0)).items] == []
    page = await store.range(b"", None, limit=3, revision=2)
    assert page.items == [Item(b"k0", b"1", 1), Item(b"k1", b"2", 2), Item(b"k2", b"1", 1)]
    assert (page.revision, page.more) == (2, True)
    await store.commit([], [Write(b"k4", None), Write(b"k3a", b"5")])
    page = await store.range(b"k2\x00", b"k9", limit=3, revision=2)
    assert page.items == [Item(b"k4", b"1", 1), Item(b"k5", b"1", 1)]
    assert (page.revision, page.more) == (2, False)
    page = await store.range(b"k3", b"k4", limit=3, revision=3)
    assert page.items == [Item(b"k3", b"3", 3)]
    await store.compact(3)
    with pytest.raises(Compacted) as caught:
        await store.range(b"", None, limit=3, revision=2)
    assert (caught.value.asked, caught.value.oldest) == (2, 3)
    page = await store.range(b"k3", None, limit=9, revision=3)
    assert [item.key for item in page.items] == [b"k3", b"k4", b"k5", b"k9"]
    with pytest.raises(StoreError, match="revision 6"):
        await store.range(b"", None, limit=3, revision=6)


async def test_a_page_at_a_revision_is_bounded_in_bytes(store: Store) -> None:
    large = 1024 * 1024
    for number in range(6):
        await put(store, b"k%d" % number, bytes(large))
    await put(store, b"k0", b"")
    page = await store.range(b"", None, limit=100, revision=6)
    assert page.more
    assert len(page.items[0].value) == large
    assert sum(len(item.value) for item in page.items) <= 4 * large
    rest = await store.range(page.items[-1].key + b"\x00", None, limit=100, revision=6)
    assert len(page.items) + len(rest.items) == 6


async def test_many_small_keys_fill_a_page(store: Store) -> None:
    writes = [Write(b"%05d" % number, b"%d" % number) for number in range(3000)]
    for first in range(0, len(writes), 1000):
        await store.commit([], writes[first : first + 1000])
    page = await store.range(b"", None, limit=2500)
    assert [item.key for item in page.items] == [write.key for write in writes[:2500]]
    assert (page.revision, page.more) == (3, True)
    rest = await store.range(b"02500", None, limit=2500)
    assert [item.key for item in rest.items] == [write.key for write in writes[2500:]]
    assert not rest.more
    keys = [write.key for write in writes]
    assert set(await store.get_many(keys)) == set(keys)


async def test_get_at_a_revision(store: Store) -> None:
    await put(store, b"a", b"1")
    await put(store, b"b", b"1")
    await put(store, b"a", b"3")
    await put(store, b"a", None)
    await put(store, b"a", b"5")
    found = [await store.get(b"a", revision=revision) for revision in range(6)]
    first, third = Item(b"a", b"1", 1), Item(b"a", b"3", 3)
    assert found == [None, first, first, third, None, Item(b"a", b"5", 5)]
    with pytest.raises(StoreError, match="revision 6"):
        await store.get(b"a", revision=6)


async def test_ranges_are_half_open_and_paged(store: Store) -> None:
    await store.commit([], [Write(b"k%d" % number, b"v") for number in range(9)])
    await put(store, b"k4", None)
    page = await store.range(b"k1", b"k7", limit=3)
    assert [item.key for item in page.items] == [b"k1", b"k2", b"k3"]
    assert page.more
    page = await store.range(b"k3\x00", b"k7", limit=3)
    assert [item.key for item in page.items] == [b"k5", b"k6"]
    assert not page.more
    exact = await store.range(b"k5", b"k7", limit=2)
    assert len(exact.items) == 2
    assert not exact.more
    assert (await store.range(b"k7", b"k7", limit=3)).items == []
    with pytest.raises(ValueError, match="at least one"):
        await store.range(b"", None, limit=0)


async def test_a_page_is_bounded_in_bytes(store: Store) -> None:
    large = 1024 * 1024
    for number in range(6):
        await put(store, b"k%d" % number, bytes(large))
    await put(store, b"a", bytes(6 * large))
    seen: list[bytes] = []
    start = b""
    while True:
        page = await store.range(start, None, limit=100)
        assert page.items
        assert len(page.items) == 1 or sum(len(item.value) for item in page.items) <= 4 * large
        seen += [item.key for item in page.items]
        if not page.more:
            break
        start = page.items[-1].key + b"\x00"
    assert seen == [b"a", *(b"k%d" % number for number in range(6))]


async def test_get_many_reads_one_state(store: Store) -> None:
    keys = [b"k%d" % number for number in range(100)]
    stop = False

    async def rewrite() -> None:
        number = 0
        while not stop:
            number += 1
            await store.commit([], [Write(key, b"%d" % number) for key in keys])
            await asyncio.sleep(0)

    await store.commit([], [Write(key, b"0") for key in keys])
    task = asyncio.create_task(rewrite())
    for few in (keys[:5], keys, [*keys[:3], b"missing", keys[0]]):
        for _ in range(20):
            found = await store.get_many(few)
            assert set(found) == set(few) - {b"missing"}
            assert len({(item.value, item.revision) for item in found.values()}) == 1
            await asyncio.sleep(0)
    stop = True
    await task
