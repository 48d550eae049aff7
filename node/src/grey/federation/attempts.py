# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One question to several members: the next is asked too when the last one fails or takes long."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from grey.link.etcd_fault import MemberFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

T = TypeVar("T")


class Named(Protocol):
    """A member: whatever has an endpoint."""

    @property
    def endpoint(self) -> str:
        """Return ``host:port``."""
        ...


M = TypeVar("M", bound=Named)


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """What one member said; ``index`` is its place in the list of members."""

    index: int
    value: T


class Attempts(Generic[M, T]):
    """The attempts to get one question answered within ``timeout`` seconds. An asynchronous context manager.

    Members are asked in a circle from ``first`` on. The next attempt starts when one failed, or when nothing
    came back for ``patience`` seconds; earlier ones go on meanwhile. Leaving the context cancels what runs.
    ``faults`` holds the last fault of each member by endpoint; ``uncertain`` is set when an attempt failed
    that may have been carried out.
    """

    def __init__(
        self,
        members: Sequence[M],
        call: Callable[[M, float], Awaitable[T]],
        *,
        first: int,
        timeout: float,
        patience: float,
    ) -> None:
        """``call`` asks one member within the seconds given; it raises MemberFault."""
        self._members = members
        self._call = call
        self._next = first
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout
        self._patience = patience
        self._start_at = self._loop.time()
        self._failed_in_turn = 0
        self._running: dict[asyncio.Task[T], int] = {}
        self._answers: deque[Answer[T]] = deque()
        self.faults: dict[str, str] = {}
        self.uncertain = False

    async def __aenter__(self) -> Attempts[M, T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    @property
    def running(self) -> bool:
        """Whether attempts are under way whose outcome is open."""
        return bool(self._running)

    async def answer(self, *, start_more: bool = True) -> Answer[T] | None:
        """Return the next answer, None when the time is over (or nothing runs and no more may start)."""
        while not self._answers:
            now = self._loop.time()
            if now >= self._deadline:
                self._note_silence()
                return None
            if start_more and now >= self._start_at:
                self._start(now)
            if not self._running and not start_more:
                return None
            until = min(self._deadline, self._start_at) if start_more else self._deadline
            await self._collect(until - now)
        return self._answers.popleft()

    def _start(self, now: float) -> None:
        index = self._next
        self._next = (index + 1) % len(self._members)
        self._start_at = now + self._patience
        task = asyncio.ensure_future(self._call(self._members[index], self._deadline - now))
        self._running[task] = index

    async def _collect(self, seconds: float) -> None:
        if not self._running:
            await asyncio.sleep(seconds)
            return
        done, _ = await asyncio.wait(self._running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            index = self._running.pop(task)
            try:
                self._answers.append(Answer(index, task.result()))
            except MemberFault as fault:
                self.faults[self._members[index].endpoint] = str(fault)
                self.uncertain = self.uncertain or fault.carried_out is None
                self._failed_in_turn += 1
                if self._failed_in_turn % len(self._members):  # a full circle of faults waits before the next
                    self._start_at = self._loop.time()

    def _note_silence(self) -> None:
        for index in self._running.values():
            self.faults.setdefault(self._members[index].endpoint, "no answer")
