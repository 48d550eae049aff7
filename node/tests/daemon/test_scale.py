# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of three nodes gets a fourth and loses its first, under load: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from support.federation import Shared, running_federation
from support.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from support.federation import GreyNode

pytestmark = pytest.mark.processes

PRIMARY, REPLICA = "aws-east", "gcp-west"
DETECTION = 6.0


async def typed(node: GreyNode, *arguments: str) -> dict[str, Any]:
    """Type a command on a node's host; return what it prints."""
    done = await asyncio.to_thread(node.command, *arguments, timeout=90)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


async def test_three_nodes_become_four_and_three_again(tmp_path: Path) -> None:
    async with running_federation(
        tmp_path, clusters=(PRIMARY, REPLICA), shared={PRIMARY: Shared()}, detection_time=f"{DETECTION:g}s"
    ) as federation:
        first = federation.clusters[PRIMARY][0]
        async with load(federation, PRIMARY, "four", writers=4) as writing:
            fourth = federation.add_node(PRIMARY)
            engine = fourth.engine
            assert engine is not None
            peer = str(engine.member.peer)
            added = await typed(first, "engine", "add", "--name", engine.name, "--peer", peer)
            assert added["changed"]
            engine.start()
            # It waits for its member, which answers nothing before it votes.
            making = asyncio.create_task(typed(fourth, "init", "--wait", "60"))
            assert (await typed(first, "engine", "promote", "--name", engine.name, "--wait", "60"))["changed"]
            made = await making
            assert made["changed"]
            assert made["data_id"] == json.loads(first.identity.read_text())["data_id"]
            fourth.start()
            await federation.ready(30)
            await writing.acknowledges(50)
        assert writing.longest_gap() < DETECTION
        put = await federation.kv("PUT", fourth, b"through the fourth", data=b"1")
        assert put.status == 200

        leader = await federation.leader(PRIMARY)
        async with load(federation, PRIMARY, "three", writers=4) as writing:
            remover = fourth
            gone = leader if leader is not fourth else first
            assert gone.engine is not None
            gone.stop()
            left = await typed(remover, "engine", "remove", "--name", gone.engine.name)
            assert left["changed"]
            assert len(left["members"]) == 3
            federation.drop_node(gone)
        assert writing.longest_gap() < DETECTION
        members = await typed(fourth, "engine", "members")
        assert members["healthy"]
        assert gone.engine.name not in {each["name"] for each in members["members"]}

        async def settled() -> bool:
            status = (await federation.status(federation.nodes[REPLICA])).json
            metrics = (await federation.health(fourth, "/metrics")).body.decode()
            return (
                (status["epoch"], status["primary"]) == (1, PRIMARY)
                and all(each["online"] and each["problem"] is None for each in status["clusters"])
                and "\ngrey_engine_members 3.0\n" in metrics
                and "\ngrey_engine_members_reachable 3.0\n" in metrics
            )

        await federation.until(settled, 20, "a settled status without the node that left")
        assert await federation.leader(PRIMARY) is not gone
