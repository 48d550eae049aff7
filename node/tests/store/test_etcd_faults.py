# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines that are killed, frozen, left without a majority or without space, under load."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.engine_cluster import engine_cluster
from support.store_load import Watcher, load, until

from grey.store.interface import (
    Change,
    CommitUncertain,
    Compacted,
    EngineUnreachable,
    Item,
    QuotaExceeded,
    StoreError,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from support.engine_cluster import EngineProcess

    from grey.store.etcd import EtcdStore

pytestmark = pytest.mark.processes

QUICK_SECONDS = 2.0
MEBIBYTE = 1024 * 1024
GRACE_SECONDS = 4.0
"""How much later than its time limit a call may end on a busy machine."""


@asynccontextmanager
async def opened(
    member: EngineProcess, *, timeout_seconds: float = QUICK_SECONDS
) -> AsyncIterator[EtcdStore]:
    store = await member.open(timeout_seconds=timeout_seconds)
    try:
        yield store
    finally:
        await store.close()


async def put(store: EtcdStore, key: bytes, value: bytes | None) -> int:
    return await store.commit([], [Write(key, value)])


async def put_in_the_end(store: EtcdStore, key: bytes, value: bytes, within: float = 30.0) -> int:
    """Put until it is acknowledged."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await put(store, key, value)
            except (EngineUnreachable, CommitUncertain):
                await asyncio.sleep(0.05)


async def bounded(call: Awaitable[object], error: type[Exception] | tuple[type[Exception], ...]) -> Exception:
    """Return the error of a call that must fail in time."""
    began = time.monotonic()
    with pytest.raises(error) as caught:
        await call
    assert time.monotonic() - began < QUICK_SECONDS + GRACE_SECONDS
    return caught.value


async def test_a_killed_engine_keeps_what_it_acknowledged() -> None:
    async with engine_cluster() as cluster, opened(cluster.members[0]) as store:
        async with load(store) as running:
            for _ in range(3):
                await running.more(200)
                cluster.members[0].kill()
                await until(lambda: bool(running.refused))
                cluster.start()
            await running.more(100)
        await running.check(store)
        assert running.unknown
        assert running.slowest < QUICK_SECONDS + GRACE_SECONDS


async def test_a_frozen_engine_ends_every_call_in_time() -> None:
    async with engine_cluster() as cluster, opened(cluster.members[0]) as store:
        member = cluster.members[0]
        assert await put(store, b"a", b"1") == 1
        member.freeze()
        try:
            await asyncio.gather(
                bounded(put(store, b"a", b"2"), CommitUncertain),
                bounded(store.get(b"a"), EngineUnreachable),
                bounded(store.get(b"a", revision=1, serializable=True), EngineUnreachable),
                bounded(store.get_many([b"a"]), EngineUnreachable),
                bounded(store.range(b"", None, limit=5), EngineUnreachable),
                bounded(store.status(), EngineUnreachable),
                bounded(store.compact(1), EngineUnreachable),
                bounded(store.reclaim(), EngineUnreachable),
                bounded(member.open(timeout_seconds=QUICK_SECONDS), EngineUnreachable),
            )
        finally:
            member.thaw()
        last = await put_in_the_end(store, b"a", b"3")
        # The write that was on its way may come to pass, before or after.
        assert last in (2, 3)
        assert await store.get(b"a", revision=last) == Item(b"a", b"3", last)


async def test_an_engine_that_is_not_there_is_told_from_a_doubt() -> None:
    async with engine_cluster() as cluster:
        member = cluster.members[0]
        async with opened(member) as store:
            await put(store, b"a", b"1")
            member.kill()
            error = await bounded(put(store, b"b", b"1"), (EngineUnreachable, CommitUncertain))
            assert isinstance(error, EngineUnreachable) or "did not say" in str(error)
            said = await bounded(put(store, b"b", b"1"), EngineUnreachable)
            assert "nothing was written" in str(said)
            assert "greyd engine --check-health" in str(said)
            assert member.access.endpoint in str(said)
            await bounded(store.get(b"a"), EngineUnreachable)
            await bounded(member.open(timeout_seconds=QUICK_SECONDS), EngineUnreachable)
            cluster.start()
            await cluster.healthy()
            assert await store.get(b"a") == Item(b"a", b"1", 1)
            assert await store.get(b"b") is None
        with pytest.raises(StoreError, match="closed"):
            await store.get(b"a")


@pytest.mark.parametrize("fault", ["kill", "freeze"])
@pytest.mark.parametrize("whom", ["leader", "follower"])
async def test_one_of_three_is_missed_for_a_moment_only(whom: str, fault: str) -> None:
    async with engine_cluster(3) as cluster:
        leader = await cluster.leader()
        followers = await cluster.followers()
        victim = leader if whom == "leader" else followers[0]
        async with opened(followers[1]) as store:
            async with load(store) as running:
                await running.more(100)
                victim.kill() if fault == "kill" else victim.freeze()
                await running.more(300)
                victim.start() if fault == "kill" else victim.thaw()
                await running.more(100)
            await cluster.healthy()
            assert running.slowest < QUICK_SECONDS + GRACE_SECONDS
            await running.check(store)
        async with opened(victim) as back:
            await running.check(back)


async def test_without_a_majority_only_the_past_is_read() -> None:
    async with engine_cluster(3) as cluster:
        survivor, *others = cluster.members
        async with opened(survivor) as store:
            assert await put(store, b"a", b"1") == 1
            for member in others:
                member.kill()
            refused = False
            async with asyncio.timeout(30):
                while not refused:
                    error = await bounded(put(store, b"b", b"x"), (EngineUnreachable, CommitUncertain))
                    refused = isinstance(error, EngineUnreachable)
            assert "no leader" in str(error)
            await bounded(store.get(b"a"), EngineUnreachable)
            await bounded(store.get_many([b"a"]), EngineUnreachable)
            await bounded(store.range(b"", None, limit=5), EngineUnreachable)
            first = Item(b"a", b"1", 1)
            assert await store.get(b"a", serializable=True) == first
            assert await store.get_many([b"a", b"b"], serializable=True) == {b"a": first}
            assert (await store.range(b"", None, limit=5, serializable=True)).items == [first]
            status = await store.status()
            assert (status.revision, status.majority, status.leader, status.members) == (1, False, False, 3)
            assert status.reachable == 1
            async with opened(survivor) as second:
                assert await second.get(b"a", serializable=True) == first
            others[0].start()
            await cluster.healthy(members=2)
            assert await put_in_the_end(store, b"c", b"1") >= 2
            assert (await store.status()).majority


async def test_a_read_is_linearizable_whatever_member_is_asked() -> None:
    async with engine_cluster(3) as cluster:
        one, other, third = cluster.members
        async with opened(one) as first, opened(other) as second, opened(third) as last:
            for number in range(50):
                value = b"%d" % number
                revision = await put(first, b"a", value)
                assert await second.get(b"a") == Item(b"a", value, revision)
                assert (await last.get_many([b"a"]))[b"a"].revision == revision
                assert (await last.range(b"", None, limit=1)).revision == revision


async def test_watches_go_on_through_kills_without_gap_or_double() -> None:
    async with engine_cluster() as cluster, opened(cluster.members[0]) as store:
        watchers = [Watcher(store, 0) for _ in range(2)]
        async with load(store) as running:
            for _ in range(3):
                await running.more(100)
                cluster.members[0].kill()
                watchers.append(Watcher(store, 0))
                cluster.start()
            await running.more(100)
        newest = (await store.range(b"", None, limit=1)).revision
        for watcher in watchers:
            await watcher.reached(newest)
            await watcher.close()
            assert watcher.revisions == list(range(1, newest + 1))
            assert all(len(changes) == 1 for changes in watcher.seen)


async def test_a_watch_goes_on_through_a_freeze_and_a_new_leader() -> None:
    async with engine_cluster(3) as cluster:
        leader = await cluster.leader()
        own, other = await cluster.followers()
        async with opened(own) as watching, opened(other) as writing:
            watcher = Watcher(watching, 0)
            async with load(writing) as running:
                await running.more(50)
                own.freeze()
                await running.more(50)
                own.thaw()
                await running.more(50)
                leader.kill()
                await running.more(50)
            newest = (await writing.range(b"", None, limit=1)).revision
            await watcher.reached(newest)
            await watcher.close()
            assert watcher.revisions == list(range(1, newest + 1))


async def test_a_watch_that_missed_nothing_goes_on_after_a_compaction() -> None:
    """Also one of a range in which nothing has happened for long."""
    async with engine_cluster() as cluster, opened(cluster.members[0]) as store:
        everything, quiet = Watcher(store, 0), Watcher(store, 0, start=b"q", end=b"r")
        for number in range(200):
            await put(store, b"busy", b"%d" % number)
        await everything.reached(200)
        await store.compact(200)
        cluster.members[0].kill()
        cluster.start()
        await cluster.healthy()
        await put_in_the_end(store, b"q", b"1")
        await quiet.reached(201)
        await everything.reached(201)
        await quiet.close()
        await everything.close()
        assert quiet.seen == [[Change(b"q", b"1", 201)]]
        assert everything.revisions == list(range(1, 202))


async def test_a_watch_that_missed_something_says_so() -> None:
    """Another node goes on writing and compacts, while the member of the first one is away."""
    async with engine_cluster(3) as cluster:
        own, other, _ = cluster.members
        async with opened(own) as watching, opened(other) as writing:
            watcher = Watcher(watching, 0)
            await put(writing, b"a", b"1")
            await watcher.reached(1)
            own.kill()
            for number in range(2, 12):
                await put_in_the_end(writing, b"a", b"%d" % number)
            await writing.compact(10)
            own.start()
            await cluster.healthy()
            await until(watcher.task.done)
            error = watcher.task.exception()
            assert isinstance(error, Compacted)
            assert (error.asked, error.oldest) == (1, 10)
            assert (await watching.status()).compacted == 10
            again = Watcher(watching, 10)
            await again.reached(11)
            await again.close()
            assert again.seen == [[Change(b"a", b"11", 11)]]


async def test_a_compaction_between_two_parts_of_the_past_hides_no_removal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """etcd sends 1,000 revisions of its history at once, and keeps quiet when it lost a part of the next.

    It forgets the removals, and only those, of the revision up to which it is compacted.
    """
    monkeypatch.setattr("grey.store.etcd_watch.HELD_TRANSACTIONS", 1)
    async with engine_cluster() as cluster, opened(cluster.members[0], timeout_seconds=10.0) as store:
        for first in (0, 1000):
            await store.commit([], [Write(b"gone-%d" % number, b"") for number in range(first, first + 1000)])
        for number in range(1100):
            await store.commit([], [Write(b"put", b""), Write(b"gone-%d" % number, None)])
        seen = 2
        async with asyncio.timeout(30), aclosing(store.watch(b"", None, after=2)) as watch:
            with pytest.raises(Compacted) as gone:
                async for changes in watch:
                    seen += 1
                    assert {change.key for change in changes} == {b"put", b"gone-%d" % (seen - 3)}
                    assert {change.revision for change in changes} == {seen}
                    if seen == 3:
                        await store.compact(1002)
        assert (gone.value.asked, gone.value.oldest) == (1001, 1002)
        assert seen == 1001


async def fill(store: EtcdStore, value: bytes) -> int:
    """Put one value again and again until the engine takes no more; return how many it took."""
    for number in range(2000):
        try:
            await put(store, b"big", value)
        except QuotaExceeded as full:
            assert "alarm NOSPACE" in str(full)
            return number
        except CommitUncertain as doubt:
            assert "quota" in str(doubt)  # the one that reached it
    raise AssertionError("the quota was never reached")


async def test_a_reached_quota_is_named_and_ends_when_there_is_room() -> None:
    quota = 16 * MEBIBYTE
    async with engine_cluster(quota_bytes=quota) as cluster, opened(cluster.members[0]) as store:
        await put(store, b"small", b"1")
        assert await store.reclaim() is False
        assert await fill(store, bytes(256 * 1024)) > 30
        status = await store.status()
        assert status.alarms == ("NOSPACE",)
        assert status.limit_bytes == quota
        assert status.bytes >= 0.8 * quota
        assert await store.get(b"small") == Item(b"small", b"1", 1)
        before = (await store.status()).revision
        with pytest.raises(QuotaExceeded):
            await put(store, b"small", b"2")
        with pytest.raises(QuotaExceeded):
            await put(store, b"new", b"2")
        assert (await store.status()).revision == before
        await store.compact(before)

        async with asyncio.timeout(30):
            while (await store.status()).alarms:
                await store.reclaim()
                await asyncio.sleep(0.2)  # etcd drops what is compacted in the background
        status = await store.status()
        assert status.bytes < quota / 2
        assert await put(store, b"small", b"2") == before + 1
        assert await store.reclaim() is False


async def test_the_write_that_reaches_the_quota_is_not_called_refused() -> None:
    """etcd carries it out and then says that there is no space."""
    async with engine_cluster(quota_bytes=16 * MEBIBYTE) as cluster, opened(cluster.members[0]) as store:
        refused: set[bytes] = set()
        unknown: set[bytes] = set()

        async def write(worker: int) -> None:
            for number in range(400):
                key = b"%d-%d" % (worker, number)
                try:
                    await put(store, key, bytes(64 * 1024))
                except QuotaExceeded:
                    refused.add(key)
                    return
                except CommitUncertain:
                    unknown.add(key)

        await asyncio.gather(*(write(worker) for worker in range(16)))
        assert refused
        assert not await store.get_many(sorted(refused))
