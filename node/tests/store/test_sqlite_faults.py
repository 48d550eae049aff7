# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded store when the disk is full or fails, and what concurrent commits cost."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from grey.store.interface import CommitUncertain, DiskFull, Item, StoreDamaged, Write
from grey.store.sqlite import SqliteStore
from grey.store.sqlite_reader import get_changes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = await SqliteStore.create(tmp_path / "data.sqlite")
    yield made
    await made.close()


class Connection:
    """The writer's connection with a hook before each statement."""

    def __init__(self, store: SqliteStore, before: Callable[[str], None]) -> None:
        self._real = store._writer._connection
        self._before = before
        store._writer._connection = self  # type: ignore[assignment]

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        self._before(sql)
        return self._real.execute(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def error(code: int, name: str) -> sqlite3.OperationalError:
    made = sqlite3.OperationalError("injected")
    made.sqlite_errorcode, made.sqlite_errorname = code, name
    return made


async def put(store: SqliteStore, key: bytes, value: bytes) -> int:
    return await store.commit([], [Write(key, value)])


async def test_concurrent_commits_share_an_fsync(store: SqliteStore) -> None:
    statements: list[str] = []
    Connection(store, statements.append)
    revisions = await asyncio.gather(*(put(store, b"%d" % number, b"v") for number in range(200)))
    assert sorted(revisions) == list(range(1, 201))
    assert statements.count("COMMIT") <= 5


def limit_pages(store: SqliteStore, more: int) -> None:
    """Leave room for some more pages, as a quota would."""
    connection = store._writer._connection
    count = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {count + more}")


async def test_a_full_store_says_so_and_recovers(store: SqliteStore) -> None:
    await put(store, b"a", b"1")
    limit_pages(store, 10)
    with pytest.raises(DiskFull, match=r"Make room .* writes work again by themselves"):
        await put(store, b"large", bytes(100_000))
    assert await store.get(b"large") is None
    assert await put(store, b"small", b"v") == 2
    assert await store.get(b"a") == Item(b"a", b"1", 1)
    limit_pages(store, 1000)
    assert await put(store, b"large", bytes(100_000)) == 3


async def test_the_one_that_does_not_fit_harms_no_neighbour(store: SqliteStore) -> None:
    await put(store, b"a", b"1")
    limit_pages(store, 10)
    sizes = [10, 100_000, 20, 30, 100_000, 40]
    outcomes = await asyncio.gather(
        *(put(store, b"k%d" % number, bytes(size)) for number, size in enumerate(sizes)),
        return_exceptions=True,
    )
    assert [isinstance(outcome, DiskFull) for outcome in outcomes] == [size > 1000 for size in sizes]
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [2, 3, 4, 5]
    for number, size in enumerate(sizes):
        assert (await store.get(b"k%d" % number) is not None) == (size < 1000)


async def test_a_commit_that_does_not_fit_wrote_nothing(store: SqliteStore) -> None:
    """The error comes with the last statement, COMMIT, and the neighbours still get their own outcome."""
    full = {"left": 1}

    def fail(sql: str) -> None:
        if sql == "COMMIT" and full["left"]:
            full["left"] -= 1
            raise error(sqlite3.SQLITE_FULL, "SQLITE_FULL")

    Connection(store, fail)
    with pytest.raises(DiskFull):
        await put(store, b"a", b"1")
    assert await store.get(b"a") is None
    full["left"] = 1
    outcomes = await asyncio.gather(*(put(store, b"%d" % number, b"v") for number in range(20)))
    assert sorted(outcomes) == list(range(1, 21))


@pytest.mark.parametrize("after_the_commit", [True, False])
async def test_a_failed_fsync_is_uncertain_and_stops_writes(
    store: SqliteStore, tmp_path: Path, after_the_commit: bool
) -> None:
    await put(store, b"a", b"1")
    connection: Connection

    def fail(sql: str) -> None:
        if sql == "COMMIT":
            if after_the_commit:
                connection._real.execute("COMMIT")
            raise error(sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC")

    connection = Connection(store, fail)
    with pytest.raises(CommitUncertain, match="SQLITE_IOERR_FSYNC"):
        await put(store, b"a", b"2")
    with pytest.raises(StoreDamaged, match=r"The disk failed: check it"):
        await put(store, b"a", b"3")
    with pytest.raises(StoreDamaged):
        await store.compact(1)
    assert await store.get(b"a") is not None
    await store.close()
    reopened = await SqliteStore.open(tmp_path / "data.sqlite")
    assert await reopened.get(b"a") == (Item(b"a", b"2", 2) if after_the_commit else Item(b"a", b"1", 1))
    await reopened.close()


async def test_a_fault_of_the_writer_leaves_nobody_waiting(store: SqliteStore) -> None:
    def fail(sql: str) -> None:
        if sql.startswith("INSERT"):
            raise RuntimeError("a bug")

    Connection(store, fail)
    with pytest.raises(CommitUncertain, match="a bug"):
        await put(store, b"a", b"1")
    with pytest.raises(StoreDamaged, match="a bug"):
        await put(store, b"a", b"1")


async def test_an_interrupted_compaction_is_finished_after_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "data.sqlite"
    store = await SqliteStore.create(path)
    for number in range(1200):
        await store.commit([], [Write(b"hot", b"%d" % number)] if number % 3 else [Write(b"hot", None)])
    slices = {"left": 1}

    def fail(sql: str) -> None:
        if sql.startswith("UPDATE compaction"):
            if not slices["left"]:
                raise error(sqlite3.SQLITE_FULL, "SQLITE_FULL")
            slices["left"] -= 1

    Connection(store, fail)
    newest = (await store.status()).revision
    with pytest.raises(DiskFull):
        await store.compact(newest)
    assert (await store.status()).compacted == newest
    await store.close()
    store = await SqliteStore.open(path)
    await store.compact(newest)
    assert await store.get(b"hot") == Item(b"hot", b"1199", newest)
    assert await store._read(lambda c: c.execute("SELECT count(*) FROM history").fetchone()[0]) == 1
    await store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root and mount(8) to make a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"this machine does not let us mount: {made.stderr.decode()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_really_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """Acknowledged writes stay, refused ones are not there even after a crash, room makes it work again."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    path = small_disk / "data.sqlite"
    store = await SqliteStore.create(path)
    outcomes: dict[int, object] = {}

    async def write(number: int) -> bool:
        try:
            outcomes[number] = await put(store, b"%d" % number, b"%d" % number * 500)
        except (DiskFull, CommitUncertain) as problem:
            outcomes[number] = problem
            return False
        return True

    number = 0
    refused = 0
    while refused < 20:
        number += 1
        refused += not await write(number)
        assert number < 10_000

    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("data.sqlite", "data.sqlite-wal"):
        shutil.copy(small_disk / name, crashed / name)
    await check(await SqliteStore.open(crashed / "data.sqlite"), outcomes)

    assert await store.get(b"1") is not None
    ballast.unlink()
    for extra in range(number + 1, number + 50):
        assert await write(extra), outcomes[extra]
    await store.close()
    await check(await SqliteStore.open(path), outcomes)


async def check(store: SqliteStore, outcomes: dict[int, object]) -> None:
    for number, outcome in outcomes.items():
        item = await store.get(b"%d" % number)
        if isinstance(outcome, int):
            assert item == Item(b"%d" % number, b"%d" % number * 500, outcome)
        elif isinstance(outcome, DiskFull):
            assert item is None
    await store.close()


async def test_a_slow_watcher_costs_one_page_of_memory(store: SqliteStore) -> None:
    for number in range(40):
        await put(store, b"%d" % number, bytes(500_000))
    upto = 0
    while upto < 40:
        after = upto
        page = await store._read(lambda c: get_changes(c, b"", None, after))  # noqa: B023
        size = sum(len(change.value or b"") for changes in page.transactions for change in changes)
        assert size <= 2_000_000
        assert page.upto == after + len(page.transactions) > after
        upto = page.upto
