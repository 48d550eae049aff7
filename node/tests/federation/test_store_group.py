# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the members of a real federation store, asked through whichever member answers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.etcd_cluster import write_bootstrap

from grey.federation.store_group import StoreGroup
from grey.link.etcd_fault import MemberFault
from grey.store import etcd_change
from grey.store.etcd_membership import ChangeRefused, healthy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from support.etcd_cluster import EtcdCluster

pytestmark = pytest.mark.processes

COMMAND = "greyd federation-store"


@asynccontextmanager
async def group_of(etcd: EtcdCluster, endpoints: Sequence[str] | None = None) -> AsyncIterator[StoreGroup]:
    group = StoreGroup(endpoints or etcd.endpoints, etcd.client_tls, timeout_seconds=2.0)
    try:
        yield group
    finally:
        await group.close()


async def test_a_voter_is_replaced_and_the_leader_removed(etcd3: EtcdCluster) -> None:
    await etcd3.healthy()
    leader = await etcd3.leader()
    dead = next(each for each in etcd3.members if each is not leader)
    dead.kill()
    await etcd3.healthy(members=2)
    async with group_of(etcd3, [dead.endpoint, leader.endpoint]) as group:
        view = await group.look()
        assert healthy(view)
        assert {each.name: each.reachable for each in view.members} == {
            each.name: each is not dead for each in etcd3.members
        }
        gone = await etcd_change.remove(group, name=dead.name, peer=None)
        assert gone.changed
        joiner = etcd3.make(4)
        peers = {each.name: each.own.peer for each in [*etcd3.members, joiner] if each is not dead}
        write_bootstrap(Path(joiner.own.bootstrap_file), "existing", peers, "any")
        etcd3.members[etcd3.members.index(dead)] = joiner
        added = await etcd_change.add(group, joiner.name, str(joiner.own.peer), command=COMMAND)
        assert added.changed
        joiner.start()
        assert (await etcd_change.promote(group, joiner.name, wait_seconds=30.0)).changed
        gone = await etcd_change.remove(group, name=leader.name, peer=None)
        assert gone.changed
        assert len(gone.members) == 2
    leader.kill()
    async with group_of(etcd3, [joiner.endpoint]) as group:
        view = await group.look()
        assert healthy(view)
        assert sum(each.leader for each in view.members) == 1
        assert leader.name not in {each.name for each in view.members}
        assert all(each.reachable for each in view.members)  # the other one is found through the list


async def test_without_a_majority(etcd3: EtcdCluster) -> None:
    await etcd3.healthy()
    first, *others = etcd3.members
    for each in others:
        each.kill()
    async with group_of(etcd3) as group:
        view = await group.look()
        assert not healthy(view)
        assert len(view.members) == 3
        with pytest.raises(ChangeRefused, match="the group has no majority"):
            await etcd_change.remove(group, name=others[0].name, peer=None)
    first.kill()
    async with group_of(etcd3) as group:
        with pytest.raises(MemberFault, match="no member of the federation store tells who they are"):
            await group.look()
