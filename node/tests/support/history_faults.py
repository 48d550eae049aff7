# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of real processes: what is killed or frozen, how long, and what nobody may acknowledge meanwhile."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from support.history import Window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from support.federation import GreyNode
    from support.history_clients import Ask


class Process(Protocol):
    """A process that can be killed, started again, stopped and continued."""

    def kill(self) -> None: ...
    def start(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class Greyd:
    """The greyd of a node."""

    def __init__(self, node: GreyNode) -> None:
        self._node = node

    def kill(self) -> None:
        self._node.kill()

    def start(self) -> None:
        self._node.start()

    def freeze(self) -> None:
        self._node.freeze()

    def thaw(self) -> None:
        self._node.thaw()


@dataclass(frozen=True)
class Host:
    """A node of the primary cluster: what clients ask, its greyd, and its member of the engine, if any."""

    node: Any
    greyd: Process
    engine: Process | None = None

    @property
    def processes(self) -> list[Process]:
        return [self.greyd, *([self.engine] if self.engine else [])]


@dataclass
class World:
    """What faults strike. ``renewer`` and ``engine_leader`` say which host has that part now.

    ``store`` are the members of the federation store. ``windows`` grows with the faults.
    """

    ask: Ask
    hosts: Sequence[Host]
    store: Sequence[Process]
    detection_seconds: float
    renewer: Callable[[], Awaitable[Host]]
    engine_leader: Callable[[], Awaitable[Host]]
    windows: list[Window] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """A fault that lasts as long as its context. ``survived``: writes are taken while it lasts."""

    name: str
    strike: Callable[[World], AbstractAsyncContextManager[None]]
    survived: bool
    seconds: float
    """How long it lasts at least."""


@asynccontextmanager
async def killed(processes: Iterable[Process]) -> AsyncIterator[None]:
    """Processes are killed at once, and started again in the end."""
    listed = list(processes)
    await asyncio.gather(*(asyncio.to_thread(each.kill) for each in listed))
    try:
        yield
    finally:
        for each in reversed(listed):
            each.start()


@asynccontextmanager
async def frozen(processes: Iterable[Process]) -> AsyncIterator[None]:
    """Processes are stopped at once, and continued in the end."""
    async with AsyncExitStack() as stack:
        for each in processes:
            each.freeze()
            stack.callback(each.thaw)
        yield


class Wound(Protocol):
    """``killed`` or ``frozen``."""

    def __call__(self, processes: Iterable[Process]) -> AbstractAsyncContextManager[None]: ...


def on_renewer(name: str, wound: Wound, *, engine_too: bool, survived: bool, seconds: float) -> Fault:
    """Strike the greyd that renews the role, and with ``engine_too`` the engine beside it."""

    @asynccontextmanager
    async def strike(world: World) -> AsyncIterator[None]:
        host = await world.renewer()
        async with wound(host.processes if engine_too else [host.greyd]):
            yield

    return Fault(name, strike, survived, seconds)


def on_engine_leader(name: str, wound: Wound, *, seconds: float) -> Fault:
    """Strike the engine's leader."""

    @asynccontextmanager
    async def strike(world: World) -> AsyncIterator[None]:
        host = await world.engine_leader()
        assert host.engine is not None
        async with wound([host.engine]):
            yield

    return Fault(name, strike, survived=True, seconds=seconds)


def on_host(number: int, wound: Wound, *, seconds: float) -> Fault:
    """Take one node away, greyd and engine."""

    @asynccontextmanager
    async def strike(world: World) -> AsyncIterator[None]:
        async with wound(world.hosts[number].processes):
            yield

    return Fault(f"node {number + 1} of the cluster lost", strike, survived=True, seconds=seconds)


def all_killed(seconds: float) -> Fault:
    """Kill every process of the cluster at once."""

    @asynccontextmanager
    async def strike(world: World) -> AsyncIterator[None]:
        async with killed(process for host in world.hosts for process in host.processes):
            yield

    return Fault("every process of the cluster killed", strike, survived=False, seconds=seconds)


def engine_without_majority(seconds: float) -> Fault:
    """Freeze most members of the engine: nothing can be stored."""

    @asynccontextmanager
    async def strike(world: World) -> AsyncIterator[None]:
        engines = [host.engine for host in world.hosts if host.engine is not None]
        async with frozen(engines[: len(engines) // 2 + 1]):
            since = time.monotonic()
            yield
            world.windows.append(Window(since, time.monotonic(), "the engine had no majority"))

    return Fault("engine without a majority", strike, survived=False, seconds=seconds)


def store_without_majority(seconds: float) -> Fault:
    """Freeze most members of the federation store: after the deadline nobody may write or read strongly."""

    @asynccontextmanager
    async def strike(world: World) -> AsyncIterator[None]:
        async with frozen(_majority(world.store)):
            deadline = time.monotonic() + world.detection_seconds
            yield
            why = "the deadline had passed, and no majority of the federation store to renew it"
            world.windows.append(Window(deadline, time.monotonic(), why, reads_too=True))

    return Fault("federation store without a majority", strike, survived=False, seconds=seconds)


def thawed_after_the_deadline(seconds: float, awake_seconds: float) -> Fault:
    """Freeze every greyd beyond its deadline, and let it run again before it can renew anything."""

    @asynccontextmanager
    async def strike(world: World) -> AsyncIterator[None]:
        greyds = [host.greyd for host in world.hosts]
        async with frozen(_majority(world.store)):
            async with frozen(greyds):
                deadline = time.monotonic() + world.detection_seconds
                yield
            await asyncio.sleep(awake_seconds)
            # One answer per process may have been between its last check and the socket when it stopped.
            why = "every greyd was frozen beyond its deadline"
            late = Window(deadline, time.monotonic(), why, reads_too=True, straddlers=len(greyds))
            world.windows.append(late)

    return Fault("every greyd frozen beyond the deadline", strike, survived=False, seconds=seconds)


def _majority(members: Sequence[Process]) -> Sequence[Process]:
    return members[: len(members) // 2 + 1]
