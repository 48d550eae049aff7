# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires the rooms of one node together, runs them, and ends them in the right order."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from grey import __version__
from grey.daemon.certificate import CertificateWatch
from grey.daemon.init import StateRefused, open_data
from grey.daemon.peers import Peers
from grey.daemon.pulse import Pulse
from grey.daemon.retention import lowest_needed
from grey.daemon.voters import VoterCount, federation_store
from grey.data.fence import WriteRefused
from grey.data.history import History
from grey.data.housekeeping import Housekeeping
from grey.data.reader import Reader
from grey.data.writer import Writer
from grey.federation.clocks import boottime_seconds
from grey.federation.deputy import ClusterState
from grey.federation.interface import FederationStoreError
from grey.federation.keeper import RoleKeeper
from grey.federation.members import Members
from grey.federation.records import DamagedRecord
from grey.federation.registry import DataReplaced, Registry
from grey.federation.status import status_document
from grey.link import tls
from grey.link.session import PeerSession
from grey.record import HybridClock
from grey.replicate.follower import Follower
from grey.replicate.source import Source
from grey.serve.control import ControlApi
from grey.serve.door import Door
from grey.serve.health import HealthPages
from grey.serve.kv import KeyValueApi
from grey.serve.metrics import NodeMetrics
from grey.serve.plain import PlainPages
from grey.serve.server import Site, Sites
from grey.serve.translate import Translator
from grey.serve.view import NodeView

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.data.identity import Identity
    from grey.federation.status import StatusDocument
    from grey.store.sqlite import SqliteStore

_log = logging.getLogger(__name__)

CERTIFICATE_SECONDS = 2.0
"""How often the files of the certificate are looked at."""


class Node:
    """One greyd."""

    def __init__(self, config: NodeFile, federation: Federation) -> None:
        self._config = config
        self._federation = federation

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises StateRefused, TlsError, CannotListen and StoreDamaged (alone or in a group): what an operator
        must mend. An unreachable federation store, refused streams and a full disk end nothing.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.set_exception_handler(_log_loop_fault)
        config = self._config
        certificate = CertificateWatch(config.tls, self._federation.identity(config.cluster))
        store, identity = await open_data(config, self._federation)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            rooms = _Rooms(config, self._federation, certificate, store, identity)
            stack.push_async_callback(rooms.close)
            await rooms.run(stop)


