# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the changes of keys, over broken connections and from one cluster to another."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import msgspec

from grey.client import answers, requests
from grey.client.call import Caller, Plan
from grey.client.errors import BadAnswer, Compacted, Diverged, GreyError
from grey.client.model import ClusterEndpoint
from grey.client.sse import Message, Parser
from grey.client.transport import SendFailed
from grey.record.position import Position

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from types import TracebackType

    from grey.client.addresses import Target
    from grey.client.model import Event
    from grey.client.transport import Stream

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_LONG_SECONDS = 5.0
"""A connection that lived so long is replaced at once, one that did not after a pause."""


class WatchPlan(msgspec.Struct, frozen=True):
    """What a watch wants; ``timeout_seconds`` bounds the time without a connection."""

    prefix: bytes
    values: bool
    timeout_seconds: float
    silence_seconds: float
    only: ClusterEndpoint | None


class Watch:
    """The changes of the keys with a prefix, each once, in the order of their positions.

    Iterate over it. When the connection breaks, falls silent or is ended by the node, it goes on behind the
    last position with the same or another cluster. ``async with`` connects before the body runs, so that
    nothing written there is missed. It never ends by itself; close it when you stop before an error does.
    """

    def __init__(
        self,
        caller: Caller,
        plan: WatchPlan,
        after: Position | None,
        *,
        dice: random.Random,
        shun: Callable[[Target], None],
    ) -> None:
        """``shun`` is told of a node that should not be asked first for a while."""
        self._caller = caller
        self._plan = plan
        self._dice = dice
        self._shun = shun
        self._position = after
        self._cluster: str | None = None
        self._target: Target | None = None
        self._stream: Stream | None = None
        self._parser = Parser()
        self._ready: deque[Event | Position] = deque()
        self._final: GreyError | None = None
        self._opened = 0.0
        self._failures = 0
        self._closed = False

    @property
    def position(self) -> Position | None:
        """How far the iteration has come: ``after`` of a watch that goes on from here.

        None before the first connection of a watch without ``after``. It also grows while nothing matches.
        """
        return self._position

    @property
    def cluster(self) -> str | None:
        """The cluster that is listened to; None while there is no connection."""
        return self._cluster

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Wait for the next change.

        Raises Compacted or Diverged when changes may have been missed (list anew, then watch from the
        listing's position), else what an eventual read raises when no cluster serves it in time.
        """
        while not self._closed:
            while self._ready:
                event = self._ready.popleft()
                if isinstance(event, Position):
                    self._reach(event)
                # An event that was told before, by this cluster or another one, is not told again.
                elif self._position is None or event.position > self._position:
                    self._position = event.position
                    return event
            final, self._final = self._final, None
            if final is not None:
                raise final
            await self._advance()
        raise StopAsyncIteration

    async def connect(self) -> None:
        """Connect, and learn the position from which on nothing is missed."""
        while not self._closed:
            if self._final is not None or (
                self._stream is not None and (self._position is not None or self._ready)
            ):
                break
            await self._advance()
        while self._ready and isinstance(at := self._ready[0], Position):
            self._reach(at)
            self._ready.popleft()

    async def aclose(self) -> None:
        """End it; an iteration that waits ends too."""
        self._closed = True
        self._drop()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        stream = self._stream
        if stream is not None:
            # After the end of the event loop there is nothing left to close.
            with suppress(RuntimeError):
                stream.close()

    async def _advance(self) -> None:
        """Open a stream if there is none, else take in what it tells."""
        if self._stream is None:
            await self._open()
            return
        try:
            piece = await self._stream.read(self._plan.silence_seconds)
            for message in self._parser.feed(piece):
                self._take(message)
        except SendFailed:
            self._lost(shun=not self._closed)
        except BadAnswer:
            self._lost(shun=True)
            raise
        else:
            if not piece:
                self._lost(shun=False)

    async def _open(self) -> None:
        if self._failures:
            longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 10))
            await asyncio.sleep(longest * self._dice.uniform(0.5, 1.0))
        plan = self._plan
        reply = await self._caller.call(
            Plan(
                requests.watch(plan.prefix, after=self._position, values=plan.values),
                what="watch",
                to_primary=False,
                timeout_seconds=plan.timeout_seconds,
                only=plan.only,
                stream=True,
            )
        )
        stream = reply.answer.stream
        if stream is None:
            raise answers.problem(reply.answer).exception(reply.cluster)
        kind = reply.answer.headers.get("Content-Type", "nothing")
        if self._closed or not kind.startswith("text/event-stream"):
            stream.close()
        if self._closed:
            return
        if not kind.startswith("text/event-stream"):
            raise BadAnswer(f"wanted text/event-stream from {reply.cluster}, found {kind}")
        self._stream, self._parser = stream, Parser()
        self._cluster, self._target = reply.cluster, reply.target
        self._opened = asyncio.get_running_loop().time()

    def _take(self, message: Message) -> None:
        cluster = self._cluster
        if cluster is None:
            return
        if message.event == "put":
            self._ready.append(answers.change(cluster, "put", message.data))
        elif message.event == "delete":
            self._ready.append(answers.change(cluster, "delete", message.data))
        elif message.event == "progress":
            self._ready.append(answers.position(message.id))
        elif message.event == "end":
            why = answers.ended(cluster, message.data)
            self._lost(shun=why.detail["code"] != "slow_consumer")
            # For any other reason the node that is asked next says what became of the position.
            if isinstance(why, Compacted | Diverged):
                self._final = why

    def _reach(self, at: Position) -> None:
        if self._position is None or at > self._position:
            self._position = at

    def _lost(self, *, shun: bool) -> None:
        lived_seconds = asyncio.get_running_loop().time() - self._opened
        self._failures = 0 if lived_seconds > _LONG_SECONDS else self._failures + 1
        if shun and self._target is not None:
            self._shun(self._target)
        self._drop()

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        self._cluster = None
        if stream is not None:
            stream.close()
