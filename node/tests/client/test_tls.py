# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client over TLS, with the right and the wrong certificates."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.fake_api import FakeFederation
from support.pki import Authority

from grey.client import AsyncClient, ClusterEndpoint, OutcomeUnknown, Unavailable
from grey.link.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    async with AsyncClient(at("east.test", east), tls=foreign, names=NAMES, timeout_seconds=2) as client:
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await client.put("k", b"")
    assert east.log == []


async def test_plain_http_is_not_mistaken_for_tls(east: FakeFederation, mine: TlsFiles) -> None:
    with FakeFederation(["east"]).run() as plain:
        async with AsyncClient(at("east.test", plain), tls=mine, names=NAMES) as client:
            with pytest.raises(Unavailable, match="no TLS connection: wrong version number"):
                await client.get("k")
    async with AsyncClient(at("east.test", east), names=NAMES, timeout_seconds=2) as client:
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
    async with AsyncClient([ClusterEndpoint("east", endpoint)]) as client:
        with pytest.raises(Unavailable, match=f"its endpoint is not HOST:PORT but '{endpoint}'"):
            await client.get("k")


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    async with AsyncClient([ClusterEndpoint("east", "nowhere.invalid:80")], timeout_seconds=2) as client:
        with pytest.raises(Unavailable, match=r"east \(nowhere\.invalid:80\): its name is not known here"):
            await client.get("k")


async def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(*args: object, **options: object) -> None:
        asked.set()
        go_on.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    async with AsyncClient([ClusterEndpoint("east", "nowhere.test:80")], timeout_seconds=2) as client:
        try:
            with pytest.raises(Unavailable, match="its name was not looked up in time"):
                await client.put("k", b"")
            assert asked.is_set()
        finally:
            go_on.set()


async def test_a_new_certificate_is_used_without_a_restart(
    east: FakeFederation, authority: Authority, tmp_path: Path
) -> None:
    mine = authority.issue(tmp_path / "mine", "operator", dns=["operator.test"], expired=True)
    async with AsyncClient(at("east.test", east), tls=mine, names=NAMES, timeout_seconds=2) as client:
        with pytest.raises(Unavailable, match=r"cert\.pem: the certificate expired on "):
            await client.get("k")
        authority.issue(tmp_path / "mine", "operator", dns=["operator.test"])
        assert await client.get("k", timeout_seconds=30) is not None


async def test_a_new_root_is_trusted_at_once(authority: Authority, mine: TlsFiles, tmp_path: Path) -> None:
    """The order of a roll-over: first the root goes into every bundle, then the leaves change."""
    other = Authority("next authority")
    both = authority.pem + other.pem
    tls = other.issue(tmp_path / "east", "east", dns=["east.test"], addresses=[], bundle=both)
    with FakeFederation(["east"]).run({"east": tls}) as east:
        east.put(b"k", b"v")
        async with AsyncClient(at("east.test", east), tls=mine, names=NAMES) as client:
            with pytest.raises(Unavailable, match=r"nobody is left to ask: .*certificate is refused"):
                await client.get("k")
            Path(mine.ca_file).write_bytes(both)
            assert await client.get("k") is not None  # the refusal made it look at the files
            Path(mine.cert_file).write_bytes(b"half")
            assert await client.get("k") is not None


async def test_what_lies_there_is_named_when_it_cannot_be_used(
    authority: Authority, mine: TlsFiles, tmp_path: Path
) -> None:
    tls = Authority("other").issue(tmp_path / "east", "east", dns=["east.test"], addresses=[])
    with FakeFederation(["east"]).run({"east": tls}) as east:
        async with AsyncClient(at("east.test", east), tls=mine, names=NAMES) as client:
            Path(mine.ca_file).write_bytes(b"")
            with pytest.raises(
                Unavailable, match=r"\(newer files are there, but .*ca\.pem: the trust bundle"
            ):
                await client.get("k")
