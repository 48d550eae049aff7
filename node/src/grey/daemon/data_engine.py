# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine that the nodes of a cluster share, as the node's file names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.federation.role import Timing

if TYPE_CHECKING:
    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.store.etcd import EtcdStore

SHORTEST_TIMEOUT_SECONDS = 1.0
"""An engine that elects a new leader needs about a second; a call that waits for it is better than none."""


async def open_etcd(config: NodeFile, federation: Federation) -> EtcdStore:
    """Open the shared engine through the member beside this node; raises EngineUnreachable."""
    # Imported here: nodes on SQLite are ready sooner without gRPC.
    from grey.store.etcd import EtcdAccess, EtcdStore

    assert config.store.endpoint is not None
    timeout = Timing.of(federation.failover.detection_time_seconds).store_timeout
    return await EtcdStore.open(
        EtcdAccess(config.store.endpoint, config.store.tls, config.store.quota_bytes),
        timeout_seconds=max(SHORTEST_TIMEOUT_SECONDS, timeout),
    )
