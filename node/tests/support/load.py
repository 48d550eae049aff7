# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers against a running federation that remember what they were promised."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from support.federation import GreyNode, RunningFederation

REQUEST_SECONDS = 10.0
PAUSE_SECONDS = 0.02


class Load:
    """Writers that put distinct keys as fast as they are answered, and remember what was acknowledged."""

    def __init__(
        self,
        federation: RunningFederation,
        prefix: str,
        nodes: Sequence[GreyNode] | None = None,
        *,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        """Each writer goes from one of ``nodes`` (None: the primary) to the next when it is not answered."""
        self._federation = federation
        self._numbers = itertools.count()
        self._prefix = prefix
        self._nodes = list(nodes or [federation.primary])
        self._timeout = aiohttp.ClientTimeout(total=request_seconds, sock_connect=3)
        self._stopped = False
        self.acknowledged: dict[bytes, float] = {}
        """Keys, and when (CLOCK_BOOTTIME) their acknowledgement was seen here."""
        self.refused: list[str] = []
        self.refused_by: set[str] = set()
        self.sent: dict[bytes, float] = {}

    async def run(self, writers: int = 8) -> None:
        await asyncio.gather(*(self._write(number) for number in range(writers)))

    async def _write(self, turn: int) -> None:
        while not self._stopped:
            node = self._nodes[turn % len(self._nodes)]
            key = f"{self._prefix}/{next(self._numbers):06}".encode()
            self.sent[key] = boottime()
            try:
                answer = await self._federation.kv("PUT", node, key, data=key, timeout=self._timeout)
            except (aiohttp.ClientError, OSError, TimeoutError):
                turn += 1
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if answer.status == 200:
                self.acknowledged[key] = boottime()
            else:
                turn += 1
                self.refused.append(answer.code)
                self.refused_by.add(node.name)
                await asyncio.sleep(PAUSE_SECONDS)

    async def acknowledges(self, more: int, within: float = 15) -> None:
        """Wait until this many more writes were acknowledged."""
        wanted = len(self.acknowledged) + more

        async def enough() -> bool:
            return len(self.acknowledged) >= wanted

        await self._federation.until(enough, within, f"{more} more acknowledged writes")

    def longest_gap(self) -> float:
        """Return the longest time in seconds in which nothing was acknowledged."""
        moments = sorted(self.acknowledged.values())
        return max((after - before for before, after in itertools.pairwise(moments)), default=0.0)

    def stop(self) -> None:
        self._stopped = True


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def all_keys(federation: RunningFederation, node: GreyNode, prefix: str) -> set[bytes]:
    found: set[bytes] = set()
    after = ""
    while True:
        answer = await federation.api_request(
            "GET", node, f"/v1/kv?prefix={prefix}/&limit=1000&values=false{after}"
        )
        if answer.status != 200:
            raise ConnectionError(f"{node.name} answered {answer.status}: {answer.body!r}")
        page = answer.json
        found |= {item["key"].encode() for item in page["items"]}
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


async def holds(federation: RunningFederation, node: GreyNode, keys: set[bytes], prefix: str) -> None:
    """Wait until a node shows all of the keys."""

    async def complete() -> bool:
        return keys <= await all_keys(federation, node, prefix)

    await federation.until(complete, 20, f"all acknowledged writes on {node.name}")


@asynccontextmanager
async def load(
    federation: RunningFederation, cluster: str, prefix: str, *, writers: int
) -> AsyncIterator[Load]:
    """Write to all nodes of a cluster meanwhile; in the end every node left shows what was acknowledged."""
    writing = Load(federation, prefix, federation.clusters[cluster], request_seconds=3.0)
    running = asyncio.create_task(writing.run(writers))
    try:
        await writing.acknowledges(50)
        yield writing
        await writing.acknowledges(50)
    finally:
        writing.stop()
        await running
    await federation.ready(30)
    for node in federation.all_nodes():
        await holds(federation, node, set(writing.acknowledged), prefix)
