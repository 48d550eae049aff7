# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All rooms of one node, wired together: who is handed what, and what runs where."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from grey.daemon.data_engine import HasSpace, give_back_space
from grey.daemon.identity_file import StateRefused
from grey.daemon.leading import ClusterReplication, ShownAge, while_leading
from grey.daemon.peers import Peers
from grey.daemon.pulse import Pulse
from grey.daemon.retention import KeptHistory, lowest_needed
from grey.daemon.voters import VoterCount, federation_store
from grey.data.expiry import Expiry
from grey.data.feed import Feed
from grey.data.fence import WriteRefused
from grey.data.history import History
from grey.data.housekeeping import Housekeeping
from grey.data.mirror import Mirror
from grey.data.reader import Reader
from grey.data.writer import Writer
from grey.federation.clocks import boottime_seconds
from grey.federation.deputy import ClusterState, Deputy
from grey.federation.full_copy import who_needs_full_copy
from grey.federation.interface import FederationStoreError
from grey.federation.keeper import RoleKeeper
from grey.federation.leadership import Leadership, Leading, SoleLeader
from grey.federation.members import Members
from grey.federation.records import DamagedRecord
from grey.federation.registry import DataReplaced, Registry
from grey.federation.role import Timing
from grey.federation.status import status_document
from grey.link.session import PeerSession
from grey.record import HybridClock, SteadyClock
from grey.replicate.follower import Follower
from grey.replicate.source import Source
from grey.serve.metrics import NodeMetrics
from grey.serve.view import NodeView

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.daemon.certificate import CertificateWatch
    from grey.data.identity import Identity
    from grey.federation.status import StatusDocument
    from grey.store.interface import Store

    Work = Callable[[], Coroutine[Any, Any, None]]

_log = logging.getLogger(__name__)


