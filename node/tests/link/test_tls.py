# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates over real connections: who gets through, and what is said of files that are wrong."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.pki import Authority

from grey.config.model import TlsFiles
from grey.link import tls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> TlsFiles:
    return authority.issue(tmp_path / "server", "aws-east", dns=["aws-east.grey.internal"])


@pytest.fixture
def client(tmp_path: Path, authority: Authority) -> TlsFiles:
    return authority.issue(tmp_path / "client", "gcp-west", dns=["gcp-west.grey.internal"])


@pytest.fixture
async def port(server: TlsFiles) -> AsyncIterator[int]:
    """A server that answers with the peer's DNS name and the TLS version."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names = tls.peer_names(writer.get_extra_info("peercert"))
        version = writer.get_extra_info("ssl_object").version()
        writer.write(f"{names.dns[0]} {version}\n".encode())
        writer.close()

    context = tls.server_context(server, mutual=True, node_to_node=True)
    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def talk(port: int, context: ssl.SSLContext, name: str = "aws-east.grey.internal") -> bytes:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        try:
            return await reader.readuntil()
        finally:
            writer.close()


async def test_nodes_know_each_other(port: int, client: TlsFiles) -> None:
    assert await talk(port, tls.client_context(client)) == b"gcp-west.grey.internal TLSv1.3\n"


async def test_the_name_of_the_server_is_checked(port: int, client: TlsFiles) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await talk(port, tls.client_context(client), "gcp-west.grey.internal")


async def test_a_foreign_server_is_not_trusted(port: int, tmp_path: Path) -> None:
    stranger = Authority("somebody else").issue(tmp_path / "x", "x", dns=["x"])
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        await talk(port, tls.client_context(stranger))


@pytest.mark.parametrize("kind", ["none", "foreign", "expired", "tls12"])
async def test_clients_that_are_refused(
    port: int, kind: str, tmp_path: Path, authority: Authority, client: TlsFiles
) -> None:
    if kind == "none":
        context = ssl.create_default_context(cafile=client.ca_file)
    elif kind == "foreign":
        foreign = Authority("other").issue(
            tmp_path / "f", "gcp-west", dns=["gcp-west.grey.internal"], bundle=authority.pem
        )
        context = ssl.create_default_context(cafile=foreign.ca_file)
        context.load_cert_chain(foreign.cert_file, foreign.key_file)
    elif kind == "expired":
        expired = authority.issue(tmp_path / "e", "gcp-west", dns=["gcp-west.grey.internal"], expired=True)
        context = tls.client_context(expired)
    else:
        context = tls.client_context(client)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await talk(port, context)


def test_what_a_certificate_says(server: TlsFiles) -> None:
    leaf = tls.inspect(server, identity="aws-east.grey.internal")
    assert (leaf.dns, leaf.common_name) == (("aws-east.grey.internal",), "aws-east")
    assert leaf.not_before < time.time() < leaf.not_after
    tls.check_time(server, leaf, time.time())
    with pytest.raises(tls.CertificateExpired, match=r"server/cert.pem: the certificate expired on 20"):
        tls.check_time(server, leaf, leaf.not_after)
    with pytest.raises(tls.CertificateExpired, match=r"the clock here says .*: set the clock"):
        tls.check_time(server, leaf, leaf.not_before - 1)


def wrong(files: TlsFiles, **identity: str) -> str:
    with pytest.raises(tls.TlsError) as caught:
        tls.inspect(files, **identity)
    return str(caught.value)


def test_files_that_are_wrong(server: TlsFiles, client: TlsFiles, tmp_path: Path) -> None:
    mixed = TlsFiles(server.cert_file, client.key_file, server.ca_file)
    assert wrong(mixed) == (
        f"{client.key_file}: is not the key of {server.cert_file}: "
        "run deploy.yml (or rotate_certs.yml) to issue a new one for this key"
    )
    other = Authority("other").issue(tmp_path / "other", "x")
    foreign = TlsFiles(server.cert_file, server.key_file, other.ca_file)
    assert wrong(foreign) == (
        f"{server.cert_file}: was not issued by a CA of {other.ca_file} (issuer: CN=test authority): "
        "run deploy.yml (or rotate_certs.yml) to issue a new one by this federation's CA"
    )
    assert wrong(server, identity="edge.grey.internal") == (
        f"{server.cert_file}: the certificate must carry the DNS name edge.grey.internal, it carries "
        "aws-east.grey.internal: run deploy.yml (or rotate_certs.yml) to issue a new one"
    )
    with pytest.raises(tls.TlsError, match="is not the key of"):
        tls.server_context(mixed, mutual=True, node_to_node=True)
    Path(server.key_file).write_text("no key")
    assert f"{server.key_file}: holds no unencrypted PEM private key" in wrong(server)
    Path(server.cert_file).write_text("no certificate")
    assert f"{server.cert_file}: the certificate holds no PEM certificate" in wrong(server)
    Path(server.cert_file).unlink()
    assert wrong(server) == f"{server.cert_file}: the certificate does not exist: run deploy.yml to make it"
    with pytest.raises(tls.TlsError, match="the certificate does not exist"):
        tls.client_context(server)
