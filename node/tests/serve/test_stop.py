# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real greyd that stops, or gets new certificates, while clients use it: nothing that it took fails."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from support.federation import running_federation
from support.pki import Authority

from grey.link.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.federation import RunningFederation

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.processes]

CLIENTS = 24


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFederation]:
    async with running_federation(tmp_path_factory.mktemp("one"), clusters=("aws-east",)) as running:
        yield running


class Client:
    """A keep-alive connection that asks again and again, until the node says that it closes it."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.told = False

    async def run(self, federation: RunningFederation, number: int) -> None:
        node = federation.primary
        reader, writer = await asyncio.open_connection(
            node.address, federation.api, ssl=client_context(federation.operator), server_hostname=node.host
        )
        try:
            while not self.told:
                writer.write(
                    b"PUT /v1/kv/%d HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" % number + b"x" * 100
                )
                # A connection that breaks here breaks the test: a request was sent, and no close announced.
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.answers.append(head.split(b"\r\n")[0])
                self.told = b"connection: close" in head.lower()
        finally:
            writer.transport.abort()


async def watch_events(federation: RunningFederation) -> list[bytes]:
    url = f"{federation.scheme}://{federation.primary.host}:{federation.api}/v1/watch?values=false"
    async with federation.http().get(url, timeout=None) as response:  # type: ignore[arg-type]
        return (await response.read()).splitlines()


async def test_a_stop_under_load_fails_nothing(federation: RunningFederation) -> None:
    clients = [Client() for _ in range(CLIENTS)]
    running = [asyncio.create_task(each.run(federation, number)) for number, each in enumerate(clients)]
    watching = asyncio.create_task(watch_events(federation))

    async def all_busy() -> bool:
        return all(len(each.answers) > 20 for each in clients)

    await federation.until(all_busy, 30, "all clients are at work")
    code = await asyncio.to_thread(federation.primary.stop)
    await asyncio.wait_for(asyncio.gather(*running), 20)
    events = await asyncio.wait_for(watching, 20)
    assert code == 0
    assert {line for each in clients for line in each.answers} == {b"HTTP/1.1 200 OK"}
    assert all(each.told for each in clients)
    assert events[-3] == b"event: end"
    assert b'"code":"stopping"' in events[-2]
    federation.primary.start()
    await federation.ready()


async def served_serial(federation: RunningFederation) -> int:
    node = federation.primary
    _, writer = await asyncio.open_connection(
        node.address, federation.api, ssl=client_context(federation.operator), server_hostname=node.host
    )
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return int(found, 16)


async def test_certificates_and_the_bundle_are_taken_without_a_restart(federation: RunningFederation) -> None:
    node = federation.primary
    process = node.process
    before = await served_serial(federation)
    federation.issue(node)

    async def renewed() -> bool:
        return await served_serial(federation) != before

    await federation.until(renewed, 30, "the new certificate is served")
    stranger = Authority("the next authority")
    files = stranger.issue(
        federation.folder / "next", "operator", bundle=federation.authority.pem + stranger.pem
    )

    async def admitted() -> bool:
        reader, writer = await asyncio.open_connection(
            node.address, federation.api, ssl=client_context(files), server_hostname=node.host
        )
        try:
            writer.write(b"GET /v1/kv/none HTTP/1.1\r\nHost: x\r\n\r\n")
            return b" 404 " in await asyncio.wait_for(reader.readline(), 20)
        except (ssl.SSLError, ConnectionError):
            return False
        finally:
            writer.transport.abort()

    assert not await admitted()
    bundle = node.folder / "ca.pem"
    replace(bundle, federation.authority.pem + stranger.pem)
    await federation.until(admitted, 30, "the new root is trusted")
    old = await asyncio.open_connection(
        node.address, federation.api, ssl=client_context(files), server_hostname=node.host
    )
    replace(bundle, federation.authority.pem)

    async def refused() -> bool:
        return not await admitted()

    await federation.until(refused, 30, "the root that was taken out is trusted no more")
    # Whoever came in by it goes after the next answer.
    reader, writer = old
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer
    writer.transport.abort()
    assert node.process is process
    assert process is not None
    assert process.poll() is None


def replace(path: Path, data: bytes) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(data)
    fresh.replace(path)
