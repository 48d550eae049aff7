# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane (docs/reference/api.md): who may ask, and what is answered on port 8443."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from grey.federation import records
from grey.federation.interface import MemberReport
from grey.link.names import NamePatterns, PeerNames, peer_names
from grey.replicate import wire
from grey.serve import errors, http
from grey.serve.channel import CLOSE_SECONDS, HEARTBEAT_SECONDS, WebSocketChannel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.config.model import Federation
    from grey.federation.deputy import ClusterState
    from grey.federation.interface import FederationStore
    from grey.federation.status import StatusDocument
    from grey.replicate.source import Source
    from grey.serve.view import NodeView

log = logging.getLogger("grey.serve")

OPERATOR = "operator"
"""The common name of the operator's certificate."""
MAX_REPORT_BYTES = 16 * 1024

_MEMBERS = "/v1/federation/members"
_report_decoder = msgspec.json.Decoder(MemberReport)


class Admission:
    """Says whom a verified certificate is, and whether it may ask at all."""

    def __init__(self, federation: Federation) -> None:
        self._identities = {
            federation.identity(cluster.name).lower(): cluster.name for cluster in federation.clusters
        }
        self._patterns = NamePatterns(federation.security.allowed_clusters or self._identities)

    def cluster(self, names: PeerNames) -> str | None:
        """Return the cluster whose certificate this is, None for the operator's, "" for no cluster's.

        Raises ApiError (403) when nobody admits it.
        """
        if names.common_name == OPERATOR:
            return None
        admitted = [name for name in names.dns if self._patterns.match(name)]
        if not admitted:
            shown = ", ".join(names.dns) or names.common_name or "without a name"
            raise errors.forbidden(
                f"the certificate {shown} is admitted neither by allowed_clusters "
                f"({', '.join(self._patterns.patterns)}) nor as the operator's"
            )
        return next((self._identities[n.lower()] for n in admitted if n.lower() in self._identities), "")


class ControlApi:
    """Routes and answers of port 8443. Nothing is answered to a peer that is not admitted."""

    def __init__(
        self,
        view: NodeView,
        source: Source,
        *,
        store: FederationStore,
        status: Callable[[], Awaitable[StatusDocument]],
        state: Callable[[], ClusterState],
    ) -> None:
        """Answer for the federation store what clusters without a vote ask.

        ``status`` makes the status document, ``state`` says what the other nodes of this cluster ask.
        """
        self._view = view
        self._source = source
        self._store = store
        self._status = status
        self._state = state
        self._admission = Admission(view.federation)
        self._channels: set[WebSocketChannel] = set()

    def route(self, request: web.BaseRequest) -> tuple[str, Awaitable[web.StreamResponse]]:
        """Name the operation of a request and start it (``grey.serve.door.Route``)."""
        transport = request.transport
        names = peer_names(None if transport is None else transport.get_extra_info("peercert"))
        cluster = self._admission.cluster(names)
        path, query = http.split_target(request)
        if path.startswith(_MEMBERS + "/"):
            _only("PUT", request, path)
            http.query(query, ())
            return "member_report", self._put_member(request, path[len(_MEMBERS) + 1 :], cluster)
        routes = {
            "/v1/federation/status": ("status", self._get_status),
            "/v1/federation/role": ("role", self._get_role),
            _MEMBERS: ("members", self._get_members),
            "/v1/cluster/state": ("cluster_state", self._get_state),
            "/v1/replication/stream": ("stream", self._stream),
            "/v1/replication/snapshot": ("snapshot", self._snapshot),
        }
        if path not in routes:
            raise errors.no_route(request.method, path[:200])
        _only("GET", request, path)
        operation, answer = routes[path]
        return operation, answer(request, query, cluster)

    async def close_streams(self) -> None:
        """Close all streams, so that a stop need not wait for them."""
        await asyncio.gather(*(channel.close() for channel in tuple(self._channels)), return_exceptions=True)

    async def _get_status(self, _: web.BaseRequest, query: str, __: str | None) -> web.StreamResponse:
        http.query(query, ())
        return http.json_response(await self._status())

    async def _get_role(self, _: web.BaseRequest, query: str, __: str | None) -> web.StreamResponse:
        http.query(query, ())
        stored = await self._store.get(records.ROLE)
        if stored is None:
            raise errors.ApiError(
                404, "not_found", "no cluster ever had the primary role", "wait for the first bootstrap"
            )
        return http.json_response(records.decode_role(stored.value))

    async def _get_members(self, _: web.BaseRequest, query: str, __: str | None) -> web.StreamResponse:
        http.query(query, ())
        stored = await self._store.list(records.MEMBERS)
        reports = (records.decode_report(key, each.value) for key, each in stored.items())
        return http.json_response({report.cluster: report for report in reports})

    async def _get_state(self, _: web.BaseRequest, query: str, cluster: str | None) -> web.StreamResponse:
        http.query(query, ())
        if cluster != self._view.cluster:
            raise errors.not_for_others(f"only a node of {self._view.cluster} itself may ask for its state")
        return http.json_response(self._state())

    async def _put_member(
        self, request: web.BaseRequest, name: str, cluster: str | None
    ) -> web.StreamResponse:
        # A name that is admitted without being a cluster's is the empty one: it reports for nobody.
        if not cluster or cluster != name:
            raise errors.not_for_others(f"only {name}'s own certificate may report for {name}")
        body = await http.read_body(request, MAX_REPORT_BYTES, "the report")
        try:
            report = _report_decoder.decode(body)
        except msgspec.DecodeError as error:
            raise errors.bad_request(f"a member's report was wanted: {error}") from error
        if report.cluster != name:
            raise errors.bad_request(f"the report is of {report.cluster!r}, the path says {name!r}")
        await self._store.put(records.member_key(name), records.encode(report))
        return web.Response(status=204)

    async def _stream(self, request: web.BaseRequest, query: str, cluster: str | None) -> web.StreamResponse:
        peer = _require_cluster(cluster)
        parameters = http.query(query, ("from",))
        # The position is also the stream's first message; here it only makes the request log readable.
        if "from" not in parameters:
            raise errors.bad_request("the parameter from=EPOCH.SEQUENCE is missing")
        socket = web.WebSocketResponse(
            timeout=CLOSE_SECONDS,
            heartbeat=HEARTBEAT_SECONDS,
            max_msg_size=wire.MAX_MESSAGE_BYTES,
            compress=False,
        )
        if not socket.can_prepare(request):
            raise errors.bad_request("a WebSocket upgrade was wanted")
        await socket.prepare(request)
        channel = WebSocketChannel(socket)
        self._channels.add(channel)
        try:
            await self._source.serve(channel, peer)
        finally:
            self._channels.discard(channel)
            await channel.close()
        return socket

    async def _snapshot(self, _: web.BaseRequest, query: str, cluster: str | None) -> web.StreamResponse:
        _require_cluster(cluster)
        after = http.query(query, ("after",)).get("after")
        try:
            page: wire.SnapshotPage | wire.Refused = await self._source.snapshot_page(after)
        except wire.ProtocolError as error:
            raise errors.bad_request(f"the parameter after: {error}") from error
        except wire.SourceRefused as refused:
            page = refused.refused
        return web.Response(body=wire.encode(page), headers={"Content-Type": "application/vnd.msgpack"})


def _only(method: str, request: web.BaseRequest, path: str) -> None:
    if request.method != method:
        raise errors.method_not_allowed(request.method, path[:200], method)


def _require_cluster(cluster: str | None) -> str:
    if not cluster:
        raise errors.not_for_others("replication needs the certificate of a cluster of this federation")
    return cluster
