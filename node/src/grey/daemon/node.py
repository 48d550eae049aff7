# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begins and ends one greyd: opens the data, listens, runs the rooms, and stops them in the right order."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from grey import __version__
from grey.daemon.certificate import CertificateWatch
from grey.daemon.identity_file import require_file
from grey.daemon.init import open_sqlite
from grey.daemon.rooms import Rooms
from grey.daemon.shared_engine import RETRY_SECONDS, SharedData
from grey.daemon.waiting_room import open_patiently, until
from grey.replicate.tasks import race
from grey.serve.control import ControlApi
from grey.serve.door import Door
from grey.serve.health import HealthPages
from grey.serve.kv import KeyValueApi
from grey.serve.plain import PlainPages
from grey.serve.server import Site, Sites
from grey.serve.translate import Translator
from grey.store.interface import EngineUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.data.identity import Identity
    from grey.store.interface import Store

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
        must mend. An unreachable engine or federation store, refused streams and a full disk end nothing.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.set_exception_handler(_log_loop_fault)
        config, federation = self._config, self._federation
        certificate = CertificateWatch(config.tls, federation.identity(config.cluster))
        async with AsyncExitStack() as stack:
            store: Store | None
            if config.store.engine == "etcd":
                identity = require_file(config)
                store = await open_patiently(config, federation, stop)
            else:
                store, identity = await open_sqlite(config, federation)
            if store is None:
                return
            stack.push_async_callback(store.close)
            rooms = Rooms(config, federation, certificate, store, identity)
            stack.push_async_callback(rooms.close)
            doors = _Doors(config, federation, certificate, rooms)
            stack.push_async_callback(doors.close)
            await doors.listen()
            works = {"certificate": doors.watch_certificate}
            if config.store.engine == "etcd":
                data = SharedData(config, federation, store)
                await race(_until_confirmed(data, identity, rooms), until(stop))
                works["identity"] = partial(data.watch, identity)
            if not stop.is_set():
                await self._serve(rooms, doors, works, stop)

    async def _serve(
        self,
        rooms: Rooms,
        doors: _Doors,
        works: dict[str, Callable[[], Coroutine[Any, Any, None]]],
        stop: asyncio.Event,
    ) -> None:
        """Run the rooms and ``works`` until ``stop`` is set or one fails for good."""
        await rooms.pulse.measure()
        rooms.view.state = "serving"
        works = rooms.work() | works
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(begin(), name=name) for name, begin in works.items()]
            _log.info(
                "serving cluster=%s node=%s address=%s version=%s",
                self._config.cluster,
                self._config.name,
                self._config.listen.address,
                __version__,
            )
            await stop.wait()
            _log.info("stopping")
            rooms.view.state = "stopping"
            # Another node takes over while this one answers what it has begun: the rooms run meanwhile.
            await asyncio.gather(rooms.leading.resign(), doors.close())
            for task in tasks:
                task.cancel()
        _log.info("stopped")


class _Doors:
    """The ports of a node."""

    def __init__(
        self, config: NodeFile, federation: Federation, certificate: CertificateWatch, rooms: Rooms
    ) -> None:
        self._listen = config.listen
        self._certificate = certificate
        self._view = rooms.view
        health = HealthPages(rooms.view)
        translate = Translator(rooms.view)
        self._control = ControlApi(
            rooms.view,
            rooms.source,
            store=rooms.federation_store,
            status=rooms.status,
            state=rooms.cluster_state,
        )
        self._kv = KeyValueApi(rooms.view, rooms.reader, rooms.writer, rooms.feed, health)
        limits = federation.api_limits
        self._api_door = Door(
            self._kv.route, translate=translate, watch=rooms.metrics, limits=limits, gzip=True
        )
        self._control_door = Door(self._control.route, translate=translate, watch=rooms.metrics)
        pages = PlainPages(health, rooms.pulse.metrics_text)
        self._plain_door = Door(pages.route, translate=translate, watch=rooms.metrics)
        self._api_connections = limits.connections
        self._api_tls = federation.security.api_tls
        self._sites = Sites()
        self._control_listens = False
        self._certificate_fault = certificate.problem()
        rooms.view.problems.insert(0, lambda: self._certificate_fault)

    async def listen(self) -> None:
        """Listen on all ports; raises CannotListen."""
        where = self._listen
        await self._sites.start(
            Site("listen.metrics", where.address, where.metrics, self._plain_door, None, outlives=True)
        )
        await self._listen_control()
        tls = None
        if self._api_tls != "off":
            tls = self._certificate.server(mutual=self._api_tls == "mutual", node_to_node=False)
        await self._sites.start(
            Site(
                "listen.api",
                where.address,
                where.api,
                self._api_door,
                tls,
                connections=self._api_connections,
            )
        )

    async def _listen_control(self) -> None:
        """Serve the control plane, unless the certificate is out of its time: no peer would accept it."""
        if self._certificate_fault is not None:
            _log.error("the control plane is not served: %s", self._certificate_fault)
            return
        where = self._listen
        tls = self._certificate.server(mutual=True, node_to_node=True)
        await self._sites.start(Site("listen.control", where.address, where.control, self._control_door, tls))
        self._control_listens = True

    async def watch_certificate(self) -> None:
        """Take new files of the certificate as they come, until cancelled."""
        while True:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            taken = self._certificate.taken
            before, self._certificate_fault = self._certificate_fault, self._certificate.problem()
            if self._certificate_fault != before and self._certificate_fault is not None:
                _log.error("certificate: %s", self._certificate_fault)
            if self._certificate.taken != taken:
                # A peer whose root is gone must not go on over a connection that it admitted.
                await self._sites.renew(retire=self._certificate.roots_changed)
                if self._certificate.roots_changed:
                    await self._control.close_streams()
            if self._certificate_fault is None and not self._control_listens:
                await self._listen_control()

    async def close(self) -> None:
        """Answer no new peer, let the requests that are being served end, stop listening. Idempotent."""
        self._view.state = "stopping"
        self._kv.end_watches()
        await self._control.close_streams()
        await self._sites.stop()


async def _until_confirmed(data: SharedData, identity: Identity, rooms: Rooms) -> None:
    """Wait until the engine is there and holds what this node's identity file says; raises StateRefused."""
    while True:
        try:
            await data.confirm(identity)
        except EngineUnreachable as error:
            if rooms.waits_for is None:
                _log.warning("waiting for the engine: %s", error)
            rooms.waits_for = str(error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            rooms.waits_for = None
            return


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
