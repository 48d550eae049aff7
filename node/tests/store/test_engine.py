# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every engine promises (``grey.store.interface``)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from grey.store.interface import (
    MAX_COMPARES_PER_TRANSACTION,
    MAX_TRANSACTION_BYTES,
    MAX_WRITES_PER_TRANSACTION,
    Change,
    Compacted,
    Compare,
    CompareFailed,
    Item,
    StoreError,
    Write,
)

if TYPE_CHECKING:
    from support.engines import Engine

    from grey.store.interface import Store


async def put(store: Store, key: bytes, value: bytes | None) -> int:
    return await store.commit([], [Write(key, value)])


async def take(
    store: Store, count: int, *, after: int, start: bytes = b"", end: bytes | None = None
) -> list[list[Change]]:
    """Return the next ``count`` transactions of a watch."""
    found: list[list[Change]] = []
    async with asyncio.timeout(10), aclosing(store.watch(start, end, after=after)) as watch:
        async for changes in watch:
            found.append(changes)
            if len(found) == count:
                break
    return found


async def test_a_new_store_is_empty(store: Store) -> None:
    status = await store.status()
    assert (status.revision, status.compacted) == (0, 0)
    assert status.bytes > 0
    assert await store.get(b"a") is None
    assert await store.get(b"a", revision=0) is None
    assert await store.get_many([b"a"]) == {}
    page = await store.range(b"", None, limit=10)
    assert (page.items, page.revision, page.more) == ([], 0, False)


async def test_each_commit_gets_the_next_revision(store: Store) -> None:
    assert await put(store, b"a", b"1") == 1
    assert await store.commit([], [Write(b"a", b"2"), Write(b"b", b"")]) == 2
    assert await put(store, b"c", b"3") == 3
    assert await store.get(b"a") == Item(b"a", b"2", 2)
    assert await store.get(b"b") == Item(b"b", b"", 2)
    assert (await store.status()).revision == 3


async def test_any_bytes_are_keys_and_values(store: Store) -> None:
    keys = [b"\x00", b"\x00\x00", b"a", b"a\x00", b"\x7f\xff", b"\xff", b"\xff\xff\x00"]
    await store.commit([], [Write(key, key[::-1] * 3) for key in keys])
    page = await store.range(b"", None, limit=100)
    assert [item.key for item in page.items] == sorted(keys)
    assert all(item.value == item.key[::-1] * 3 for item in page.items)


async def test_comparisons_guard_all_writes(store: Store) -> None:
    await store.commit([], [Write(b"a", b"1"), Write(b"empty", b"")])
    for compares, failing in (
        ([Compare(b"a", b"1"), Compare(b"b", b"")], 1),
        ([Compare(b"a", None)], 0),
        ([Compare(b"a", b"2")], 0),
        ([Compare(b"empty", None)], 0),
        ([Compare(b"a", b"1")] * 40 + [Compare(b"missing", b"x")], 40),
    ):
        with pytest.raises(CompareFailed) as caught:
            await store.commit(compares, [Write(b"a", b"new"), Write(b"b", b"new")])
        assert caught.value.index == failing
    assert await store.get_many([b"a", b"b"]) == {b"a": Item(b"a", b"1", 1)}
    assert (await store.status()).revision == 1
    held = [Compare(b"a", b"1"), Compare(b"b", None), Compare(b"empty", b"")]
    assert await store.commit(held, [Write(b"b", b"x")]) == 2


async def test_only_one_of_concurrent_compare_and_sets_wins(store: Store) -> None:
    async def claim(number: int) -> int | None:
        try:
            return await store.commit([Compare(b"leader", None)], [Write(b"leader", b"%d" % number)])
        except CompareFailed:
            return None

    outcomes = await asyncio.gather(*(claim(number) for number in range(50)))
    winners = [number for number, outcome in enumerate(outcomes) if outcome is not None]
    assert len(winners) == 1
    assert await store.get(b"leader") == Item(b"leader", b"%d" % winners[0], 1)


async def test_removing_nothing_changes_nothing(store: Store) -> None:
    assert await put(store, b"a", b"1") == 1
    assert await put(store, b"missing", None) == 1
    assert await store.commit([], [Write(b"missing", None), Write(b"b", b"2")]) == 2
    assert await put(store, b"a", None) == 3
    assert await put(store, b"a", None) == 3
    assert await take(store, 3, after=0) == [
        [Change(b"a", b"1", 1)],
        [Change(b"b", b"2", 2)],
        [Change(b"a", None, 3)],
    ]


async def test_the_largest_transaction(store: Store) -> None:
    writes = [Write(b"%04d" % number, b"v") for number in range(MAX_WRITES_PER_TRANSACTION)]
    assert await store.commit([], writes) == 1
    assert await store.commit([], [Write(write.key, None) for write in writes]) == 2
    assert (await store.range(b"", None, limit=1)).items == []


