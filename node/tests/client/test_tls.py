# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client over TLS, with the right and the wrong certificates."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import pytest
from support.fake_api import FakeFederation
from support.pki import Authority

from grey.client import AsyncClient, ClusterEndpoint, OutcomeUnknown, Unavailable
from grey.link.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from grey.config.model import TlsFiles

NAMES = {"east.test": ["127.0.0.1"], "west.test": ["127.0.0.1"]}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def east(authority: Authority, tmp_path: Path) -> Iterator[FakeFederation]:
    tls = authority.issue(tmp_path / "east", "east", dns=["east.test"], addresses=[])
    with FakeFederation(["east"]).run({"east": tls}) as federation:
        federation.put(b"k", b"v")
        yield federation


@pytest.fixture
def mine(authority: Authority, tmp_path: Path) -> TlsFiles:
    return authority.issue(tmp_path / "mine", "operator", dns=["operator.test"])


def at(host: str, federation: FakeFederation) -> list[ClusterEndpoint]:
    return [ClusterEndpoint("east", f"{host}:{federation['east'].port}")]


async def test_mutual_tls_with_files_or_a_context(east: FakeFederation, mine: TlsFiles) -> None:
    for tls in (mine, client_context(mine)):
        async with AsyncClient(at("east.test", east), tls=tls, names=NAMES) as client:
            found = await client.get("k")
            assert found is not None
            assert found.value == b"v"
            await client.put("..", b"dots")
    assert east.data[b".."].value == b"dots"


async def test_a_wrong_name_ends_the_call_at_once(east: FakeFederation, mine: TlsFiles) -> None:
    start = time.monotonic()
    async with AsyncClient(at("west.test", east), tls=mine, names=NAMES) as client:
        with pytest.raises(Unavailable) as failed:
            await client.put("k", b"")
    assert time.monotonic() - start < 5
    assert failed.value.message == (
        f"put k: nobody is left to ask: east (west.test:{east['east'].port}): its certificate is refused: "
        "Hostname mismatch, certificate is not valid for 'west.test'."
    )
    assert east.log == []


async def test_a_foreign_server_is_refused(east: FakeFederation, mine: TlsFiles, tmp_path: Path) -> None:
    foreign = Authority("another").issue(tmp_path / "foreign", "operator", dns=["operator.test"])
    async with AsyncClient(at("east.test", east), tls=foreign, names=NAMES) as client:
        with pytest.raises(Unavailable, match=r"nobody is left to ask: .*certificate is refused"):
            await client.get("k")


async def test_a_foreign_client_is_refused(
    east: FakeFederation, authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority("another").issue(
        tmp_path / "foreign", "operator", dns=["operator.test"], bundle=authority.pem
    )
    async with AsyncClient(at("east.test", east), tls=foreign, names=NAMES, timeout_seconds=0.3) as client:
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await client.put("k", b"")
    assert east.log == []


async def test_plain_http_is_not_mistaken_for_tls(east: FakeFederation, mine: TlsFiles) -> None:
    with FakeFederation(["east"]).run() as plain:
        async with AsyncClient(at("east.test", plain), tls=mine, names=NAMES) as client:
            with pytest.raises(Unavailable, match="no TLS connection: wrong version number"):
                await client.get("k")
    async with AsyncClient(at("east.test", east), names=NAMES, timeout_seconds=1.0) as client:
        with pytest.raises(Unavailable, match="the connection broke"):
            await client.get("k")


async def test_a_closed_client_says_so(east: FakeFederation, mine: TlsFiles) -> None:
    client = AsyncClient(at("east.test", east), tls=mine, names=NAMES)
    await client.get("k")
    await client.close()
    await client.close()
    with pytest.raises(Unavailable, match="this client was closed"):
        await client.get("k")


async def test_old_tls_is_not_spoken(east: FakeFederation, mine: TlsFiles) -> None:
    context = client_context(mine)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("endpoint", ["no such place:x", "east.test", "east.test:99999", ":80", ""])
async def test_an_endpoint_that_is_none(endpoint: str) -> None:
    async with AsyncClient([ClusterEndpoint("east", endpoint)], timeout_seconds=1) as client:
        with pytest.raises(Unavailable, match=f"its endpoint is not HOST:PORT but '{endpoint}'"):
            await client.get("k")


async def test_a_name_that_nobody_knows() -> None:
    async with AsyncClient([ClusterEndpoint("east", "nowhere.invalid:80")], timeout_seconds=0.2) as client:
        with pytest.raises(Unavailable, match=r"east \(nowhere\.invalid:80\): its name is not known here"):
            await client.get("k")
