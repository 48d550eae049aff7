# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the members of a real engine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.engine_cluster import engine_cluster

from grey.link.etcd import Member, rpc
from grey.store import etcd_change, etcd_wal
from grey.store.etcd_engine_group import EngineGroup
from grey.store.etcd_membership import ChangeRefused, healthy
from grey.store.interface import DiskFull, Item, Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.engine_cluster import EngineCluster, EngineProcess

    from grey.link.etcd import Stubs
    from grey.link.etcd_group import View
    from grey.store.etcd_change import Changed

pytestmark = pytest.mark.processes

COMMAND = "greyd engine"


@asynccontextmanager
async def group_of(member: EngineProcess) -> AsyncIterator[EngineGroup]:
    """The group as ``greyd engine`` beside this member asks it."""
    assert member.store.endpoint is not None
    group = EngineGroup(
        Member(member.store.endpoint, member.store.tls), member.member.tls, timeout_seconds=2.0
    )
    try:
        yield group
    finally:
        await group.close()


async def look(member: EngineProcess) -> View:
    async with group_of(member) as group:
        return await group.look()


async def add(at: EngineProcess, joiner: EngineProcess) -> Changed:
    async with group_of(at) as group:
        return await etcd_change.add(group, joiner.name, str(joiner.member.peer), command=COMMAND)


async def promote(at: EngineProcess, joiner: EngineProcess, wait_seconds: float = 20.0) -> Changed:
    async with group_of(at) as group:
        return await etcd_change.promote(group, joiner.name, wait_seconds=wait_seconds)


async def remove(at: EngineProcess, name: str | None, peer: str | None = None) -> Changed:
    async with group_of(at) as group:
        return await etcd_change.remove(group, name=name, peer=peer)


async def join(cluster: EngineCluster) -> EngineProcess:
    """Let one more member join, all the way."""
    first = cluster.members[0]
    joiner = cluster.joiner()
    assert (await add(first, joiner)).changed
    joiner.start()
    assert (await promote(first, joiner)).changed
    return joiner


async def write(member: EngineProcess, key: bytes) -> None:
    store = await member.open()
    try:
        await store.commit([], [Write(key, b"1")])
    finally:
        await store.close()


async def raise_space_alarm(at: EngineProcess, member_id: int) -> None:
    async def call(stubs: Stubs, seconds: float) -> None:
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=member_id, alarm=rpc.NOSPACE)
        await stubs.maintenance.Alarm(request, timeout=seconds)

    asked = Member(at.access.endpoint, at.access.tls)
    try:
        await asked.ask(call, timeout_seconds=5.0)
    finally:
        await asked.close()


async def read(member: EngineProcess, key: bytes) -> Item | None:
    store = await member.open()
    try:
        return await store.get(key)
    finally:
        await store.close()


def names(view: View | Changed) -> list[str | None]:
    return [each.name for each in view.members]


async def test_one_grows_to_three_and_keeps_what_it_held() -> None:
    async with engine_cluster(1) as cluster:
        first = cluster.members[0]
        await write(first, b"a")
        second = cluster.joiner()
        added = await add(first, second)
        assert added.changed
        assert [(each.name, each.learner, each.reachable, each.leader) for each in added.members] == [
            ("node-1", False, True, True),
            (None, True, False, False),
        ]
        again = await add(first, second)
        assert not again.changed
        with pytest.raises(
            ChangeRefused, match=r"not within 0 s: node-2 is not a member yet, and the member with"
        ):
            await promote(first, second, 0.0)
        second.start()
        async with asyncio.timeout(20):
            while not (health := await second.health()).reachable:  # noqa: ASYNC110 - it is asked
                await asyncio.sleep(0.05)
        assert health.problem == "it is a learner, which does not vote until it is promoted"
        promoted = await promote(first, second)
        assert promoted.changed
        assert not any(each.learner for each in promoted.members)
        assert not (await promote(first, second)).changed
        third = await join(cluster)
        view = await look(third)
        assert names(view) == ["node-1", "node-2", "node-3"]
        assert healthy(view)
        assert all(each.reachable for each in view.members)
        held = etcd_wal.identity(Path(third.member.data_dir))
        assert held is not None
        assert f"{held.member_id:016x}" == view.members[2].id
        first.kill()
        await cluster.healthy(members=2)
        found = await read(third, b"a")
        assert found is not None
        assert found.value == b"1"


