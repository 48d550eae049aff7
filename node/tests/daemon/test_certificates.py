# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and trust bundles that are replaced under running nodes, which never restart for it."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from cryptography import x509
from support.federation import DOMAIN, running_federation
from support.load import Load, holds
from support.pki import Authority

from grey.daemon.certificate import CertificateWatch
from grey.link.tls import TlsError, client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.federation import GreyNode, RunningFederation

    from grey.config.model import TlsFiles

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.processes]

IDENTITY = f"aws-east.{DOMAIN}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFederation]:
    folder = tmp_path_factory.mktemp("certificates")
    async with running_federation(folder, clusters=("aws-east", "gcp-west")) as running:
        yield running


async def served(node: GreyNode, port: int, files: TlsFiles) -> x509.Certificate:
    """Return the certificate that a node shows to a new connection; raises OSError when it refuses ours."""
    reader, writer = await asyncio.open_connection(
        node.address, port, ssl=client_context(files), server_hostname=node.host
    )
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        # A server of TLS 1.3 judges the client's certificate after the handshake: ask for something.
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            if not await reader.readline():
                raise ConnectionError("closed without an answer")
    finally:
        writer.close()
    return x509.load_der_x509_certificate(shown)


async def shows(federation: RunningFederation, serial: int, files: TlsFiles, node: GreyNode) -> None:
    async def new() -> bool:
        ports = (federation.api, federation.control)
        return all([(await served(node, port, files)).serial_number == serial for port in ports])

    await federation.until(new, 20, f"the new certificate of {node.name}")


def serial_of(files: Path) -> int:
    return x509.load_pem_x509_certificate((files / "cert.pem").read_bytes()).serial_number


async def test_files_that_do_not_fit_yet_are_left_alone(tmp_path: Path) -> None:
    authority, other = Authority("a"), Authority("b")
    files = authority.issue(tmp_path, "aws-east", dns=[IDENTITY])
    watch = CertificateWatch(files, IDENTITY)
    make = watch.server(mutual=True, node_to_node=True)
    client, server, leaf = watch.client(), make(), watch.leaf
    assert (watch.problem(), watch.taken) == (None, 0)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other.issue(tmp_path / "other", "aws-east", dns=[IDENTITY])
    (tmp_path / "cert.pem").write_bytes((tmp_path / "other" / "cert.pem").read_bytes())
    assert "is not the key of" in str(watch.problem())
    assert (watch.client(), make(), watch.leaf) == (client, server, leaf)
    (tmp_path / "key.pem").write_bytes((tmp_path / "other" / "key.pem").read_bytes())
    assert "was not issued by a CA" in str(watch.problem())
    (tmp_path / "ca.pem").write_bytes(authority.pem + other.pem)
    assert watch.problem() is None
    assert (watch.taken, watch.roots_changed) == (1, True)
    assert watch.client() is not client
    assert make() is not server
    other.issue(tmp_path, "gcp-west", dns=["gcp-west.grey.test"], bundle=authority.pem + other.pem)
    assert f"must carry the DNS name {IDENTITY}" in str(watch.problem())
    for path, content in kept.items():
        path.write_bytes(content)
    assert watch.problem() is None
    assert watch.leaf == leaf
    (tmp_path / "cert.pem").unlink()
    assert "the certificate does not exist" in str(watch.problem())
    with pytest.raises(TlsError):
        CertificateWatch(files, IDENTITY)


async def test_a_new_leaf_is_served_without_a_restart(federation: RunningFederation) -> None:
    load = Load(federation, "leaf")
    running = asyncio.create_task(load.run(4))
    await load.acknowledges(20)
    for node in federation.all_nodes():
        before = serial_of(node.folder)
        federation.issue(node)
        assert serial_of(node.folder) != before
        await shows(federation, serial_of(node.folder), federation.operator, node)
    await load.acknowledges(20)
    load.stop()
    await running
    assert load.refused == []
    assert len(load.sent) == len(load.acknowledged), "no request failed meanwhile"
    await holds(federation, federation.nodes["gcp-west"], set(load.acknowledged), "leaf")


async def test_a_new_root_replaces_the_old_one_without_a_restart(federation: RunningFederation) -> None:
    """Runs last. New root into every bundle; reissue every leaf; drop the old root."""
    old, new = federation.authority, Authority("the next root")
    both = old.pem + new.pem
    nodes = federation.all_nodes()
    pids = [node.process.pid for node in nodes if node.process is not None]
    next_operator = new.issue(federation.folder / "next-operator", "operator", bundle=both)
    load = Load(federation, "roots")
    running = asyncio.create_task(load.run(4))
    await load.acknowledges(20)

    def reissue(node: GreyNode, issuer: Authority, bundle: bytes) -> None:
        names = (f"{node.cluster}.{DOMAIN}", node.host)
        issuer.issue(node.folder, node.cluster, dns=names, addresses=(), bundle=bundle)

    for node in nodes:
        reissue(node, old, both)
        # It takes a client of the new root, and still one of the old.
        await shows(federation, serial_of(node.folder), next_operator, node)
        await shows(federation, serial_of(node.folder), federation.operator, node)
    # What tests dial with trusts the old root alone: the nodes are asked by the new operator from here on.
    load.stop()
    await running
    assert len(load.sent) == len(load.acknowledged), "no request failed meanwhile"
    old_http, federation._http = federation.http(), None
    old_operator, federation.operator = federation.operator, next_operator
    try:
        for node in nodes:
            reissue(node, new, both)
            await shows(federation, serial_of(node.folder), next_operator, node)
        await federation.ready()
        for node in nodes:
            reissue(node, new, new.pem)
            await shows(federation, serial_of(node.folder), next_operator, node)
            for port in (federation.api, federation.control):
                # The old operator trusts both roots now, but is trusted no more.
                trusting = old.issue(federation.folder / "old-operator", "operator", bundle=both)
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await served(node, port, trusting)
        # The connections that the old root admitted are over too, each after one more answer.
        with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
            for _ in range(20):
                async with old_http.get(
                    f"https://{federation.primary.address}:{federation.api}/v1/kv/x",
                    server_hostname=federation.primary.host,
                ) as answer:
                    await answer.read()
        await federation.ready()
        put = await federation.kv("PUT", federation.primary, b"after", data=b"the change")
        assert put.status == 200
        await holds(federation, federation.nodes["gcp-west"], set(load.acknowledged), "roots")

        async def arrived() -> bool:
            return (await federation.kv("GET", federation.nodes["gcp-west"], b"after")).status == 200

        await federation.until(arrived, 15, "replication over the new root")
    finally:
        federation.operator = old_operator
        await old_http.close()
    assert [node.process.pid for node in nodes if node.process is not None] == pids
