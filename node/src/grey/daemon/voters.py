# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation store as this node reaches it, and how many of its voters answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from grey.federation.etcd_store import EtcdFederationStore
from grey.federation.remote_store import RemoteFederationStore, TransportError
from grey.federation.role import Timing
from grey.federation.status import StatusDocument, Voters

if TYPE_CHECKING:
    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.daemon.peers import Peers

INTERVAL_SECONDS = 2.0

_log = logging.getLogger(__name__)


def federation_store(
    config: NodeFile, federation: Federation, peers: Peers
) -> EtcdFederationStore | RemoteFederationStore:
    """Return the store itself where this node can reach it, else the way through the voters."""
    timeout = Timing.of(federation.failover.detection_time_seconds).store_timeout
    access = config.federation_store
    if access is not None:
        return EtcdFederationStore(federation.name, access.endpoints, access.tls, timeout_seconds=timeout)
    # This way is longer, and nothing that depends on it is urgent: such a cluster never holds the role.
    return RemoteFederationStore(voter_names(federation), peers.ask, timeout_seconds=max(2.0, timeout))


def voter_names(federation: Federation) -> list[str]:
    """Return the clusters that vote."""
    return [cluster.name for cluster in federation.clusters if cluster.voter]


class VoterCount:
    """Asks every two seconds how many voters answer, so that a status is ready at once."""

    def __init__(
        self,
        store: EtcdFederationStore | RemoteFederationStore,
        federation: Federation,
        peers: Peers,
    ) -> None:
        self._store = store
        self._peers = peers
        self._names = voter_names(federation)
        self._count = Voters(total=len(self._names) + len(federation.witnesses), reachable=0)

    def count(self) -> Voters:
        """Return the newest count."""
        return self._count

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            self._count = await self._ask()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _ask(self) -> Voters:
        if isinstance(self._store, EtcdFederationStore):
            health = await self._store.health()
            return Voters(total=len(health.members), reachable=health.reachable)
        for name in self._names:
            try:
                reply = await self._peers.ask(
                    name, "GET", "/v1/federation/status", None, timeout_seconds=INTERVAL_SECONDS
                )
                return msgspec.json.decode(reply.body, type=StatusDocument).voters
            except (TransportError, msgspec.DecodeError) as error:
                _log.debug("%s does not say how many voters answer: %s", name, error)
        return Voters(total=self._count.total, reachable=0)