class Rooms:
    """Everything behind the doors of a running node. Must be made inside a running event loop."""

    def __init__(
        self,
        config: NodeFile,
        federation: Federation,
        certificate: CertificateWatch,
        store: Store,
        identity: Identity,
    ) -> None:
        self._config = config
        self._federation = federation
        self._store = store
        self._identity = identity
        cluster, node = config.cluster, config.name
        timing = Timing.of(federation.failover.detection_time_seconds)
        promotable = [each.name for each in federation.clusters if not each.read_only]
        self._session = PeerSession(certificate.client, config.names)
        self._peers = Peers(federation, self._session, config.names)
        self.federation_store = federation_store(config, federation, self._peers)
        history = History(store)
        clock, steady = HybridClock(), SteadyClock()
        self._keeper = RoleKeeper(
            federation, cluster, node, self.federation_store, history, leads=lambda: self.leading.leads()
        )
        self.leading: Leading = SoleLeader()
        if config.store.engine == "etcd":
            control = f"{config.listen.address}:{config.listen.control}"
            fit = self._keeper.reaches_store
            self.leading = Leadership(store, node, control, timing=timing, fit=fit)
        self._deputy = Deputy(self.leading, self._keeper, self._peers.ask_leader(cluster), timing=timing)
        self._follower = Follower(
            store,
            self._keeper,
            cluster=cluster,
            connect=self._peers.connect,
            fetch_page=self._peers.fetch_page,
            interval_seconds=federation.replication.interval_seconds,
            clock=clock,
            max_clock_offset_seconds=federation.max_clock_offset_seconds,
            monotonic=boottime_seconds,
        )
        replication = ClusterReplication(self.leading, self._follower, self._deputy)
        self.view = NodeView(
            federation, cluster=cluster, node=node, role=self._keeper, replication=replication
        )
        self.source = Source(
            store,
            history,
            self._keeper,
            cluster=cluster,
            batch_size=federation.replication.batch_size,
            interval_seconds=federation.replication.interval_seconds,
            promotable=promotable,
            monotonic=boottime_seconds,
        )
        self._mirror = Mirror(store)
        self.writer = Writer(
            store, self._keeper, cluster=cluster, clock=clock, now=steady.now, mirror=self._mirror
        )
        self.reader = Reader(
            store,
            history=history,
            mirror=self._mirror,
            now=lambda: steady.now() if self.view.holds_role() else None,
        )
        self.feed = Feed(store, history)
        self._expiry = Expiry(store, self._keeper, self.writer, now=steady.now)
        kept = KeptHistory(history, lambda: self._members.publish())
        self._housekeeping = Housekeeping(
            store,
            history,
            confirmed=lambda: lowest_needed(
                self.view.role_name(),
                promotable=promotable,
                streams=self.source.confirmed(),
                reported=self._members.reported(),
            ),
            announce=kept.announce,
            # An engine that takes no writes lets nobody lead, and compaction is what it waits for.
            leads=lambda: self.leading.leads() or self.pulse.writes_refused() is not None,
        )
        self.metrics = NodeMetrics(cluster)
        self.pulse = Pulse(
            self.view,
            store,
            history,
            self._keeper,
            self.metrics,
            kept=kept,
            needs_full_copy=lambda: who_needs_full_copy(self._keeper.holder(), self._members.observed()),
            leads=self.leading.leads,
            store_up=lambda: self._members.problem() is None,
            certificate_expiry=certificate.expiry_seconds,
        )
        self._members = Members(
            federation,
            cluster,
            self.federation_store,
            report=self.pulse.report,
            publishes=self.leading.leads,
        )
        self._voters = VoterCount(self.federation_store, federation, self._peers)
        self._registering: str | None = None
        self.waits_for: str | None = None
        """Why the engine could not be asked whose data it holds; None once it was."""
        shown = ShownAge(replication, self._mirror, confirmed=lambda: self.pulse.position)
        self.view.shown_lag = shown.seconds
        self.view.engine_problem = self.pulse.engine_problem
        self.view.writes_refused = self.pulse.writes_refused
        self.view.reads_from_memory = lambda: self._mirror.complete
        self.view.problems += [
            lambda: self.waits_for,
            self.pulse.engine_problem,
            self.pulse.writes_refused,
            self._keeper.problem,
            self.leading.problem,
            self._deputy.problem,
            lambda: self._registering,
            self._members.problem,
            self._follower_problem,
        ]

    def work(self) -> dict[str, Work]:
        """Return what runs on every node; a part of it begins and ends with leading the cluster."""
        store = self._store
        space: dict[str, Work] = (
            {"space": lambda: give_back_space(store)} if isinstance(store, HasSpace) else {}
        )
        return space | {
            "writer": self.writer.run,
            "mirror": self._mirror.run,
            "leadership": self.leading.run,
            "deputy": self._deputy.run,
            "role": self._keep_role,
            "members": self._members.run,
            "voters": self._voters.run,
            "pulse": self.pulse.run,
            "housekeeping": self._housekeeping.run,
            "leader": lambda: while_leading(self.leading, self._work_of_the_leader()),
        }

    def _work_of_the_leader(self) -> dict[str, Work]:
        return {
            "follower": self._follower.run,
            "expiry": self._expiry.run,
        }

    async def close(self) -> None:
        """Release connections."""
        await self.federation_store.close()
        await self._session.close()
        await self._peers.close()

    async def status(self) -> StatusDocument:
        """Return the status document."""
        return status_document(
            self._federation,
            answered_by=self._config.name,
            holder=self._keeper.holder(),
            observed=self._members.observed(),
            voters=self._voters.count(),
        )

    def cluster_state(self) -> ClusterState:
        """Return what the other nodes of this cluster ask."""
        try:
            epoch = self._keeper.epoch()
        except WriteRefused:
            epoch = None
        primary = self.view.holds_role()
        replication = self.view.replication
        # The lag is asked first: the position is then at or after the one that it speaks of.
        lag_seconds, lag_records = replication.lag_seconds(), replication.lag_records()
        return ClusterState(
            node=self._config.name,
            leader=self.leading.leads(),
            epoch=epoch,
            remaining_seconds=self._keeper.remaining_seconds(),
            lag_seconds=None if primary else lag_seconds,
            lag_records=None if primary else lag_records,
            consistent=replication.consistent(),
            position=str(self.pulse.position if primary else replication.position()),
        )

    async def _keep_role(self) -> None:
        """Compare the data with what the federation knows of it, then keep the role."""
        registry = Registry(self.federation_store)
        while self._config.federation_store is not None:
            try:
                await registry.register(self._config.cluster, self._config.name, self._identity.data_id)
                break
            except DataReplaced as error:
                raise StateRefused(str(error)) from error
            except (FederationStoreError, DamagedRecord) as error:
                if self._registering is None:
                    _log.warning("the data cannot be compared with the federation's record: %s", error)
                self._registering = str(error)
                await asyncio.sleep(0.5)
        self._registering = None
        await self._keeper.run()

    def _follower_problem(self) -> str | None:
        follows = self.leading.leads() and not self.view.holds_role()
        return self._follower.problem() if follows else None
