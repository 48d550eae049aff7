# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many others a member is connected with."""

from __future__ import annotations

import asyncio

import pytest
from support.engine_cluster import engine_cluster

from grey.link.etcd_fault import MemberFault
from grey.link.etcd_peers import Peers, active_peers

PAGE = b"""\
# HELP etcd_network_active_peers The current number of active peer connections.
etcd_network_active_peers{Local="1f7d5d279ffedc1b",Remote="8d1adff46f8d37eb"} 0
etcd_network_active_peers{Local="1f7d5d279ffedc1b",Remote="a40d2d847a5c014d"} 1
etcd_network_disconnected_peers_total{Local="1f7d5d279ffedc1b",Remote="8d1adff46f8d37eb"} 1
"""


def test_what_the_page_says() -> None:
    assert active_peers(PAGE) == 1
    assert active_peers(PAGE.replace(b"} 0", b"} 1")) == 2
    assert active_peers(b"") == 0


async def test_a_member_that_is_not_there() -> None:
    with pytest.raises(MemberFault, match="no metrics"):
        await Peers("unix:/nowhere/etcd:0", None).connected(1.0)


@pytest.mark.parametrize("tls", [False, True], ids=["socket", "mutual TLS"])
async def test_a_killed_member_is_missed(tls: bool) -> None:
    async with engine_cluster(3, tls=tls) as cluster:
        access = cluster.members[0].access
        peers = Peers(access.endpoint, access.tls)

        async def until(count: int) -> None:
            async with asyncio.timeout(20):
                while await peers.connected(5.0) != count:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

        await until(2)
        cluster.members[1].kill()
        await until(1)
        cluster.members[1].start()
        await until(2)
