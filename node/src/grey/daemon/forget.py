# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``greyd forget-data``: lets a replica cluster, whose data is lost or given up, come back with new data.

Never the cluster that holds the role: its data is the history of the federation. And never while it is seen
to be alive: the data that is in use would be the forgotten one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from grey.daemon.identity_file import StateRefused
from grey.federation import records
from grey.federation.members import offline_threshold
from grey.federation.registry import Registry
from grey.federation.role import Timing

if TYPE_CHECKING:
    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.federation.interface import FederationStore


class ForgetResult(msgspec.Struct, frozen=True):
    """What ``greyd forget-data`` prints."""

    changed: bool
    cluster: str


async def forget(config: NodeFile, federation: Federation) -> ForgetResult:
    """Forget which data this cluster holds. Raises StateRefused, FederationStoreError, DamagedRecord."""
    from grey.federation.etcd_store import EtcdFederationStore

    access = config.federation_store
    if access is None:
        raise StateRefused(
            f"{config.name} does not reach the federation store (node.federation_store is absent), which "
            f"keeps no record of the data of {config.cluster}: there is nothing to forget"
        )
    detection = federation.failover.detection_time_seconds
    store = EtcdFederationStore(
        federation.name, access.endpoints, access.tls, timeout_seconds=Timing.of(detection).store_timeout
    )
    try:
        await _require_replica(store, config.cluster)
        await _require_silence(store, config.cluster, offline_threshold(detection))
        return ForgetResult(await Registry(store).forget(config.cluster), config.cluster)
    finally:
        await store.close()


async def _require_replica(store: FederationStore, cluster: str) -> None:
    stored = await store.get(records.ROLE)
    if stored is not None and records.decode_role(stored.value).cluster == cluster:
        raise StateRefused(
            f"{cluster} is the primary: its data is the federation's history and cannot be forgotten. "
            "Restore it (greyd snapshot restore), or promote another cluster first"
        )


async def _require_silence(store: FederationStore, cluster: str, seconds: float) -> None:
    key = records.member_key(cluster)
    before = await store.get(key)
    if before is None:
        return
    await asyncio.sleep(seconds)
    if await store.get(key) != before:
        raise StateRefused(
            f"{cluster} is alive, and what it serves would be forgotten: stop greyd on all of its nodes first"
        )
