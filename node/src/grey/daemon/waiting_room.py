# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""While the engine beside this node is not up yet: greyd waits, and its health pages say for what."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from grey.daemon.data_engine import open_etcd
from grey.daemon.shared_engine import RETRY_SECONDS
from grey.data.fence import NotPrimary
from grey.record.position import ORIGIN
from grey.replicate.tasks import race
from grey.serve import errors
from grey.serve.door import Door
from grey.serve.health import HealthPages
from grey.serve.metrics import NodeMetrics
from grey.serve.plain import PlainPages
from grey.serve.server import Site, Sites
from grey.serve.translate import Translator
from grey.serve.view import NodeView
from grey.store.interface import EngineUnreachable

if TYPE_CHECKING:
    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.record import Position
    from grey.store.interface import Store

_log = logging.getLogger(__name__)


async def open_patiently(config: NodeFile, federation: Federation, stop: asyncio.Event) -> Store | None:
    """Open the shared engine as soon as it is up; None when ``stop`` is set before. Raises CannotListen."""
    try:
        return await open_etcd(config, federation)
    except EngineUnreachable as error:
        _log.warning("waiting for the engine: %s", error)
        room = _WaitingRoom(config, federation, str(error))
    await room.listen()
    try:
        await race(room.wait(), until(stop))
    finally:
        await room.close()
    return room.store


async def until(stop: asyncio.Event) -> None:
    """Return when ``stop`` is set."""
    await stop.wait()


class _WaitingRoom:
    """Port 9090 of a node that knows nothing yet."""

    def __init__(self, config: NodeFile, federation: Federation, reason: str) -> None:
        self._config = config
        self._federation = federation
        self._reason = reason
        unknown = _Unknown()
        self._view = NodeView(
            federation, cluster=config.cluster, node=config.name, role=unknown, replication=unknown
        )
        self._view.problems.append(lambda: self._reason)
        self._sites = Sites(grace_seconds=0.5)
        self.store: Store | None = None

    async def listen(self) -> None:
        """Answer on port 9090; raises CannotListen."""
        pages = PlainPages(HealthPages(self._view), self._no_metrics)
        watch = NodeMetrics(self._config.cluster)
        door = Door(pages.route, translate=Translator(self._view), watch=watch)
        where = self._config.listen
        await self._sites.start(Site("listen.metrics", where.address, where.metrics, door, None))

    async def wait(self) -> None:
        """Try until the engine is open."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                self.store = await open_etcd(self._config, self._federation)
            except EngineUnreachable as error:
                self._reason = str(error)
            else:
                _log.info("the engine is up")
                return

    async def close(self) -> None:
        """Stop answering."""
        await self._sites.stop()

    async def _no_metrics(self) -> bytes:
        raise errors.unavailable(self._reason)


class _Unknown:
    """A ``RoleView`` and ``ReplicationView`` of which nothing is known."""

    def epoch(self) -> int:
        raise NotPrimary(None)

    def holder(self) -> None:
        return None

    def is_primary(self) -> bool:
        return False

    def lag_seconds(self) -> None:
        return None

    def lag_records(self) -> None:
        return None

    def consistent(self) -> bool:
        return False

    def position(self) -> Position:
        return ORIGIN
