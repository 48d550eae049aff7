# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of a real etcd: read without one, restored into another, damaged and interrupted."""

from __future__ import annotations

import asyncio
import random
import shutil
from typing import TYPE_CHECKING

import pytest
from support.engine_cluster import engine_cluster
from support.etcd_cluster import ETCD

from grey.link.etcd import Member
from grey.store import etcd_scratch, etcd_snapshot
from grey.store.bolt import BoltDamaged, BoltFile
from grey.store.etcd import EtcdStore
from grey.store.etcd_files import cluster_id, in_use
from grey.store.etcd_scratch import SCRATCH, Membership
from grey.store.etcd_snapshot import SnapshotFile
from grey.store.interface import (
    CommitUncertain,
    EngineUnreachable,
    QuotaExceeded,
    StoreDamaged,
    StoreError,
    Write,
)

if TYPE_CHECKING:
    from pathlib import Path

    from support.engine_cluster import EngineProcess

    from grey.store.interface import Store

pytestmark = pytest.mark.processes


async def fetched(member: EngineProcess) -> bytes:
    found = bytearray()
    asked = Member(member.access.endpoint, member.access.tls)
    try:
        await etcd_snapshot.fetch(asked, found.extend)
    finally:
        await asked.close()
    return bytes(found)


async def everything(store: Store) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    start, more = b"", True
    while more:
        page = await store.range(start, None, limit=1000)
        found.update((item.key, item.value) for item in page.items)
        start, more = (page.items[-1].key + b"\0" if page.items else b""), page.more
    return found


async def fill(store: Store) -> None:
    """Leave keys of many sizes, versions and deletions, before and after a compaction."""
    rng = random.Random(7)
    for _ in range(8):
        for _ in range(10):
            keys = {b"k/%04d" % rng.randrange(800) for _ in range(100)}
            await store.commit(
                [], [Write(key, rng.choice([b"v", b"", rng.randbytes(300), None])) for key in keys]
            )
        await store.commit([], [Write(b"k/large", rng.randbytes(rng.randrange(1, 100_000)))])
        if rng.random() < 0.5:
            await store.compact((await store.status()).revision - 5)


async def test_a_snapshot_holds_what_the_store_holds(tmp_path: Path) -> None:
    async with engine_cluster() as engine:
        store = await engine.members[0].open()
        assert dict(SnapshotFile(memoryview(await fetched(engine.members[0]))).items()) == {}
        await fill(store)
        wanted = await everything(store)
        data = await fetched(engine.members[0])
        await store.close()
        data_dir = tmp_path / "of the engine"
        shutil.copytree(engine.members[0].member.data_dir, data_dir)
        assert not in_use(data_dir)
    assert len(wanted) > 500
    assert dict(SnapshotFile(memoryview(data)).items()) == wanted
    # And so does an etcd that it is restored into.
    (tmp_path / "snapshot").write_bytes(data)
    programs = etcd_scratch.find_programs(ETCD)
    scratch = tmp_path / "scratch"
    await etcd_scratch.restore(programs, tmp_path / "snapshot", scratch, SCRATCH)
    async with etcd_scratch.scratch_engine(programs, scratch) as access:
        store = await EtcdStore.open(access, timeout_seconds=10)
        assert await everything(store) == wanted
        assert in_use(scratch)
        await etcd_snapshot.fetch_file(access, tmp_path / "again")
        await store.close()
    assert not in_use(scratch)
    assert dict(SnapshotFile(memoryview((tmp_path / "again").read_bytes())).items()) == wanted
    # A restored engine is another cluster, by its token alone.
    other = Membership(SCRATCH.name, "other", SCRATCH.members)
    await etcd_scratch.restore(programs, tmp_path / "snapshot", tmp_path / "other", other)
    ids = [cluster_id(folder) for folder in (data_dir, scratch, tmp_path / "other")]
    assert None not in ids
    assert len(set(ids)) == 3
    assert cluster_id(tmp_path / "none") is None


