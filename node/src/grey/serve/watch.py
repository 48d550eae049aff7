# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches: changes of the keys with a prefix, as server-sent events (WHATWG HTML, section 9.2).

A watch reads the store's own log, and reads on only when its client has taken what was sent: a slow client
costs no memory, and is ended when it takes nothing any more.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
from aiohttp import web

from grey.data.errors import Copied, DataError, Diverged
from grey.serve import documents, errors
from grey.serve.protocol import when_lost
from grey.store.interface import Compacted, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from grey.data.feed import Batch, Feed
    from grey.record import Position

log = logging.getLogger("grey.serve")

HEARTBEAT_SECONDS = 5.0
"""At least this often a client hears where its watch is."""
SLOW_SECONDS = 10.0
"""A client that takes nothing for this long is ended."""
FAREWELL_SECONDS = 5.0
"""How long the last words may take."""
PROMPT_SECONDS = 0.5
"""A watch that cannot begin is refused with a status when that shows within this time, else by an event."""

EVENT_STREAM = "text/event-stream"
_BLOCK_BYTES = 64 * 1024


class Wanted(NamedTuple):
    """What a client asks to watch; ``after`` None: from now on."""

    prefix: bytes
    after: Position | None
    values: bool


class Watches:
    """All watches of a node."""

    def __init__(
        self,
        feed: Feed,
        *,
        most: int,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        """``most`` watches run at once."""
        self._feed = feed
        self._most = most
        self._heartbeat = heartbeat_seconds
        self._slow = slow_seconds
        self._running: set[_Watch] = set()
        self._ended: documents.Ended | None = None

    def __len__(self) -> int:
        return len(self._running)

    def end(self, code: str, message: str) -> None:
        """End all watches with a last event, and refuse those that still come."""
        self._ended = documents.Ended(code, message)
        for each in tuple(self._running):
            each.end(self._ended)

    async def answer(
        self, request: web.BaseRequest, wanted: Wanted, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Serve one watch to its end; ``headers`` go out with the answer.

        Raises ApiError, and what ``Feed.watch`` raises, when it cannot begin.
        """
        if self._ended is not None:
            raise errors.unavailable(self._ended.message)
        if len(self._running) >= self._most:
            raise errors.overloaded(f"{self._most} watches run already")
        response = web.StreamResponse(
            headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store", **headers}
        )
        response.force_close()
        each = _Watch(request, response, wanted, self._heartbeat, self._slow)
        self._running.add(each)
        try:
            batches = self._feed.watch(wanted.prefix, wanted.after)
            async with aclosing(cast("AsyncGenerator[Batch, None]", batches)) as source:
                await each.run(source)
        finally:
            self._running.discard(each)
        return response


class _Watch:
    def __init__(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        wanted: Wanted,
        heartbeat_seconds: float,
        slow_seconds: float,
    ) -> None:
        self._request = request
        self._response = response
        self._wanted = wanted
        self._heartbeat = heartbeat_seconds
        self._slow = slow_seconds
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[documents.Ended | None] = self._loop.create_future()
        self._sending: asyncio.Timeout | None = None
        self._news: asyncio.Future[Batch] = self._loop.create_future()
        """What the source is asked for at the moment: it cannot be closed meanwhile."""
        self._position = wanted.after

    def end(self, why: documents.Ended | None) -> None:
        """End soon with a last event; with none (None) when the client is gone."""
        if not self._over.done():
            self._over.set_result(why)
        if self._sending is not None and not self._sending.expired():
            self._sending.reschedule(self._loop.time())

    async def run(self, source: AsyncGenerator[Batch, None]) -> None:
        """Send what the source gives until one side has enough; raises what forbids to begin."""
        when_lost(self._request, lambda: self.end(None))
        self._news = asyncio.ensure_future(anext(source))
        try:
            await self._wait(PROMPT_SECONDS)
            if self._news.done() and self._news.exception() is not None:
                self._news.result()
            with suppress(ConnectionError):
                await self._response.prepare(self._request)
                last: documents.Ended | None
                try:
                    while not self._over.done():
                        await self._step(source)
                    last = self._over.result()
                except Exception as error:  # noqa: BLE001 - the status is out: only the last event can tell
                    last = _last_event(error)
                if last is not None:
                    await self._say(last)
        finally:
            self._news.cancel()
            await asyncio.gather(self._news, return_exceptions=True)

    async def _step(self, source: AsyncGenerator[Batch, None]) -> None:
        """Wait for news and send them, or say after a while that there are none."""
        # The first thing that a client hears that begins "now" is where that is.
        wait = None if self._position is None else self._heartbeat
        due = None if wait is None else self._loop.time() + wait
        while True:
            left = None if due is None else max(0.0, due - self._loop.time())
            await self._wait(left)
            if self._over.done():
                return
            if self._news.done():
                batch = self._news.result()
                self._news = asyncio.ensure_future(anext(source))
                self._position = batch.position
                if batch.envelopes:
                    for block in self._blocks(batch):
                        if not self._over.done():
                            await self._send(block)
                    return
            if due is None or self._loop.time() >= due:
                data = msgspec.json.encode(documents.Progressed(str(self._position)))
                await self._send(_event("progress", data, self._position))
                return

    async def _wait(self, seconds: float | None) -> None:
        """Wait for news or for the end, but not longer than a time (None: for ever)."""
        either: set[asyncio.Future[Any]] = {self._news, self._over}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    def _blocks(self, batch: Batch) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for envelope in batch.envelopes:
            data = msgspec.json.encode(documents.changed(envelope, values=self._wanted.values))
            parts.append(_event("delete" if envelope.deleted else "put", data, envelope.position))
            size += len(parts[-1])
            if size >= _BLOCK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        if parts:
            yield b"".join(parts)

    async def _send(self, data: bytes) -> None:
        """Send, waiting for a slow client as long as it may be slow; returns early when the watch ends."""
        try:
            async with asyncio.timeout(self._slow) as self._sending:
                await self._response.write(data)
        except TimeoutError:
            self._sending = None
            why = f"nothing was taken for {self._slow:g} s: watch again after the last id"
            self.end(documents.Ended("slow_consumer", why))
        finally:
            self._sending = None

    async def _say(self, last: documents.Ended) -> None:
        """Send the last event and close; who does not take even that is cut off."""
        transport = self._request.transport
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._response.write(_event("end", msgspec.json.encode(last), None))
                await self._response.write_eof()
        except TimeoutError:
            if transport is not None:
                transport.abort()


def _event(name: str, data: bytes, position: Position | None) -> bytes:
    where = b"" if position is None else b"id: %s\n" % str(position).encode("ascii")
    return b"event: %s\n%sdata: %s\n\n" % (name.encode("ascii"), where, data)


def _last_event(error: Exception) -> documents.Ended | None:
    """Say to the client why its watch broke off; None when the client itself is gone."""
    match error:
        case ConnectionError():
            return None
        case Copied():
            return documents.Ended("copied", str(error))
        case Compacted():
            return documents.Ended(
                "compacted", "the changes that follow are no longer all kept here: list the keys anew"
            )
        case Diverged():
            return documents.Ended("diverged", str(error))
        case StoreError() | DataError():
            return documents.Ended("unavailable", str(error))
        case _:
            incident = secrets.token_hex(6)
            log.error("watch failed incident=%s", incident, exc_info=error)
            return documents.Ended("internal", f"look for {incident} in the node's log and report it")
