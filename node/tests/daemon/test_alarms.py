# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alarms of a real engine under real greyds: every place says so, and the full one is emptied by itself."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from support.federation import Shared, running_federation

from grey.link import etcd_alarm
from grey.link.etcd import Member, rpc

if TYPE_CHECKING:
    from pathlib import Path

    from support.federation import GreyNode, RunningFederation

    from grey.link.etcd import Stubs

pytestmark = pytest.mark.processes

MEBIBYTE = 1024 * 1024
CLUSTER = "aws-east"
# greyd with other times between its looks: space is given back sooner, and compaction comes late enough for
# the quota to be reached before, and for the lead to be lost meanwhile.
HASTY = """
import grey.data.housekeeping, grey.daemon.data_engine, grey.daemon.main
grey.data.housekeeping._PASS_SECONDS = 15.0
grey.daemon.data_engine.SPACE_SECONDS = (4.0, 6.0)
grey.daemon.main.main()
"""


async def fill(federation: RunningFederation, nodes: list[GreyNode]) -> Counter[tuple[int, str]]:
    """Put one key again and again until the engine takes no more; return all answers that were no success."""
    refused: Counter[tuple[int, str]] = Counter()

    async def write(number: int) -> None:
        while not refused[507, "disk_full"]:
            key = b"big-%d" % number
            answer = await federation.kv("PUT", nodes[number % len(nodes)], key, data=bytes(MEBIBYTE))
            if answer.status != 200:
                refused[answer.status, answer.code] += 1

    async with asyncio.timeout(120):
        await asyncio.gather(*(write(number) for number in range(8)))
    return refused


async def test_a_reached_quota_is_shown_everywhere_and_ends_by_itself(tmp_path: Path) -> None:
    shared = Shared(2, 1, quota_bytes=64 * MEBIBYTE, greyd=(sys.executable, "-c", HASTY))
    async with running_federation(
        tmp_path, clusters=(CLUSTER,), shared={CLUSTER: shared}, detection_time="4s"
    ) as federation:
        nodes = federation.clusters[CLUSTER]
        refused = await fill(federation, nodes)
        # The one that reaches the quota is carried out, and the answer does not say so.
        assert set(refused) <= {(507, "disk_full"), (504, "outcome_unknown"), (503, "fenced")}
        step = etcd_alarm.next_step(etcd_alarm.SPACE)

        async def alarmed(node: GreyNode) -> bool:
            primary, ready = (
                await federation.health(node, "/primary"),
                await federation.health(node, "/ready"),
            )
            metrics = (await federation.health(node, "/metrics")).body
            status = (await federation.status(node)).json["clusters"][0]
            shown = [primary.json["problem"], ready.json["problem"], status["problem"]]
            return (
                (primary.status, ready.status) == (503, 200)
                and all(step in (problem or "") for problem in shown)
                and b'\ngrey_engine_alarm{alarm="NOSPACE"} 1.0\n' in metrics
                and b'\ngrey_engine_alarm{alarm="CORRUPT"} 0.0\n' in metrics
            )

        async def writes(node: GreyNode) -> bool:
            primary, ready = (
                await federation.health(node, "/primary"),
                await federation.health(node, "/ready"),
            )
            metrics = (await federation.health(node, "/metrics")).body
            return (
                (primary.status, ready.json["problem"]) == (200, None)
                and b'\ngrey_engine_alarm{alarm="NOSPACE"} 0.0\n' in metrics
                and (await federation.kv("PUT", node, b"small", data=b"1")).status == 200
            )

        await asyncio.gather(
            *(
                federation.until(lambda node=node: alarmed(node), 10, f"the alarm at {node.name}")
                for node in nodes
            )
        )
        for node in nodes:
            await federation.until(lambda node=node: writes(node), 60, f"writes at {node.name}")
        read = await federation.kv("GET", nodes[0], b"big-0", query="?consistency=strong")
        assert len(read.body) == MEBIBYTE


async def test_members_that_differ_end_greyd_with_the_next_step(tmp_path: Path) -> None:
    async def raise_alarm(stubs: Stubs, seconds: float) -> object:
        wanted = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=1, alarm=rpc.CORRUPT)
        return await stubs.maintenance.Alarm(wanted, timeout=seconds)

    async with running_federation(
        tmp_path, clusters=(CLUSTER,), shared={CLUSTER: Shared(1, 1)}, detection_time="4s"
    ) as federation:
        node = federation.primary
        access = federation.engines[CLUSTER].members[0].access
        member = Member(access.endpoint, access.tls)
        try:
            await member.ask(raise_alarm, timeout_seconds=5)
        finally:
            await member.close()
        assert node.process is not None
        assert await asyncio.to_thread(node.process.wait, 20) == 3
        assert etcd_alarm.next_step(etcd_alarm.CORRUPT) in node.log.read_text()
