# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.fences import FakeTime

from grey.data import housekeeping, keyspace
from grey.data.history import History
from grey.data.housekeeping import Housekeeping
from grey.record import Position
from grey.store.interface import DiskFull, StoreDamaged, StoreStatus, Write

if TYPE_CHECKING:
    from grey.store.interface import Store


class Bench:
    def __init__(
        self, store: Store, *, keep_revisions: int = 20, keep_at_most: int = 100, keep_seconds: float = 0
    ) -> None:
        self.store = store
        self.time = FakeTime(1000.0)
        self.confirmed: Position | None = None
        self.housekeeping = Housekeeping(
            store,
            History(store),
            confirmed=lambda: self.confirmed,
            keep_revisions=keep_revisions,
            keep_at_most=keep_at_most,
            keep_seconds=keep_seconds,
            request_ttl_seconds=600,
            monotonic=self.time,
        )
        self.sequence = 0

    async def records(self, count: int) -> None:
        """Move the position on, one revision for each step."""
        for _ in range(count):
            self.sequence += 1
            await self.store.commit([], [Write(keyspace.POSITION, b"1.%d" % self.sequence)])

    async def requests(self, *names: str) -> None:
        for name in names:
            await self.store.commit([], [Write(keyspace.request_key(name), b"entry %f" % self.time.now)])

    async def held(self) -> list[str]:
        page = await self.store.range(keyspace.REQUEST, keyspace.REQUEST_END, limit=10_000)
        return [item.key[2:].decode() for item in page.items]

    async def compacted(self) -> int:
        return (await self.store.status()).compacted


@pytest.fixture
def bench(store: Store) -> Bench:
    return Bench(store)


async def test_request_ids_live_for_their_time(bench: Bench) -> None:
    await bench.requests("a", "b")
    assert await bench.housekeeping.expire_requests() == 0
    bench.time.now += 300
    await bench.requests("c")
    assert await bench.housekeeping.expire_requests() == 0
    bench.time.now += 299
    assert await bench.housekeeping.expire_requests() == 0
    assert await bench.held() == ["a", "b", "c"]
    bench.time.now += 1
    assert await bench.housekeeping.expire_requests() == 2
    assert await bench.held() == ["c"]
    bench.time.now += 300
    assert await bench.housekeeping.expire_requests() == 1
    assert await bench.held() == []


async def test_a_new_process_waits_a_whole_time_to_live(bench: Bench, store: Store) -> None:
    """It cannot know how old the entries are, and a wall clock is not to be believed."""
    await bench.requests("a")
    bench.time.now += 10_000
    assert await bench.housekeeping.expire_requests() == 0
    bench.time.now += 600
    assert await bench.housekeeping.expire_requests() == 1


async def test_nothing_but_request_ids_expires(bench: Bench, store: Store) -> None:
    await store.commit(
        [], [Write(key, b"x") for key in (keyspace.EPOCH, keyspace.data_key(b"r/a"), b"r", b"r0")]
    )
    await bench.requests("a")
    await bench.housekeeping.expire_requests()
    bench.time.now += 600
    assert await bench.housekeeping.expire_requests() == 1
    assert len((await store.range(b"", None, limit=10)).items) == 4


async def test_many_request_ids_go_in_pages(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "_PAUSE_SECONDS", 0)
    names = [f"{number:04}" for number in range(1700)]
    for start in range(0, len(names), 850):
        part = names[start : start + 850]
        await store.commit([], [Write(keyspace.request_key(name), b"e") for name in part])
    await bench.housekeeping.expire_requests()
    await bench.requests("0003", "1699")
    bench.time.now += 600
    assert await bench.housekeeping.expire_requests() == 1698
    assert await bench.held() == ["0003", "1699"]


