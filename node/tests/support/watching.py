# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's end of a watch, and a feed that a test writes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from support.serving import Serving

    from grey.data.feed import Batch
    from grey.record import Position


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    id: str | None
    data: Any


class Watcher:
    """The client's end of a watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Event | None:
        """Return the next event, None at the end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(20):
            while line := (await self.response.content.readline()).decode().rstrip("\n"):
                name, _, value = line.partition(": ")
                fields[name] = value
        return Event(fields["event"], fields.get("id"), json.loads(fields["data"])) if fields else None


@asynccontextmanager
async def watching(node: Serving, query: str = "", **headers: str) -> AsyncIterator[Watcher]:
    url = f"http://127.0.0.1:{node.port}/v1/watch{query}"
    async with node.http.get(url, headers=headers) as response:
        assert response.status == 200, await response.read()
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Watcher(response)


class ScriptedFeed:
    """A feed that tells what a test says, then fails."""

    def __init__(self, *steps: Batch | Exception | asyncio.Event) -> None:
        self.steps = steps

    async def watch(self, _: bytes, __: Position | None) -> AsyncIterator[Batch]:
        for step in self.steps:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                raise step
            else:
                yield step
