# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control planes of the other nodes: do they answer, do they admit us, what do their clocks say?"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp

from grey.cli.doctor.clock import Heard, date_of
from grey.cli.doctor.findings import Area
from grey.client.transport import explain
from grey.config.model import Endpoint
from grey.link.session import PeerSession
from grey.link.tls import TlsError, client_context

if TYPE_CHECKING:
    from grey.cli.doctor.findings import Finding
    from grey.config.model import Cluster, Federation
    from grey.config.node import NodeFile

AREA = Area("network")

_PATH = "/v1/federation/status"


async def look(
    node: NodeFile, federation: Federation, timeout_seconds: float
) -> tuple[list[Finding], list[Heard]]:
    """Ask the other nodes of this cluster and of every other one; return what was found, and their clocks."""
    others = [
        (cluster, host)
        for cluster in federation.clusters
        for host in node.names.get(cluster.endpoint.host, (cluster.endpoint.host,))
        if cluster.name != node.cluster or host not in {node.listen.address, cluster.endpoint.host}
    ]
    if not others:
        return [], []
    try:
        context = client_context(node.tls)
    except TlsError as error:
        step = "mend the certificate first: see above"
        return [AREA.warning("clusters", f"nobody can be asked: {error}", step)], []
    session = PeerSession(context, node.names, connect_seconds=timeout_seconds, total_seconds=timeout_seconds)
    try:
        asked = await asyncio.gather(
            *(_ask(session, federation, cluster, host, timeout_seconds) for cluster, host in others)
        )
    finally:
        await session.close()
    return [finding for finding, _ in asked], [heard for _, heard in asked if heard is not None]


async def _ask(
    session: PeerSession, federation: Federation, cluster: Cluster, host: str, timeout_seconds: float
) -> tuple[Finding, Heard | None]:
    endpoint = Endpoint(host, federation.control_endpoint(cluster).port)
    where = f"{cluster.name} ({endpoint})"
    asked = time.time()
    try:
        async with session.request(
            "GET", federation.identity(cluster.name), endpoint.host, endpoint.port, _PATH
        ) as response:
            answered = time.time()
            status, date = response.status, date_of(response.headers.get("Date"))
            await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        why = explain(error, timeout_seconds)
        if why.lasting:
            step = "one of the two certificates is not of this federation, or over: see above and there"
            return AREA.problem(cluster.name, f"{where}: {why}", step), None
        step = f"see that greyd runs there, and that the network lets port {endpoint.port} through"
        return AREA.warning(cluster.name, f"{where} cannot be reached: {why}", step), None
    heard = None if date is None else Heard(cluster.name, date, asked, answered)
    if status == 403:
        step = "add this cluster to security.cluster_auth.allowed_clusters, and run deploy.yml"
        return AREA.problem(cluster.name, f"{where} does not admit this cluster's certificate", step), heard
    if status != 200:
        step = "grey-ctl doctor there says more"
        return AREA.warning(cluster.name, f"{where} answers with status {status}", step), heard
    return AREA.ok(cluster.name, f"{where} answers in {(answered - asked) * 1000:.0f} ms"), heard