async def test_a_pass_over_many_ids_is_bounded_in_time(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(housekeeping, "_PAGE_ITEMS", 10)
    await store.commit([], [Write(keyspace.request_key(f"{n:03}"), b"e") for n in range(100)])
    await bench.housekeeping.expire_requests()
    bench.time.now += 600
    read = store.range

    async def read_slowly(start: bytes, end: bytes | None, *, limit: int) -> object:
        bench.time.now += 4
        return await read(start, end, limit=limit)

    monkeypatch.setattr(store, "range", read_slowly)
    assert [await bench.housekeeping.expire_requests() for _ in range(4)] == [30, 30, 30, 10]
    monkeypatch.undo()
    assert await bench.held() == []
    await bench.requests("000")
    await bench.housekeeping.expire_requests()
    bench.time.now += 600
    assert await bench.housekeeping.expire_requests() == 1


async def test_an_id_that_is_used_again_meanwhile_stays(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.requests("a", "b", "c")
    await bench.housekeeping.expire_requests()
    bench.time.now += 600
    read = store.range

    async def read_and_refresh(start: bytes, end: bytes | None, *, limit: int) -> object:
        page = await read(start, end, limit=limit)
        await bench.requests("b")
        return page

    monkeypatch.setattr(store, "range", read_and_refresh)
    assert await bench.housekeeping.expire_requests() == 2
    monkeypatch.undo()
    assert await bench.held() == ["b"]


async def test_the_newest_revisions_are_kept(bench: Bench) -> None:
    await bench.records(20)
    assert await bench.housekeeping.compact() is None
    await bench.records(15)
    assert await bench.housekeeping.compact() == 15
    assert await bench.compacted() == 15
    assert await bench.housekeeping.compact() is None


async def test_small_steps_gather(store: Store) -> None:
    bench = Bench(store, keep_revisions=40)
    await bench.records(41)
    assert await bench.housekeeping.compact() is None
    await bench.records(1)
    assert await bench.housekeeping.compact() == 2


async def test_never_past_what_a_replica_confirmed(bench: Bench) -> None:
    await bench.records(60)
    bench.confirmed = Position(1, 10)
    assert await bench.housekeeping.compact() == 10
    assert await bench.housekeeping.compact() is None
    # The replica can still go on from where it stands.
    assert await History(bench.store).revision_of(bench.confirmed) == 10
    bench.confirmed = Position(1, 50)
    assert await bench.housekeeping.compact() == 40


async def test_no_more_than_the_limit_is_kept_for_a_replica(bench: Bench) -> None:
    await bench.records(90)
    bench.confirmed = Position(0, 0)
    assert await bench.housekeeping.compact() is None
    await bench.records(60)
    assert await bench.housekeeping.compact() == 50
    assert await bench.compacted() == 50


@pytest.mark.parametrize("lost", [Position(1, 3), Position(2, 40), Position(1, 900)])
async def test_a_replica_that_cannot_go_on_holds_back_up_to_the_limit(bench: Bench, lost: Position) -> None:
    """Compacted, diverged or ahead: where the others stand is unknown then."""
    await bench.records(40)
    await bench.housekeeping.compact()
    assert await bench.compacted() == 20
    await bench.records(60)
    bench.confirmed = lost
    assert await bench.housekeeping.compact() is None
    await bench.records(40)
    assert await bench.housekeeping.compact() == 40


async def test_runs_again_after_errors_and_stops_on_damage(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping, "_PASS_SECONDS", 0)
    faults = [DiskFull("no room"), None, StoreDamaged("broken")]
    status = store.status

    async def fail() -> object:
        if faults and (fault := faults.pop(0)) is not None:
            raise fault
        return await status()

    monkeypatch.setattr(store, "status", fail)
    async with asyncio.timeout(10):
        with pytest.raises(StoreDamaged, match="broken"):
            await bench.housekeeping.run()
    assert "goes on in 0 s: no room" in caplog.text


async def test_history_that_is_young_stays_for_those_who_walk_and_watch(store: Store) -> None:
    bench = Bench(store, keep_revisions=20, keep_seconds=60)
    await bench.records(100)
    # A new process does not know how old anything is.
    assert await bench.housekeeping.compact() is None
    bench.time.now += 30
    await bench.records(50)
    assert await bench.housekeeping.compact() is None
    bench.time.now += 30
    assert await bench.housekeeping.compact() == 100
    await bench.records(5)
    bench.time.now += 29.9
    assert await bench.housekeeping.compact() is None
    bench.time.now += 0.1
    assert await bench.housekeeping.compact() == 135


class Nearly:
    """A store whose engine has 100 bytes, of which so many are in use."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.used = 0

    async def status(self) -> StoreStatus:
        found = await self.store.status()
        return StoreStatus(found.revision, found.compacted, 90, used_bytes=self.used, limit_bytes=100)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


async def test_an_engine_that_fills_up_gives_up_history_step_by_step(store: Store) -> None:
    nearly = Nearly(store)
    bench = Bench(nearly, keep_revisions=80, keep_at_most=1000, keep_seconds=60)  # type: ignore[arg-type]
    bench.confirmed = Position(1, 100)
    await bench.records(50)
    await bench.housekeeping.compact()
    bench.time.now += 60
    await bench.records(60)
    assert await bench.housekeeping.compact() == 30
    nearly.used = 50  # the count of revisions no longer matters
    assert await bench.housekeeping.compact() == 50
    nearly.used = 70  # nor does their age
    assert await bench.housekeeping.compact() == 100
    await bench.records(20)
    nearly.used = 84
    assert await bench.housekeeping.compact() is None
    nearly.used = 85  # nor does a replica that lags
    assert await bench.housekeeping.compact() == 130


async def test_an_engine_full_of_few_large_records_is_compacted_too(store: Store) -> None:
    nearly = Nearly(store)
    bench = Bench(nearly, keep_revisions=100_000, keep_at_most=1_000_000, keep_seconds=60)  # type: ignore[arg-type]
    await bench.records(30)
    nearly.used = 95
    assert await bench.housekeeping.compact() == 30
    assert await bench.housekeeping.compact() is None


async def test_only_the_leader_tidies(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def leads() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    monkeypatch.setattr(housekeeping, "_PASS_SECONDS", 0)
    await bench.records(60)
    runner = Housekeeping(
        bench.store,
        History(bench.store),
        confirmed=lambda: None,
        keep_revisions=20,
        keep_seconds=0,
        leads=leads,
        monotonic=bench.time,
    )
    task = asyncio.create_task(runner.run())
    async with asyncio.timeout(20):
        while not await bench.compacted():  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert asked > 5
    task.cancel()
    await asyncio.wait([task])
