# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store on real etcd: one or three processes with their own CA."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from support.etcd_cluster import EtcdCluster
from support.pki import Authority

from grey.federation.etcd_store import EtcdFederationStore
from grey.federation.interface import FederationStoreError, Versioned

if TYPE_CHECKING:
    from pathlib import Path


async def until_changed(store: EtcdFederationStore, key: str, value: bytes, within: float = 15.0) -> None:
    """Put until the store takes it."""
    async with asyncio.timeout(within):
        while True:
            try:
                await store.put(key, value)
            except FederationStoreError:
                continue
            return


async def test_records(etcd1: EtcdCluster) -> None:
    await etcd1.healthy()
    store, other = etcd1.store(), etcd1.store(federation="other")
    try:
        assert await store.get("role") is None
        assert await store.swap("role", b"one", expected=None)
        assert not await store.swap("role", b"two", expected=None)
        first = await store.get("role")
        assert first is not None
        assert first.value == b"one"
        assert not await store.swap("role", b"two", expected=first.version + 1)
        assert await store.swap("role", b"two", expected=first.version)
        assert not await store.swap("role", b"three", expected=first.version)
        second = await store.get("role")
        assert second is not None
        assert second == Versioned(b"two", second.version)
        assert second.version > first.version

        await store.put("members/a", b"1")
        await store.put("members/b", b"\x00\xff")
        await store.put("members/a", b"2")
        await store.put("membersx", b"no")
        listed = await store.list("members/")
        assert {key: each.value for key, each in listed.items()} == {
            "members/a": b"2",
            "members/b": b"\x00\xff",
        }
        assert await other.list("") == {}
        assert await other.get("role") is None
    finally:
        await store.close()
        await other.close()


async def test_of_many_concurrent_swaps_exactly_one_wins(etcd3: EtcdCluster) -> None:
    await etcd3.healthy()
    stores = [etcd3.store() for _ in range(4)]
    try:
        for expected in (None, "current"):
            found = await stores[0].get("role")
            version = found.version if found and expected else None
            outcomes = await asyncio.gather(
                *(stores[n % 4].swap("role", b"%d" % n, expected=version) for n in range(20))
            )
            assert sum(outcomes) == 1
            after = await stores[0].get("role")
            assert after is not None
            assert after.value == b"%d" % outcomes.index(True)
    finally:
        await asyncio.gather(*(store.close() for store in stores))


async def test_a_killed_leader_interrupts_for_an_election_only(etcd3: EtcdCluster) -> None:
    await etcd3.healthy()
    store = etcd3.store()
    try:
        await store.put("members/a", b"1")
        (await etcd3.leader()).kill()
        started = time.monotonic()
        await until_changed(store, "members/a", b"2")
        assert time.monotonic() - started < 8.0
        found = await store.get("members/a")
        assert found is not None
        assert found.value == b"2"
        health = await etcd3.healthy(members=2)
        assert [each.reachable for each in health.members].count(False) == 1
    finally:
        await store.close()


async def test_a_frozen_member_does_not_stall_every_call(etcd3: EtcdCluster) -> None:
    await etcd3.healthy()
    leader = await etcd3.leader()
    frozen = next(member for member in etcd3.members if member is not leader)
    store = EtcdFederationStore(
        "test",
        [frozen.endpoint, *(each.endpoint for each in etcd3.members if each is not frozen)],
        etcd3.client_tls,
        timeout_seconds=4.0,
    )
    try:
        assert await store.swap("role", b"0", expected=None)
        frozen.freeze()
        started = time.monotonic()
        found = await store.get("role")
        assert found is not None
        assert time.monotonic() - started < 3.0
        started = time.monotonic()
        for _ in range(10):
            found = await store.get("role")
            assert found is not None
            assert await store.swap("role", b"x", expected=found.version)
        assert time.monotonic() - started < 3.0
        health = await store.health()
        assert health.majority
        assert health.reachable == 2
        assert "no answer" in (health.members[0].problem or "")
    finally:
        frozen.thaw()
        await store.close()


async def test_a_frozen_leader_is_replaced(etcd3: EtcdCluster) -> None:
    await etcd3.healthy()
    store = etcd3.store(timeout_seconds=2.0)
    leader = await etcd3.leader()
    try:
        await store.put("members/a", b"1")
        leader.freeze()
        await until_changed(store, "members/a", b"2")
    finally:
        leader.thaw()
        await store.close()


