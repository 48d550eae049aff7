# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper on real etcd, through a lost majority and through a freeze of its own process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.memory_store import MemoryStore
from support.model_federation import federation

from grey.data.history import History
from grey.federation.clocks import boottime_seconds
from grey.federation.keeper import RoleKeeper
from grey.federation.role import Timing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.etcd_cluster import EtcdCluster

DETECTION = 2.0


async def until(condition: Callable[[], bool], within: float = 15.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_lost_majority_fences_in_time_and_heals_in_the_same_epoch(etcd3: EtcdCluster) -> None:
    await etcd3.healthy()
    store = etcd3.store(timeout_seconds=Timing.of(DETECTION).store_timeout)
    history = History(MemoryStore())
    keeper = RoleKeeper(
        federation(detection_time_seconds=DETECTION), "aws-east", "aws-east-1", store, history
    )
    task = asyncio.create_task(keeper.run())
    try:
        await until(keeper.is_primary)
        for member in etcd3.members[1:]:
            member.kill()
        lost = boottime_seconds()
        await until(lambda: not keeper.is_primary())
        assert boottime_seconds() - lost < DETECTION
        await until(lambda: keeper.problem() is not None)
        assert etcd3.endpoints[1] in (keeper.problem() or "")
        for member in etcd3.members[1:]:
            member.start()
        await until(keeper.is_primary)
        assert keeper.epoch() == 1 == await history.epoch()
        assert keeper.problem() is None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


@asynccontextmanager
async def held_role(etcd: EtcdCluster) -> AsyncIterator[asyncio.subprocess.Process]:
    tls = etcd.client_tls
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("held_role.py")),
        str(DETECTION),
        tls.cert_file,
        tls.key_file,
        tls.ca_file,
        *etcd.endpoints,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def next_line(process: asyncio.subprocess.Process) -> tuple[float, str, float]:
    assert process.stdout is not None
    async with asyncio.timeout(15):
        at, said, deadline = (await process.stdout.readline()).decode().split()
    return float(at), said, float(deadline)


async def test_a_frozen_process_claims_nothing_after_the_thaw_until_a_new_renewal(etcd1: EtcdCluster) -> None:
    timing = Timing.of(DETECTION)
    await etcd1.healthy()
    async with held_role(etcd1) as process:
        while (await next_line(process))[1] != "1":
            pass
        os.kill(process.pid, signal.SIGSTOP)
        frozen_at = boottime_seconds()
        await asyncio.sleep(2 * DETECTION)
        thawed_at = boottime_seconds()
        os.kill(process.pid, signal.SIGCONT)
        lines = []
        while not lines or lines[-1][0] < thawed_at + 0.5:
            lines.append(await next_line(process))
        after = [(said, deadline) for at, said, deadline in lines if at >= frozen_at + timing.deadline(0.0)]
        for said, deadline in after:
            renewed_at = deadline - timing.deadline(0.0)
            assert said == "-" or renewed_at > thawed_at - 0.001, "only a renewal sent after the thaw counts"
        assert after[-1][0] == "1"
        allowed = [said for said, _ in after]
        assert allowed == sorted(allowed), "refused until the renewal, then allowed"
