# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the file of the embedded store is made, opened, locked and refused."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from grey.store.interface import StoreDamaged, StoreError, Write
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "with space and ?#%" / "data.sqlite"


@pytest.fixture(autouse=True)
def folder(path: Path) -> None:
    path.parent.mkdir()


async def make(path: Path, *, keys: int = 50) -> None:
    store = await SqliteStore.create(path)
    for number in range(keys):
        await store.commit([], [Write(b"%d" % number, bytes(1000))])
    await store.close()


async def test_open_never_makes_a_store(path: Path) -> None:
    with pytest.raises(StoreDamaged, match=r"is missing.*greyd init"):
        await SqliteStore.open(path)
    with pytest.raises(StoreDamaged, match="is missing"):
        await SqliteStore.open(path.parent / "no-folder" / "data.sqlite")
    assert list(path.parent.iterdir()) == []


async def test_nobody_else_can_read_the_data(path: Path) -> None:
    store = await SqliteStore.create(path)
    await store.commit([], [Write(b"a", b"1")])
    assert {found.stat().st_mode & 0o777 for found in path.parent.iterdir()} == {0o600}
    await store.close()


async def test_create_refuses_an_existing_store(path: Path) -> None:
    await make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="exists already"):
        await SqliteStore.create(path)
    assert path.read_bytes() == before


async def test_create_begins_again_after_a_half_made_draft(path: Path) -> None:
    for name in ("data.sqlite.new", "data.sqlite.new-wal", "data.sqlite.new-journal"):
        path.with_name(name).write_bytes(b"half")
    await make(path)
    assert sorted(found.name for found in path.parent.iterdir()) == ["data.sqlite", "data.sqlite.lock"]


async def test_create_refuses_beside_the_log_of_a_lost_store(path: Path) -> None:
    path.with_name("data.sqlite-wal").write_bytes(b"acknowledged writes")
    with pytest.raises(StoreDamaged, match=r"is missing, but data\.sqlite-wal"):
        await SqliteStore.create(path)
    assert not path.exists()


async def test_create_says_when_there_is_no_folder(path: Path) -> None:
    with pytest.raises(StoreError, match=r"lock file .*No such file"):
        await SqliteStore.create(path.parent / "no-folder" / "data.sqlite")


async def test_an_empty_file_is_refused(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreDamaged, match="not a Grey data store"):
        await SqliteStore.open(path)
    assert path.read_bytes() == b""


async def test_something_else_is_refused(path: Path) -> None:
    path.write_bytes(b"text" * 5000)
    with pytest.raises(StoreDamaged, match=r"SQLITE_NOTADB.*restore a backup"):
        await SqliteStore.open(path)


async def test_another_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(StoreDamaged, match=r"0x47524559 was wanted, 0x0 was found"):
        await SqliteStore.open(path)


async def test_a_newer_schema_is_refused(path: Path) -> None:
    await make(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreDamaged, match="schema version 2, this greyd knows version 1"):
        await SqliteStore.open(path)


async def test_a_changed_journal_mode_is_refused(path: Path) -> None:
    await make(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    with pytest.raises(StoreDamaged, match="journal mode delete, wal was wanted"):
        await SqliteStore.open(path)


async def test_a_damaged_page_is_refused(path: Path) -> None:
    await make(path)
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 4))
    with pytest.raises(StoreDamaged, match=r"corrupt|SQLITE_CORRUPT"):
        await SqliteStore.open(path)


async def test_a_cut_off_file_is_refused(path: Path) -> None:
    await make(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreDamaged):
        await SqliteStore.open(path)


async def test_damage_that_is_met_later_stops_the_store(path: Path) -> None:
    await make(path, keys=300)
    store = await SqliteStore.open(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(StoreDamaged):
        await store.range(b"", None, limit=1000)
    with pytest.raises(StoreDamaged):
        for number in range(300):
            await store.commit([], [Write(b"%d" % number, b"new")])
    with pytest.raises(StoreDamaged):
        await store.commit([], [Write(b"other", b"new")])
    await store.close()


async def test_one_process_holds_the_store(path: Path) -> None:
    store = await SqliteStore.create(path)
    with pytest.raises(StoreError, match=rf"open in another process \(pid {os.getpid()}\)"):
        await SqliteStore.open(path)
    with pytest.raises(StoreError, match="open in another process"):
        await SqliteStore.create(path)
    program = (
        "import asyncio, pathlib, sys; from grey.store.sqlite import SqliteStore; "
        "asyncio.run(SqliteStore.open(pathlib.Path(sys.argv[1])))"
    )
    found = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert found.returncode == 1
    assert f"open in another process (pid {os.getpid()})".encode() in found.stderr
    await store.close()
    await (await SqliteStore.open(path)).close()


async def test_a_refused_store_is_not_kept_locked(path: Path) -> None:
    path.touch()
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            await SqliteStore.open(path)
    path.unlink()
    await make(path)