async def test_damage_is_found_whatever_it_hits(tmp_path: Path) -> None:
    async with engine_cluster() as engine:
        store = await engine.members[0].open()
        await fill(store)
        await store.close()
        data = await fetched(engine.members[0])
    rng = random.Random(11)
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 4, 64])):
            place = rng.randrange(rng.choice([200, 16_384, len(data)]))
            damaged[place] = rng.randrange(256)
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        try:
            dict(SnapshotFile(memoryview(damaged)).items())
        except StoreDamaged:
            refused += 1
    assert refused > 50
    with pytest.raises(BoltDamaged, match="none of its first two pages"):
        BoltFile(memoryview(b""))
    # The program that restores finds the rest, by the sum that etcd appends.
    whole = bytearray(data)
    whole[len(whole) // 2] ^= 1
    (tmp_path / "snapshot").write_bytes(whole)
    with pytest.raises(StoreDamaged, match="could not restore the snapshot"):
        await etcd_scratch.restore(
            etcd_scratch.find_programs(ETCD), tmp_path / "snapshot", tmp_path / "made", SCRATCH
        )


async def test_a_snapshot_under_load_holds_everything_that_was_acknowledged_before() -> None:
    async with engine_cluster(3) as engine:
        follower = (await engine.followers())[0]
        store = await follower.open()
        acknowledged: dict[bytes, bytes] = {}
        stop = asyncio.Event()

        async def write(number: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                key, value = b"%d" % number, b"%d" % count
                await store.commit([], [Write(key, value), Write(b"copy/" + key, value)])
                acknowledged[key] = value

        writers = [asyncio.create_task(write(number)) for number in range(8)]
        for _ in range(10):
            before = dict(acknowledged)
            found = dict(SnapshotFile(memoryview(await fetched(follower))).items())
            for key, value in before.items():
                assert int(found[key]) >= int(value)
            # Transactions are in it whole.
            assert {key: found[b"copy/" + key] for key in before} == {key: found[key] for key in before}
        stop.set()
        await asyncio.gather(*writers)
        await store.close()


async def test_without_a_majority_only_what_one_member_has(tmp_path: Path) -> None:
    async with engine_cluster(3) as engine:
        store = await engine.members[0].open()
        await store.commit([], [Write(b"a", b"1")])
        await store.close()
        for member in engine.members[1:]:
            member.kill()
        asked = Member(engine.members[0].access.endpoint, None)
        with pytest.raises(EngineUnreachable, match=r"gave no snapshot.*has a majority"):
            await etcd_snapshot.fetch(asked, lambda _: None)
        found = bytearray()
        await etcd_snapshot.fetch(asked, found.extend, majority=False)
        await asked.close()
        assert dict(SnapshotFile(memoryview(bytes(found))).items()) == {b"a": b"1"}


async def test_an_engine_that_freezes_in_the_middle_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_snapshot, "SILENCE_SECONDS", 1.0)
    async with engine_cluster() as engine:
        member = engine.members[0]
        store = await member.open()
        for number in range(60):
            await store.commit([], [Write(b"%d" % number, bytes(1_000_000))])
        await store.close()
        asked = Member(member.access.endpoint, None)
        with pytest.raises(EngineUnreachable, match="stopped in the middle of its snapshot"):
            await etcd_snapshot.fetch(asked, lambda _: member.freeze())
        await asked.close()


async def test_what_ran_out_of_space_is_restored_without_its_alarm(tmp_path: Path) -> None:
    async with engine_cluster(quota_bytes=16 * 1024 * 1024) as engine:
        store = await engine.members[0].open()
        with pytest.raises((QuotaExceeded, CommitUncertain)):
            for number in range(40):
                await store.commit([], [Write(b"%d" % number, bytes(1_000_000))])
        await store.close()
        (tmp_path / "snapshot").write_bytes(await fetched(engine.members[0]))
    programs = etcd_scratch.find_programs(ETCD)
    await etcd_scratch.restore(programs, tmp_path / "snapshot", tmp_path / "scratch", SCRATCH)
    async with etcd_scratch.scratch_engine(programs, tmp_path / "scratch") as access:
        store = await EtcdStore.open(access, timeout_seconds=10)
        with pytest.raises(QuotaExceeded):
            await store.commit([], [Write(b"more", b"v")])
        await etcd_snapshot.lift_space_alarms(access)
        await store.commit([], [Write(b"more", b"v")])
        await store.close()


async def test_a_scratch_engine_that_does_not_start_says_why(tmp_path: Path) -> None:
    programs = etcd_scratch.find_programs(ETCD)
    (tmp_path / "scratch" / "member" / "snap").mkdir(parents=True)
    (tmp_path / "scratch" / "member" / "wal").mkdir(parents=True)
    (tmp_path / "scratch" / "member" / "snap" / "db").write_bytes(bytes(4096))
    (tmp_path / "scratch" / "member" / "wal" / "0000000000000000-0000000000000000.wal").write_bytes(b"x" * 64)
    with pytest.raises(StoreDamaged, match="the etcd on the restored snapshot ended"):
        async with etcd_scratch.scratch_engine(programs, tmp_path / "scratch"):
            pass


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="no etcd in PATH"):
        etcd_scratch.find_programs(None)
    with pytest.raises(StoreError, match=r"neither etcdutl nor etcdctl .* is beside /opt/etcd"):
        etcd_scratch.find_programs("/opt/etcd")
    newer = tmp_path / "etcdctl"
    newer.write_text("#!/bin/sh\necho 'etcdctl version: 3.6.1'\n")
    newer.chmod(0o755)
    with pytest.raises(StoreError, match="etcdctl is too new to restore"):
        etcd_scratch.find_programs(str(tmp_path / "etcd"))
    (tmp_path / "etcdutl").write_text("")
    (tmp_path / "etcdutl").chmod(0o755)
    assert etcd_scratch.find_programs(str(tmp_path / "etcd")).restorer == str(tmp_path / "etcdutl")
