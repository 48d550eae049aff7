# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes that do not lead know: they ask the leader of their cluster a few times a second."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from grey.federation.clocks import boottime_seconds
from grey.record.position import ORIGIN, Position

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.federation.keeper import RoleKeeper
    from grey.federation.leader import LeaderRecord
    from grey.federation.leadership import Leading
    from grey.federation.role import Timing

_log = logging.getLogger(__name__)

LONGEST_INTERVAL_SECONDS = 0.25
"""The lag known here is that of the leader and the age of its answer, so it is asked often."""


class ClusterState(msgspec.Struct, frozen=True):
    """What a node says of its cluster: the body of ``GET /v1/cluster/state``.

    ``epoch`` is the one in which it may write for ``remaining_seconds`` more, None when it may not. The lag
    is that of the data at ``position`` (``EPOCH.SEQUENCE``) on a replica; ``consistent`` is False in the
    middle of a full copy.
    """

    node: str
    leader: bool
    epoch: int | None
    remaining_seconds: float
    lag_seconds: float | None
    lag_records: int | None
    consistent: bool
    position: str


class LeaderSilent(Exception):
    """The leader gave no answer that counts; the message says why."""


class AskLeader(Protocol):
    """Asks a node of the own cluster for its state, over mutual TLS."""

    async def __call__(self, leader: LeaderRecord, *, timeout_seconds: float) -> ClusterState:
        """Return its answer; raises LeaderSilent."""
        ...


class Deputy:
    """Asks the leader while this node does not lead; a ``federation.interface.ReplicationView``.

    What it learns counts from before the question was sent: the deadline ends no later than the leader's own,
    and the lag is never less than that of the data in the engine, which only grows.
    """

    def __init__(
        self,
        leading: Leading,
        keeper: RoleKeeper,
        ask: AskLeader,
        *,
        timing: Timing,
        boottime: Callable[[], float] = boottime_seconds,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._leading = leading
        self._keeper = keeper
        self._ask = ask
        self._timing = timing
        self._boottime = boottime
        self._sleep = sleep
        self._known: ClusterState | None = None
        self._asked_at = 0.0
        self._problem: str | None = None

    async def run(self) -> None:
        """Ask until cancelled."""
        interval = min(self._timing.renew_interval, LONGEST_INTERVAL_SECONDS)
        while True:
            await self.step()
            await self._sleep(interval)

    async def step(self) -> None:
        """Ask once, unless this node leads or nobody is known to."""
        leader = self._leading.leader()
        if self._leading.leads() or leader is None:
            self._report(None)
            return
        asked_at = self._boottime()
        try:
            state = await self._ask(leader, timeout_seconds=self._timing.store_timeout)
        except LeaderSilent as fault:
            self._report(f"node {leader.node}, which leads this cluster, does not answer: {fault}")
            return
        if not state.leader:
            # It does not know yet, or no longer: its word would be as old as what it heard itself.
            return
        self._known, self._asked_at = state, asked_at
        if state.epoch is not None:
            deadline = asked_at + state.remaining_seconds - self._timing.margin
            self._keeper.grant(state.epoch, deadline)
        self._report(None)

    def lag_seconds(self) -> float | None:
        """Return how old the data in the engine is at most; None while it is unknown."""
        known = self._known
        if known is None or known.lag_seconds is None or not known.consistent:
            return None
        return known.lag_seconds + max(0.0, self._boottime() - self._asked_at)

    def lag_records(self) -> int | None:
        """Return how many records the primary had that were not in the engine, by the leader's last word."""
        return None if self._known is None else self._known.lag_records

    def consistent(self) -> bool:
        """Whether the leader said last that no full copy is under way."""
        return self._known is not None and self._known.consistent

    def position(self) -> Position:
        """Return the position that the lag speaks of."""
        return ORIGIN if self._known is None else Position.parse(self._known.position)

    def problem(self) -> str | None:
        """Return why the leader's word is not known, None when it is."""
        return self._problem

    def _report(self, problem: str | None) -> None:
        if problem is not None and self._problem is None:
            _log.warning("%s", problem)
        self._problem = problem