class _Rooms:
    """All rooms of a running node."""

    def __init__(
        self,
        config: NodeFile,
        federation: Federation,
        certificate: CertificateWatch,
        store: SqliteStore,
        identity: Identity,
    ) -> None:
        self._config = config
        self._federation = federation
        self._certificate = certificate
        self._identity = identity
        cluster, node = config.cluster, config.name
        self._session = PeerSession(certificate.serve_with(tls.client_context(config.tls)), config.names)
        self._peers = Peers(federation, self._session)
        self._federation_store = federation_store(config, federation, self._peers)
        history = History(store)
        clock = HybridClock()
        self._keeper = RoleKeeper(federation, cluster, node, self._federation_store, history)
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
        promotable = [each.name for each in federation.clusters if not each.read_only]
        source = Source(
            store,
            history,
            self._keeper,
            cluster=cluster,
            batch_size=federation.replication.batch_size,
            interval_seconds=federation.replication.interval_seconds,
            promotable=promotable,
            monotonic=boottime_seconds,
        )
        self._writer = Writer(store, self._keeper, cluster=cluster, clock=clock)
        self._housekeeping = Housekeeping(
            store,
            history,
            confirmed=lambda: lowest_needed(
                self._view.role_name(),
                promotable=promotable,
                streams=source.confirmed(),
                reported=self._members.reported(),
            ),
        )
        self._view = NodeView(
            federation, cluster=cluster, node=node, role=self._keeper, replication=self._follower
        )
        self._metrics = NodeMetrics(cluster)
        self._pulse = Pulse(
            self._view,
            store,
            history,
            self._keeper,
            self._metrics,
            store_up=lambda: self._members.problem() is None,
            certificate_expiry=certificate.expiry_seconds,
        )
        self._members = Members(federation, cluster, self._federation_store, report=self._pulse.report)
        self._voters = VoterCount(self._federation_store, federation, self._peers)
        self._registering: str | None = None
        self._certificate_fault = certificate.problem()
        self._view.problems += [
            lambda: self._certificate_fault,
            self._keeper.problem,
            lambda: self._registering,
            self._members.problem,
            self._follower_problem,
        ]
        self._health = HealthPages(self._view)
        self._control = ControlApi(
            self._view, source, store=self._federation_store, status=self._status, state=self._cluster_state
        )
        self._kv = KeyValueApi(self._view, Reader(store), self._writer, self._health)
        self._sites = Sites()
        self._control_listens = False

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set or a room fails for good."""
        await self._listen()
        await self._pulse.measure()
        self._view.state = "serving"
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work, name=name) for name, work in self._work().items()]
            _log.info(
                "serving cluster=%s node=%s address=%s version=%s",
                self._config.cluster,
                self._config.name,
                self._config.listen.address,
                __version__,
            )
            await stop.wait()
            _log.info("stopping")
            await self._end_requests()
            for task in tasks:
                task.cancel()
        _log.info("stopped")

    def _work(self) -> dict[str, Coroutine[Any, Any, None]]:
        return {
            "writer": self._writer.run(),
            "role": self._keep_role(),
            "members": self._members.run(),
            "voters": self._voters.run(),
            "follower": self._follower.run(),
            "housekeeping": self._housekeeping.run(),
            "pulse": self._pulse.run(),
            "certificate": self._watch_certificate(),
        }

    async def close(self) -> None:
        """Release connections."""
        self._view.state = "stopping"
        await self._end_requests()
        await self._federation_store.close()
        await self._session.close()

    async def _end_requests(self) -> None:
        """Let the requests that are being served end; the writer still runs meanwhile."""
        self._view.state = "stopping"
        await self._control.close_streams()
        await self._sites.stop()

    async def _listen(self) -> None:
        listen = self._config.listen
        translate = Translator(self._view)
        pages = PlainPages(self._health, self._pulse.metrics_text)
        plain = Door(pages.route, translate=translate, watch=self._metrics)
        await self._sites.start(Site("listen.metrics", listen.address, listen.metrics, plain, None))
        self._control_door = Door(self._control.route, translate=translate, watch=self._metrics)
        await self._listen_control()
        api = Door(self._kv.route, translate=translate, watch=self._metrics)
        mode = self._federation.security.api_tls
        context = None
        if mode != "off":
            context = self._certificate.serve_with(
                tls.server_context(self._config.tls, mutual=mode == "mutual", node_to_node=False)
            )
        await self._sites.start(Site("listen.api", listen.address, listen.api, api, context))

    async def _listen_control(self) -> None:
        """Serve the control plane, unless the certificate is out of its time: no peer would accept it."""
        if self._certificate_fault is not None:
            _log.error("the control plane is not served: %s", self._certificate_fault)
            return
        listen = self._config.listen
        context = self._certificate.serve_with(
            tls.server_context(self._config.tls, mutual=True, node_to_node=True)
        )
        await self._sites.start(
            Site("listen.control", listen.address, listen.control, self._control_door, context)
        )
        self._control_listens = True

    async def _watch_certificate(self) -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            before, self._certificate_fault = self._certificate_fault, self._certificate.problem()
            if self._certificate_fault != before and self._certificate_fault is not None:
                _log.error("certificate: %s", self._certificate_fault)
            if self._certificate_fault is None and not self._control_listens:
                await self._listen_control()

    async def _keep_role(self) -> None:
        """Compare the data with what the federation knows of it, then keep the role."""
        registry = Registry(self._federation_store)
        own = self._federation.cluster(self._config.cluster)
        while self._config.federation_store is not None and own is not None:
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

    async def _status(self) -> StatusDocument:
        return status_document(
            self._federation,
            answered_by=self._config.name,
            holder=self._keeper.holder(),
            observed=self._members.observed(),
            voters=self._voters.count(),
        )

    def _cluster_state(self) -> ClusterState:
        try:
            epoch = self._keeper.epoch()
        except WriteRefused:
            epoch = None
        replication = self._view.replication
        return ClusterState(
            node=self._config.name,
            leader=True,
            epoch=epoch,
            remaining_seconds=self._keeper.remaining_seconds(),
            lag_seconds=replication.lag_seconds(),
            lag_records=replication.lag_records(),
            consistent=replication.consistent(),
            position=str(self._pulse.position),
        )

    def _follower_problem(self) -> str | None:
        return None if self._view.holds_role() else self._follower.problem()


def _log_loop_fault(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError):
        # A peer that speaks no TLS or went away in the middle of a handshake.
        _log.info("connection refused or lost: %s", error)
        return
    _log.error(
        "fault in the event loop: %s",
        context.get("message"),
        exc_info=error if isinstance(error, BaseException) else None,
    )
