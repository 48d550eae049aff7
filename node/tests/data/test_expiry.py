# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory_store import MemoryStore
from support.writer_bench import START, Bench, outcomes

from grey.data import expiry, keyspace
from grey.data.conditions import Absent, At
from grey.data.errors import ConditionFailed
from grey.data.expiry import Expiry, due_of, index_writes
from grey.data.fence import NotPrimary
from grey.data.reader import Reader
from grey.data.stored import decode_item
from grey.record import Envelope, Position, Stamp
from grey.store.interface import CompareFailed, Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.store.interface import Item, Store


async def index(store: Store) -> list[tuple[int, bytes]]:
    page = await store.range(keyspace.EXPIRY, keyspace.EXPIRY_END, limit=10_000)
    return [keyspace.due_key(item.key) for item in page.items]


async def stored(store: Store, key: bytes) -> Envelope:
    item = await store.get(keyspace.data_key(key))
    assert item is not None
    return decode_item(item)


async def test_a_key_lives_for_its_time(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1", ttl_seconds=30)
    found = await bench.reader.get(b"a")
    assert found is not None
    assert found.expires == START + 30_000_000
    bench.pass_seconds(29.999)
    assert await bench.expiry.sweep() == 0
    assert await bench.reader.get(b"a") is not None
    bench.pass_seconds(0.001)
    assert await bench.reader.get(b"a") is None
    assert (await bench.reader.list(b"", limit=9, after=None)).envelopes == []
    assert not (await stored(store, b"a")).deleted
    assert await bench.expiry.sweep() == 1
    gone = await stored(store, b"a")
    assert (gone.value, gone.position, gone.expires) == (None, Position(1, 2), None)
    await bench.expiry.sweep()
    assert await index(store) == []
    assert bench.expiry.deleted == 1


async def test_a_replica_shows_it_until_the_deletion_comes(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1", ttl_seconds=30)
    bench.pass_seconds(60)
    replica = Reader(store, now=lambda: None)
    assert await replica.get(b"a") is not None
    assert len((await replica.list(b"", limit=9, after=None)).envelopes) == 1
    await bench.expiry.sweep()
    assert await replica.get(b"a") is None


async def test_what_has_expired_does_not_exist_for_a_write(bench: Bench) -> None:
    done = await outcomes(
        [
            bench.writer.put(b"a", b"1", ttl_seconds=30),
            bench.writer.put(b"b", b"1", ttl_seconds=30),
            bench.writer.put(b"c", b"1", ttl_seconds=30),
        ]
    )
    bench.pass_seconds(30)
    with pytest.raises(ConditionFailed) as caught:
        await bench.writer.put(b"a", b"2", condition=At(done[0].position))  # type: ignore[union-attr]
    assert caught.value.found is None
    assert (await bench.writer.delete(b"b")).existed is False
    assert (await bench.writer.put(b"c", b"2", condition=Absent())).position == Position(1, 4)
    assert await bench.expiry.sweep() == 2
    found = await bench.reader.get(b"c")
    assert found is not None
    assert found.value == b"2"


async def test_a_newer_version_is_never_deleted(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1", ttl_seconds=30)
    await bench.writer.put(b"b", b"1", ttl_seconds=30)
    bench.pass_seconds(20)
    await bench.writer.put(b"a", b"2", ttl_seconds=30)
    await bench.writer.put(b"b", b"2")
    bench.pass_seconds(20)
    assert await bench.expiry.sweep() == 0
    bench.pass_seconds(10_000)
    assert await bench.expiry.sweep() == 1
    assert not (await stored(store, b"b")).deleted


async def a_version_comes_between_the_look_and_the_deletion() -> None:
    store = MemoryStore()
    bench = Bench(store)
    await bench.history.claim(1)
    bench.start()
    await bench.writer.put(b"a", b"1", ttl_seconds=30)
    bench.pass_seconds(30)
    shipped = store.get_many

    async def overtaken(keys: Sequence[bytes], *, serializable: bool = False) -> dict[bytes, Item]:
        found = await shipped(keys)
        store.get_many = shipped  # type: ignore[method-assign]
        await bench.writer.put(b"a", b"2", ttl_seconds=30)
        return found

    store.get_many = overtaken  # type: ignore[method-assign]
    assert await bench.expiry.sweep() == 0
    found = await bench.reader.get(b"a")
    assert found is not None
    assert found.value == b"2"
    bench.pass_seconds(30)
    assert await bench.expiry.sweep() == 1
    await bench.stop()


async def test_a_version_that_comes_between_the_look_and_the_deletion_stays() -> None:
    await a_version_comes_between_the_look_and_the_deletion()


async def test_an_entry_that_became_right_meanwhile_stays(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is removed only if the key is still what made it stale."""
    await bench.writer.put(b"a", b"1", ttl_seconds=30)
    await bench.writer.delete(b"a")
    before = await index(store)
    bench.pass_seconds(30)
    shipped, refused = store.commit, 0

    async def overtaken(compares: object, writes: list[Write]) -> int:
        nonlocal refused
        if not refused:
            refused = 1
            # The same version again: it has the same entry.
            wanted = Envelope(
                b"a", b"1", Position(1, 1), Stamp(START, 0), "aws-east", None, START + 30_000_000
            )
            bench.elapsed.microseconds = 0
            await shipped([], [Write(b"k/a", bench.encoded(wanted))])
        try:
            return await shipped(compares, writes)  # type: ignore[arg-type]
        except CompareFailed:
            refused += 1
            raise

    monkeypatch.setattr(store, "commit", overtaken)
    await bench.expiry.sweep()
    assert refused == 2
    assert await index(store) == before


async def test_a_key_renewed_all_the_time_has_few_entries(bench: Bench, store: Store) -> None:
    for _ in range(600):
        await bench.writer.put(b"session", b"v", ttl_seconds=300)
        bench.pass_seconds(1)
    assert len(await index(store)) <= 64
    for _ in range(20):
        await bench.expiry.sweep()
        bench.pass_seconds(10)
    assert await bench.reader.get(b"session") is not None
    bench.pass_seconds(300)
    assert await bench.expiry.sweep() == 1
    await bench.expiry.sweep()
    assert await index(store) == []


async def test_a_long_time_to_live_is_looked_at_twice(bench: Bench, store: Store) -> None:
    days = 86_400.0
    await bench.writer.put(b"a", b"v", ttl_seconds=30 * days)
    [(due, key)] = await index(store)
    expires = START + int(30 * days * 1e6)
    assert key == b"a"
    assert expires - 30 * days * 1e6 / 16 <= due <= expires
    bench.wall.microseconds = bench.elapsed.microseconds = due
    bench.elapsed.microseconds -= START
    assert await bench.expiry.sweep() == 0
    assert await index(store) == [(expires, b"a")]
    bench.pass_seconds((expires - due) / 1e6)
    assert await bench.expiry.sweep() == 1


async def test_a_replica_removes_stale_entries_only(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1", ttl_seconds=30)
    await bench.writer.put(b"b", b"1", ttl_seconds=30)
    await bench.writer.delete(b"b")
    bench.pass_seconds(60)
    bench.fence.refusal = lambda: NotPrimary("gcp-west")
    assert await bench.expiry.sweep() == 0
    assert [key for _, key in await index(store)] == [b"a"]
    assert not (await stored(store, b"a")).deleted
    # It is promoted:
    bench.fence.refusal = None
    assert await bench.expiry.sweep() == 1


async def test_many_go_in_pages(bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_PAUSE_SECONDS", 0)
    await outcomes(bench.writer.put(b"%04d" % n, b"v", ttl_seconds=30) for n in range(1200))
    bench.pass_seconds(30)
    assert await bench.expiry.sweep() == 1200
    await bench.expiry.sweep()
    assert await index(store) == []


async def test_only_the_leader_sweeps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    leads = False
    runner = Expiry(bench.store, bench.fence, bench.writer, now=bench.steady.now, leads=lambda: leads)
    monkeypatch.setattr(expiry, "SWEEP_SECONDS", 0.001)
    await bench.writer.put(b"a", b"1", ttl_seconds=30)
    bench.pass_seconds(30)
    await bench.run_until(runner.run(), lambda: bench.fence.asked > 20)
    assert runner.deleted == 0
    leads = True
    await bench.run_until(runner.run(), lambda: runner.deleted == 1)


async def test_a_full_disk_stops_the_expiry_for_a_while_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "SWEEP_SECONDS", 0.001)
    await bench.writer.put(b"a", b"1", ttl_seconds=30)
    bench.pass_seconds(30)
    bench.store.faults.extend(["full", "full", "lost"])
    await bench.run_until(bench.expiry.run(), lambda: bench.expiry.deleted == 1)
    assert not bench.store.faults


@pytest.mark.parametrize("jump", [-86_400, 86_400])
async def test_a_wall_clock_that_jumps_ends_no_life_early_or_late(bench: Bench, jump: int) -> None:
    await bench.writer.put(b"a", b"1", ttl_seconds=30)
    bench.wall.microseconds += jump * 1_000_000
    bench.pass_seconds(0.001)
    assert await bench.reader.get(b"a") is not None
    for _ in range(26):
        bench.pass_seconds(1)
        assert await bench.reader.get(b"a") is not None
    bench.pass_seconds(8)
    assert await bench.reader.get(b"a") is None
    await bench.writer.put(b"b", b"1", ttl_seconds=30)
    bench.pass_seconds(27)
    assert await bench.reader.get(b"b") is not None
    bench.pass_seconds(7)
    assert await bench.reader.get(b"b") is None


@given(st.integers(0, 10**16), st.integers(0, 4 * 10**15))
def test_an_entry_is_due_shortly_before_the_end(born: int, ttl: int) -> None:
    record = Envelope(b"a", b"v", Position(1, 1), Stamp(born, 0), "x", None, born + ttl)
    due = due_of(record)
    assert born + ttl - max(ttl / 16, 2**20) <= due <= born + ttl
    assert index_writes([record]) == [Write(keyspace.expiry_key(due, b"a"), b"")]


@pytest.mark.parametrize("expires", [-5, 2**70])
def test_a_record_with_a_mad_end_is_still_stored(expires: int) -> None:
    record = Envelope(b"a", b"v", Position(1, 1), Stamp(0, 0), "x", None, expires)
    assert len(index_writes([record])[0].key) == len("x/") + 8 + len("a")
