# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at everything on this host that a node needs. Changes nothing."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from grey.cli.doctor import certificates, clock, disk, engine, files, network, ports
from grey.cli.doctor.findings import Finding, Report
from grey.config.node import NodeFile, WitnessFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from grey.cli.doctor.clock import Heard
    from grey.config.engine import DataStore
    from grey.config.federation_store import FederationStoreAccess
    from grey.config.model import Federation

DEFAULT_CLOCK_OFFSET_SECONDS = 0.5
"""What counts while the federation file cannot be read."""


async def examine(path: Path, timeout_seconds: float) -> Report:
    """Look at the host of a node's file; each question over the network may take ``timeout_seconds``."""
    found = files.look(path)
    findings = list(found.findings)
    node, federation = found.node, found.federation
    if node is None:
        findings += clock.look(clock.kernel_clock(), (), DEFAULT_CLOCK_OFFSET_SECONDS)
        return _report(findings, None, federation)
    most = DEFAULT_CLOCK_OFFSET_SECONDS if federation is None else federation.max_clock_offset_seconds
    if isinstance(node, WitnessFile):
        findings += certificates.look("federation store", node.federation_store.tls, time.time())
        findings += await engine.look_at_store(node.federation_store, timeout_seconds)
        findings += clock.look(clock.kernel_clock(), (), most)
        findings += disk.look(*_folders(None, node.federation_store))
        return _report(findings, node, federation)
    findings += _certificates(node, federation)
    on_ports, in_engine, in_store, (in_network, heard) = await asyncio.gather(
        ports.look(node, federation, timeout_seconds),
        engine.look_at_engine(node, timeout_seconds),
        _store(node, timeout_seconds),
        _network(node, federation, timeout_seconds),
    )
    findings += clock.look(clock.kernel_clock(), heard, most)
    findings += disk.look(*_folders(node.store, node.federation_store, data_dir=node.data_dir))
    findings += [*on_ports, *in_engine, *in_store, *in_network]
    return _report(findings, node, federation)


def _certificates(node: NodeFile, federation: Federation | None) -> Iterator[Finding]:
    now = time.time()
    cluster = None if federation is None else federation.cluster(node.cluster)
    identity = None if federation is None else federation.identity(node.cluster)
    hosts = [] if cluster is None else [cluster.endpoint.host]
    yield from certificates.look("node", node.tls, now, identity=identity, hosts=hosts)
    if node.federation_store is not None:
        yield from certificates.look("federation store", node.federation_store.tls, now)
    if node.store.tls is not None:
        yield from certificates.look("engine", node.store.tls, now)
    if node.store.member is not None:
        host = node.store.member.peer.host
        yield from certificates.look("engine's peer", node.store.member.tls, now, hosts=[host])


def _folders(
    store: DataStore | None, access: FederationStoreAccess | None, *, data_dir: str = ""
) -> tuple[dict[str, str], dict[str, int]]:
    folders = {"data": data_dir} if store is not None and store.engine == "sqlite" else {}
    quotas = {}
    if store is not None and store.member is not None:
        folders["engine"] = store.member.data_dir
        quotas["engine"] = store.quota_bytes or 0
    if access is not None and access.member is not None:
        folders["federation store"] = access.member.data_dir
    return folders, quotas


async def _store(node: NodeFile, timeout_seconds: float) -> list[Finding]:
    if node.federation_store is None:
        return []
    return await engine.look_at_store(node.federation_store, timeout_seconds)


async def _network(
    node: NodeFile, federation: Federation | None, timeout_seconds: float
) -> tuple[list[Finding], list[Heard]]:
    return ([], []) if federation is None else await network.look(node, federation, timeout_seconds)


def _report(
    findings: list[Finding], node: NodeFile | WitnessFile | None, federation: Federation | None
) -> Report:
    return Report(
        ok=not any(finding.state == "problem" for finding in findings),
        node=None if node is None else node.name,
        cluster=node.cluster if isinstance(node, NodeFile) else None,
        federation=None if federation is None else federation.name,
        findings=tuple(findings),
    )
