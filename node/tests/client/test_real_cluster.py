# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client and a cluster of three real nodes on one engine: the loss of one node is not the client's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
from client.running import ctl_file, real_federation
from support.federation import Shared

from grey.client import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from support.federation import GreyNode, RunningFederation

    from grey.client import Watch

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFederation]:
    folder = tmp_path_factory.mktemp("federation")
    with real_federation(folder, clusters=["aws-east"], shared={"aws-east": Shared(3, 1)}) as federation:
        yield federation


@pytest.fixture
async def client(running: RunningFederation) -> AsyncIterator[AsyncClient]:
    path = ctl_file(running)
    async with AsyncClient.from_config(path, timeout_seconds=60, silence_seconds=8) as client:
        yield client


class Load:
    """Writes, reads and a watch of one client, until it is told to stop."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.written = 0
        self.told: list[bytes | None] = []
        self.stopping = False

    async def write(self) -> None:
        while not self.stopping:
            await self.client.put("load", b"%d" % self.written)
            found = await self.client.get("load")
            assert found is not None
            self.written += 1

    async def listen(self, watch: Watch) -> None:
        async for event in watch:
            self.told.append(event.value)

    async def more(self, count: int) -> None:
        """Wait until so many more writes are done and told."""
        wanted = self.written + count
        while self.written < wanted or len(self.told) < wanted:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.02)

    async def heard(self) -> None:
        """Wait until everything that was written is told: the watch may be far behind a fast writer."""
        while len(self.told) < self.written:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.02)


async def under_load(client: AsyncClient, disturb: AsyncIterator[None]) -> Load:
    """Run the steps of a disturbance, twenty writes after each; every call succeeds, every write is told."""
    load = Load(client)
    async with client.watch("load") as watch:
        listening = asyncio.create_task(load.listen(watch))
        writing = asyncio.create_task(load.write())
        try:
            async with asyncio.timeout(200):
                await load.more(20)
                async for _ in disturb:
                    more = asyncio.create_task(load.more(20))
                    await asyncio.wait([more, writing, listening], return_when=asyncio.FIRST_COMPLETED)
                    assert more.done(), "a call failed"
                load.stopping = True
                await writing
                await load.heard()
        finally:
            load.stopping = True
            await watch.aclose()
            await asyncio.gather(writing, listening)
    return load


def check(load: Load) -> None:
    told = [int(value) for value in load.told if value is not None]
    assert told == list(range(load.written))


async def test_each_node_is_killed_in_turn(client: AsyncClient, running: RunningFederation) -> None:
    async def kill_each() -> AsyncIterator[None]:
        for node in running.clusters["aws-east"]:
            node.kill()
            yield
            node.start()
            await until_it_serves(running, node)

    check(await under_load(client, kill_each()))


async def test_each_node_is_frozen_in_turn(client: AsyncClient, running: RunningFederation) -> None:
    async def freeze_each() -> AsyncIterator[None]:
        for node in running.clusters["aws-east"]:
            node.freeze()
            try:
                yield
            finally:
                node.thaw()
            await until_it_serves(running, node)

    check(await under_load(client, freeze_each()))


async def test_a_rolling_restart(client: AsyncClient, running: RunningFederation) -> None:
    async def restart_each() -> AsyncIterator[None]:
        for node in running.clusters["aws-east"]:
            assert await asyncio.to_thread(node.stop, 60) == 0
            node.start()
            yield
            await until_it_serves(running, node)

    check(await under_load(client, restart_each()))


async def until_it_serves(running: RunningFederation, node: GreyNode) -> None:
    async with aiohttp.ClientSession() as http:

        async def serves() -> bool:
            async with http.get(f"http://{node.address}:{running.metrics}/primary") as answer:
                return answer.status == 200

        await running.until(serves, 60, f"{node.name} /primary")
