# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the federation's control plane (docs/reference/api.md) how the federation is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from grey.client.answers import problem
from grey.client.errors import Attempt, Unavailable
from grey.client.transport import Answer, explain
from grey.link.session import PeerSession

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from grey.config.model import Federation

_PATH = "/v1/federation/status"


class ControlEndpoint(msgspec.Struct, frozen=True):
    """Where a control plane answers. ``identity`` is the DNS name that its certificate must carry."""

    who: str
    host: str
    port: int
    identity: str


class Voters(msgspec.Struct, frozen=True):
    """How many members the federation store has, and how many of them answer."""

    total: int
    reachable: int


class ClusterStatus(msgspec.Struct, frozen=True):
    """One cluster as the control plane sees it; None stands for what is not known of it."""

    name: str
    status: str
    online: bool
    region: str | None = None
    weight: int | None = None
    epoch: int | None = None
    position: str | None = None
    lag_seconds: float | None = None
    lag_records: int | None = None
    throughput: float | None = None
    last_seen_seconds: float | None = None
    problem: str | None = None
    needs_full_copy: bool = False


class FederationStatus(msgspec.Struct, frozen=True):
    """The whole federation. ``epoch`` and ``primary`` are None before the first primary."""

    federation: str
    epoch: int | None
    primary: str | None
    answered_by: str
    voters: Voters
    clusters: tuple[ClusterStatus, ...]


class StatusReport(msgspec.Struct, frozen=True):
    """What the control plane answered: as it came, and read."""

    plain: dict[str, Any]
    status: FederationStatus


def control_endpoints(federation: Federation) -> list[ControlEndpoint]:
    """Return whom to ask, in order: the clusters that vote, then the endpoint in the federation file."""
    found = [
        ControlEndpoint(cluster.name, endpoint.host, endpoint.port, federation.identity(cluster.name))
        for cluster in federation.clusters
        if cluster.voter
        for endpoint in (federation.control_endpoint(cluster),)
    ]
    shared = federation.control_plane.endpoint
    return [*found, ControlEndpoint("control_plane", shared.host, shared.port, shared.host)]


async def federation_status(
    endpoints: Sequence[ControlEndpoint],
    tls: ssl.SSLContext,
    names: Mapping[str, Sequence[str]],
    *,
    attempt_seconds: float = 2.0,
) -> StatusReport:
    """Ask one endpoint after the other until one answers; each may take ``attempt_seconds``.

    Raises Unavailable, whose attempts say what each of them answered.
    """
    attempts: list[Attempt] = []
    # Half of the time for a connection: a frozen node leaves the rest to the next address of its cluster.
    session = PeerSession(tls, names, connect_seconds=attempt_seconds / 2, total_seconds=attempt_seconds)
    try:
        for endpoint in endpoints:
            found = await _ask(session, endpoint, attempt_seconds)
            if isinstance(found, StatusReport):
                return found
            attempts.append(Attempt(endpoint.who, f"{endpoint.host}:{endpoint.port}", found))
    finally:
        await session.close()
    raise Unavailable(
        "no control plane answered",
        hint="check that greyd runs there, and the network and the certificate from here to port 8443",
        attempts=attempts,
    )


async def _ask(session: PeerSession, endpoint: ControlEndpoint, attempt_seconds: float) -> StatusReport | str:
    try:
        async with session.request("GET", endpoint.identity, endpoint.host, endpoint.port, _PATH) as response:
            answer = Answer(response.status, response.headers, await response.read())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return str(explain(error, attempt_seconds))
    if answer.status != 200:
        found = problem(answer)
        return f"{found.code}: {found.message}" if found.code else found.message
    try:
        plain = msgspec.json.decode(answer.body, type=dict[str, Any])
        return StatusReport(plain, msgspec.convert(plain, FederationStatus))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"what it answered is not a status: {error}"