@pytest.mark.parametrize(
    "writes",
    [
        [],
        [Write(b"a", b"1"), Write(b"a", b"2")],
        [Write(b"%d" % number, b"") for number in range(MAX_WRITES_PER_TRANSACTION + 1)],
        [Write(b"%d" % number, bytes(MAX_TRANSACTION_BYTES // 8)) for number in range(8)],
    ],
    ids=["none", "a key twice", "too many", "too large"],
)
async def test_wrong_transactions_are_refused(store: Store, writes: list[Write]) -> None:
    with pytest.raises(ValueError, match=r"a transaction"):
        await store.commit([], writes)
    assert (await store.status()).revision == 0


async def test_the_most_and_the_largest_comparisons(store: Store) -> None:
    large = bytes(MAX_TRANSACTION_BYTES // 4)
    await put(store, b"large", large)
    most = [Compare(b"large", large), *[Compare(b"a", None)] * (MAX_COMPARES_PER_TRANSACTION - 1)]
    assert await store.commit(most, [Write(b"large", large[1:])]) == 2
    with pytest.raises(CompareFailed) as caught:
        await store.commit(most, [Write(b"large", large)])
    assert caught.value.index == 0
    with pytest.raises(ValueError, match=r"a transaction"):
        await store.commit([*most, Compare(b"b", None)], [Write(b"a", b"")])


async def test_the_most_bytes_of_a_transaction(store: Store) -> None:
    """They fit, in one write and in many."""
    assert await put(store, b"k", bytes(MAX_TRANSACTION_BYTES - 1)) == 1
    part = bytes(MAX_TRANSACTION_BYTES // MAX_WRITES_PER_TRANSACTION - 4)
    writes = [Write(b"%04d" % number, part) for number in range(MAX_WRITES_PER_TRANSACTION)]
    assert await store.commit([], writes) == 2
    found = await store.get_many([b"k", *(write.key for write in writes)])
    assert len(found) == MAX_WRITES_PER_TRANSACTION + 1
    assert await take(store, 2, after=0) == [
        [Change(b"k", bytes(MAX_TRANSACTION_BYTES - 1), 1)],
        [Change(write.key, part, 2) for write in writes],
    ]


async def test_a_watch_reports_the_past_and_then_the_present(store: Store) -> None:
    await put(store, b"a", b"1")
    await put(store, b"b", b"2")
    async with asyncio.timeout(10), aclosing(store.watch(b"", None, after=1)) as watch:
        assert await anext(watch) == [Change(b"b", b"2", 2)]
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        assert not waiting.done()
        await store.commit([], [Write(b"c", b"3"), Write(b"a", None)])
        assert sorted(await waiting, key=lambda change: change.key) == [
            Change(b"a", None, 3),
            Change(b"c", b"3", 3),
        ]


async def test_a_watch_sees_its_range_only(store: Store) -> None:
    await store.commit([], [Write(b"a", b"1"), Write(b"m", b"1"), Write(b"z", b"1")])
    await put(store, b"z", b"2")
    await put(store, b"n", b"3")
    assert await take(store, 2, after=0, start=b"m", end=b"z") == [
        [Change(b"m", b"1", 1)],
        [Change(b"n", b"3", 3)],
    ]


async def test_a_watch_of_what_is_yet_to_come_waits_for_it(store: Store) -> None:
    await put(store, b"a", b"1")
    task = asyncio.create_task(take(store, 1, after=3))
    for number in range(2, 5):
        await put(store, b"a", b"%d" % number)
    assert await task == [[Change(b"a", b"4", 4)]]


async def test_watches_lose_double_and_reorder_nothing(store: Store) -> None:
    """Watches that start at any moment of many concurrent commits report each revision once, in order."""
    total = 300

    async def commit(worker: int) -> None:
        for number in range(total // 30):
            await store.commit([], [Write(b"%d-%d" % (worker, number), b"v"), Write(b"w%d" % worker, b"v")])

    async def watch(after: int) -> list[list[Change]]:
        await asyncio.sleep(0)
        return await take(store, total - after, after=after)

    watches = [asyncio.create_task(watch(0)) for _ in range(3)]
    commits = [asyncio.create_task(commit(worker)) for worker in range(30)]
    await commits[0]
    watches += [asyncio.create_task(watch((await store.status()).revision // 2)) for _ in range(3)]
    await asyncio.gather(*commits)
    for found in await asyncio.gather(*watches):
        revisions = [{change.revision for change in changes} for changes in found]
        assert revisions == [{revision} for revision in range(total - len(found) + 1, total + 1)]
        assert all(len(changes) == 2 for changes in found)


async def test_a_watch_of_much_data_loses_nothing(store: Store) -> None:
    """More than an engine hands over at once, in transactions of one and of many keys."""
    sizes = [700_000, 10, 900_000, 900_000, 0, 700_000, 700_000, 10]
    for number, size in enumerate(sizes):
        await store.commit([], [Write(b"%d-%d" % (number, part), bytes(size // 4)) for part in range(4)])
    for number in range(600):
        await put(store, b"small", b"%d" % number)
    found = await take(store, len(sizes) + 600, after=0)
    assert [changes[0].revision for changes in found] == list(range(1, len(sizes) + 601))
    assert [[len(change.value or b"") for change in changes] for changes in found[: len(sizes)]] == [
        [size // 4] * 4 for size in sizes
    ]


async def test_a_closed_watch_holds_nothing_up(store: Store) -> None:
    task = asyncio.create_task(take(store, 1, after=0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await put(store, b"a", b"1") == 1
    assert await take(store, 1, after=0) == [[Change(b"a", b"1", 1)]]


async def test_compaction_drops_history_and_keeps_values(store: Store) -> None:
    for number in range(1, 6):
        await store.commit([], [Write(b"a", b"%d" % number), Write(b"only-%d" % number, b"v")])
    await put(store, b"only-1", None)
    await put(store, b"a", None)
    await store.compact(4)
    await store.compact(4)
    await store.compact(2)
    assert (await store.status()).compacted == 4
    with pytest.raises(Compacted) as caught:
        await store.get(b"a", revision=3)
    assert (caught.value.asked, caught.value.oldest) == (3, 4)
    with pytest.raises(Compacted):
        await take(store, 1, after=3)
    assert await store.get(b"a", revision=4) == Item(b"a", b"4", 4)
    assert await store.get(b"a", revision=5) == Item(b"a", b"5", 5)
    assert await store.get(b"only-1", revision=5) == Item(b"only-1", b"v", 1)
    assert await store.get(b"only-1", revision=6) is None
    assert await store.get(b"a") is None
    assert [changes[0].revision for changes in await take(store, 3, after=4)] == [5, 6, 7]
    await store.compact(7)
    assert await store.get(b"a", revision=7) is None
    page = await store.range(b"", None, limit=100)
    assert [item.key for item in page.items] == [b"only-%d" % number for number in range(2, 6)]
    with pytest.raises(StoreError, match="revision 8"):
        await store.compact(8)


async def test_a_compaction_of_the_newest_transaction_hides_no_removal(store: Store) -> None:
    await store.commit([], [Write(b"a", b"1"), Write(b"b", b"1")])
    await store.commit([], [Write(b"a", b"2"), Write(b"b", None)])
    await store.compact(2)
    with pytest.raises(Compacted) as caught:
        await take(store, 1, after=1)
    assert (caught.value.asked, caught.value.oldest) == (1, 2)


async def test_a_watch_left_behind_by_compaction_says_so(store: Store) -> None:
    for number in range(3):
        await put(store, b"a", b"%d" % number)
    async with asyncio.timeout(10), aclosing(store.watch(b"", None, after=0)) as watch:
        seen = [(await anext(watch))[0].revision]
        for number in range(3, 6):
            await put(store, b"a", b"%d" % number)
        await store.compact(6)
        with pytest.raises(Compacted):
            while seen[-1] < 6:
                seen.append((await anext(watch))[0].revision)
            # An engine that had sent everything before has nothing to complain about.
            raise Compacted(6, 6)
    assert seen == list(range(1, len(seen) + 1))


async def test_everything_is_there_when_opened_again(engine: Engine, store: Store) -> None:
    for number in range(1, 6):
        await put(store, b"a", b"%d" % number)
    await put(store, b"a", None)
    await store.compact(6)
    store = await engine.reopen(store)
    status = await store.status()
    assert (status.revision, status.compacted) == (6, 6)
    assert await put(store, b"b", b"7") == 7
    store = await engine.reopen(store)
    assert await store.get(b"b") == Item(b"b", b"7", 7)
    assert await take(store, 1, after=6) == [[Change(b"b", b"7", 7)]]


async def test_a_cancelled_commit_leaves_the_queue_whole(store: Store) -> None:
    tasks = [asyncio.create_task(put(store, b"k%d" % number, b"v")) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
    kept = [outcome for outcome in outcomes[1::2] if isinstance(outcome, int)]
    assert len(kept) == 10
    assert await put(store, b"last", b"v") == (await store.status()).revision
    found = await store.get_many([b"k%d" % number for number in range(1, 20, 2)])
    assert sorted(item.revision for item in found.values()) == sorted(kept)


async def test_close_answers_what_waits_and_ends_watches(store: Store) -> None:
    await put(store, b"a", b"1")
    watch = asyncio.create_task(take(store, 1, after=5))
    commits = [asyncio.create_task(put(store, b"k%d" % number, b"v")) for number in range(5)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert sorted(await asyncio.gather(*commits)) == [2, 3, 4, 5, 6]
    with pytest.raises(StoreError, match="closed"):
        await asyncio.gather(watch)
    for call in (store.get(b"a"), put(store, b"a", b"2"), store.status(), store.compact(1)):
        with pytest.raises(StoreError, match="closed"):
            await call