async def test_a_lost_majority_is_an_error_in_time_and_heals(etcd3: EtcdCluster) -> None:
    await etcd3.healthy()
    store = etcd3.store(timeout_seconds=1.5)
    try:
        await store.put("members/a", b"1")
        for member in etcd3.members[1:]:
            member.kill()
        for call in (
            store.get("role"),
            store.put("members/a", b"2"),
            store.swap("role", b"x", expected=None),
        ):
            started = time.monotonic()
            with pytest.raises(FederationStoreError) as error:
                await call
            assert time.monotonic() - started < 3.0
            for member in etcd3.members:
                assert member.endpoint in str(error.value)
            assert "--check-health" in str(error.value)
        assert not (await store.health()).majority
        for member in etcd3.members[1:]:
            member.start()
        await etcd3.healthy()
        await until_changed(store, "members/a", b"3")
    finally:
        await store.close()


async def test_health_names_every_member(etcd3: EtcdCluster) -> None:
    health = await etcd3.healthy()
    assert [each.name for each in health.members] == ["member-1", "member-2", "member-3"]
    assert [each.endpoint for each in health.members] == etcd3.endpoints
    assert [each.leader for each in health.members].count(True) == 1
    assert all(each.has_leader and each.reachable and each.problem is None for each in health.members)
    assert all((each.database_bytes or 0) > 0 and each.alarms == () for each in health.members)
    etcd3.members[0].kill()
    after = await etcd3.healthy(members=2)
    assert after.members[0].name == "member-1"
    assert after.members[0].problem is not None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("foreign certificate", "was not issued by a CA of"),
        ("expired certificate", "the certificate expired on"),
        ("foreign server", "its certificate cannot be trusted here"),
        ("no files", "No such file or directory"),
    ],
)
async def test_a_wrong_certificate_is_refused_and_named(etcd1: EtcdCluster, kind: str, said: str) -> None:
    await etcd1.healthy()
    stranger = Authority("another authority")
    folder = etcd1.folder / "wrong"
    tls = {
        "foreign certificate": lambda: stranger.issue(folder, "x", bundle=etcd1.authority.pem),
        "expired certificate": lambda: etcd1.authority.issue(folder, "x", expired=True),
        "foreign server": lambda: stranger.issue(folder, "x"),
        "no files": lambda: type(etcd1.client_tls)("/nowhere/c", "/nowhere/k", "/nowhere/a"),
    }[kind]()
    store = etcd1.store(tls=tls, timeout_seconds=0.8)
    try:
        with pytest.raises(FederationStoreError) as error:
            await store.get("role")
        assert said in str(error.value)
        health = await store.health()
        assert not health.majority
        assert health.members[0].problem
    finally:
        await store.close()


async def test_certificates_that_were_replaced_are_used_at_once(etcd1: EtcdCluster) -> None:
    await etcd1.healthy()
    folder = etcd1.folder / "renewed"
    store = etcd1.store(tls=etcd1.authority.issue(folder, "x", expired=True), timeout_seconds=1.0)
    try:
        with pytest.raises(FederationStoreError):
            await store.get("role")
        etcd1.authority.issue(folder, "x")
        assert await store.get("role") is None
        etcd1.authority.issue(folder, "x")
        assert await store.swap("role", b"x", expected=None)
    finally:
        await store.close()


async def test_a_full_database_is_named(tmp_path: Path) -> None:
    etcd = EtcdCluster(tmp_path / "etcd", 1, quota_backend_bytes=512 * 1024)
    etcd.start()
    store = etcd.store(timeout_seconds=1.0)
    try:
        await etcd.healthy()
        with pytest.raises(FederationStoreError, match="database space exceeded"):
            # etcd compares what is on disk, and writes there every 100 ms only.
            for number in range(200):
                await store.put(f"members/{number}", bytes(100_000))
        health = await store.health()
        assert health.majority
        assert any("NOSPACE" in alarm for alarm in health.members[0].alarms)
        assert await store.get("members/0") is not None
    finally:
        await store.close()
        etcd.stop()
