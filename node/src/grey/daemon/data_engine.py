# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine that the nodes of a cluster share, as the node's file names it."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from grey.federation.role import Timing
from grey.store.interface import StoreDamaged, StoreError

if TYPE_CHECKING:
    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.store.etcd import EtcdStore

SHORTEST_TIMEOUT_SECONDS = 1.0
"""An engine that elects a new leader needs about a second; a call that waits for it is better than none."""


SPACE_SECONDS = (30.0, 90.0)
"""Space is given back at times of their own, so that the members do not stand still together."""

_log = logging.getLogger(__name__)


@runtime_checkable
class HasSpace(Protocol):
    """An engine that does not give back space by itself."""

    async def reclaim(self) -> bool:
        """Give back what compaction freed, if the engine is short of space. Raises StoreError."""
        ...


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


async def give_back_space(engine: HasSpace) -> None:
    """Let the member beside this node give back what compaction freed, for ever. Raises StoreDamaged."""
    while True:
        await asyncio.sleep(random.uniform(*SPACE_SECONDS))  # noqa: S311 - spreads load, hides nothing
        try:
            await engine.reclaim()
        except StoreDamaged:
            raise
        except StoreError as error:
            _log.warning("the engine gave back no space, which is tried again: %s", error)