async def test_a_dead_member_is_replaced() -> None:
    async with engine_cluster(3) as cluster:
        first, _, dead = cluster.members
        await write(first, b"a")
        dead.kill()
        await cluster.healthy(members=2)
        joiner = cluster.joiner()
        with pytest.raises(ChangeRefused, match=r"node-3 does not answer.*greyd engine remove --name node-3"):
            await add(first, joiner)
        held = etcd_wal.identity(Path(dead.member.data_dir))
        assert held is not None
        await raise_space_alarm(first, held.member_id)
        with pytest.raises(DiskFull):
            await write(first, b"full")
        gone = await remove(first, dead.name)
        assert gone.changed
        assert names(gone) == ["node-1", "node-2"]
        await write(first, b"room")
        assert not (await remove(first, dead.name)).changed
        cluster.members.remove(dead)
        joiner.bootstrap("existing", cluster.peers(), "any")
        assert (await add(first, joiner)).changed
        joiner.start()
        assert (await promote(first, joiner)).changed
        assert healthy(await look(joiner))
        await write(joiner, b"b")
        first.kill()
        await cluster.healthy(members=2)
        assert await read(joiner, b"a") is not None


@pytest.mark.parametrize("at", ["the leader", "a follower"])
async def test_the_leader_is_removed(at: str) -> None:
    async with engine_cluster(3) as cluster:
        await write(cluster.members[0], b"a")
        leader = await cluster.leader()
        follower = (await cluster.followers())[0]
        gone = await remove(leader if at == "the leader" else follower, leader.name)
        assert gone.changed
        assert len(gone.members) == 2
        leader.kill()
        cluster.members.remove(leader)
        await cluster.healthy()
        await write(follower, b"b")
        view = await look(follower)
        assert healthy(view)
        assert leader.name not in names(view)


async def test_one_change_at_a_time() -> None:
    async with engine_cluster(1) as cluster:
        first = cluster.members[0]
        second, third = cluster.joiner(), cluster.joiner()
        await add(first, second)
        with pytest.raises(
            ChangeRefused, match=rf"the member with the peer {second.member.peer} never started"
        ):
            await add(first, third)
        second.bootstrap("existing", {each.name: each.member.peer for each in (first, second)}, "any")
        second.start()
        await until_named(first, second)
        with pytest.raises(ChangeRefused, match=r"one change at a time: node-2 does not vote yet"):
            await add(first, third)
        assert (await remove(first, second.name)).changed
        second.kill()
        assert (await add(first, third)).changed
        assert (await remove(first, None, str(third.member.peer))).changed
        assert names(await look(first)) == ["node-1"]


async def until_named(at: EngineProcess, member: EngineProcess) -> None:
    async with asyncio.timeout(20):
        while member.name not in names(await look(at)):  # noqa: ASYNC110 - the group is asked
            await asyncio.sleep(0.05)


async def test_never_below_a_majority_and_never_the_last() -> None:
    async with engine_cluster(3) as cluster:
        first, second, third = cluster.members
        third.kill()
        await cluster.healthy(members=2)
        with pytest.raises(
            ChangeRefused, match=r"only 1 of 2 voting members would answer, and 2 are needed: node-3"
        ):
            await remove(first, second.name)
        second.freeze()
        view = await look(first)
        assert not healthy(view)
        with pytest.raises(ChangeRefused, match="the group has no majority"):
            await remove(first, third.name)
        second.thaw()
        await cluster.healthy(members=2)
        assert (await remove(first, third.name)).changed
        assert (await remove(first, second.name)).changed
        with pytest.raises(ChangeRefused, match="node-1 is the last voting member"):
            await remove(first, first.name)


async def test_another_member_at_the_peer_or_another_peer_of_the_member() -> None:
    async with engine_cluster(1) as cluster:
        first = cluster.members[0]
        async with group_of(first) as group:
            with pytest.raises(ChangeRefused, match=r"is the peer of node-1, and cannot be that of node-9"):
                await etcd_change.add(group, "node-9", str(first.member.peer), command=COMMAND)
            with pytest.raises(ChangeRefused, match=r"A member does not move: replace it"):
                await etcd_change.add(group, "node-1", "127.0.0.1:1", command=COMMAND)
            with pytest.raises(ChangeRefused, match=r"node-9 is not a member \(node-1\): add it first"):
                await etcd_change.promote(group, "node-9", wait_seconds=0)
