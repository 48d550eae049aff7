# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running federation as faults see it: the hosts of its primary cluster."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from support.federation import Shared, running_federation
from support.history_faults import Greyd, Host, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from support.federation import RunningFederation

CLUSTER = "aws-east"
REPLICAS = ("gcp-west", "edge-chicago")
DETECTION = 2.0
"""Seconds."""


@asynccontextmanager
async def primary_cluster(
    folder: Path, *, shared: bool, replicas: Sequence[str] = REPLICAS
) -> AsyncIterator[tuple[RunningFederation, World]]:
    """Run a federation whose primary is one node on the embedded store, or three on a shared etcd."""
    async with running_federation(
        folder,
        clusters=(CLUSTER, *replicas),
        shared={CLUSTER: Shared(3, 3)} if shared else None,
        detection_time=f"{DETECTION:g}s",
    ) as federation:
        # aiohttp would send a write again by itself, and tell of the second attempt alone.
        federation.http()._retry_connection = False
        hosts = {node.name: Host(node, Greyd(node), node.engine) for node in federation.clusters[CLUSTER]}

        async def renewer() -> Host:
            return hosts[(await federation.leader(CLUSTER)).name]

        async def engine_leader() -> Host:
            leader = await federation.engines[CLUSTER].leader()
            return next(host for host in hosts.values() if host.engine is leader)

        yield (
            federation,
            World(
                federation.api_request,
                list(hosts.values()),
                federation.etcd.members,
                DETECTION,
                renewer,
                engine_leader,
            ),
        )
