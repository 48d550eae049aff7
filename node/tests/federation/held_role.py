# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that holds the role on a real store: prints ``BOOTTIME EPOCH DEADLINE`` all the time.

The epoch is ``-`` while it may not write. BOOTTIME is from before the question, DEADLINE from after it.

Arguments: detection time in seconds, certificate, key, bundle, endpoints.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.memory_store import MemoryStore
from support.model_federation import federation

from grey.config.model import TlsFiles
from grey.data.fence import WriteRefused
from grey.data.history import History
from grey.federation.clocks import boottime_seconds
from grey.federation.etcd_store import EtcdFederationStore
from grey.federation.keeper import RoleKeeper
from grey.federation.role import Timing


async def main(detection: str, cert: str, key: str, bundle: str, *endpoints: str) -> None:
    store = EtcdFederationStore(
        "test",
        endpoints,
        TlsFiles(cert, key, bundle),
        timeout_seconds=Timing.of(float(detection)).store_timeout,
    )
    keeper = RoleKeeper(
        federation(detection_time_seconds=float(detection)),
        "aws-east",
        "aws-east-1",
        store,
        History(MemoryStore()),
    )
    task = asyncio.create_task(keeper.run())
    while not task.done():
        asked_at = boottime_seconds()
        try:
            said = str(keeper.epoch())
        except WriteRefused:
            said = "-"
        deadline = boottime_seconds() + keeper.remaining_seconds()
        print(f"{asked_at:.6f} {said} {deadline:.6f}", flush=True)  # noqa: T201
        await asyncio.sleep(0.005)
    task.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
