# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the leader's record in the cluster's engine, and says at any moment if this node leads."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from grey.data import keyspace
from grey.federation.clocks import boottime_seconds
from grey.federation.leader import Lead, LeaderRecord, LeaderView, decide_leader
from grey.federation.role import Standstill
from grey.store.interface import Compare, CompareFailed, StoreDamaged, StoreError, Write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.federation.role import Timing
    from grey.store.interface import Item, Store

_log = logging.getLogger(__name__)

_RESIGN_TRIES = 3


class Leading(Protocol):
    """Who leads this node's cluster, as this node knows it. Answers at once."""

    def leads(self) -> bool:
        """Whether this node leads at this moment."""
        ...

    def leader(self) -> LeaderRecord | None:
        """Return the newest record seen; None before the first, and where there is only one node."""
        ...

    def problem(self) -> str | None:
        """Return why the leader is not known, None when it is."""
        ...

    async def run(self) -> None:
        """Take part until cancelled."""
        ...

    async def resign(self) -> None:
        """Let another node lead at once; for a node that stops. Never raises StoreError."""
        ...


class SoleLeader:
    """The only node of its cluster leads."""

    def leads(self) -> bool:
        """Return True."""
        return True

    def leader(self) -> LeaderRecord | None:
        """Return None: nobody has to be asked."""
        return None

    def problem(self) -> str | None:
        """Return None."""
        return None

    async def run(self) -> None:
        """Do nothing until cancelled."""
        await asyncio.get_running_loop().create_future()

    async def resign(self) -> None:
        """Do nothing: nobody takes over."""


class Leadership:
    """Implements ``Leading`` by election among the nodes that share an engine.

    A candidate takes over when on its own clock it saw no new counter for a third of the detection time. A
    leader that could not renew its counter for as long stops leading by itself.
    """

    def __init__(
        self,
        store: Store,
        node: str,
        control: str,
        *,
        timing: Timing,
        fit: Callable[[], bool],
        boottime: Callable[[], float] = boottime_seconds,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``control`` is ``host:port`` of this node's control plane, ``fit`` says if it can keep the role."""
        self._store = store
        self._node = node
        self._control = control
        self._timing = timing
        self._fit = fit
        self._boottime = boottime
        self._sleep = sleep
        self._standstill: Standstill[LeaderRecord] = Standstill(timing.inherit_after)
        self._record: LeaderRecord | None = None
        self._until: float | None = None
        self._resigned = False
        self._problem: str | None = "the engine was not asked yet who leads this cluster"

    def leads(self) -> bool:
        """Whether this node leads: its counter was written less than a third of the detection time ago."""
        return self._until is not None and self._boottime() < self._until

    def leader(self) -> LeaderRecord | None:
        """Return the newest record seen."""
        return self._record

    def problem(self) -> str | None:
        """Return why the engine does not say who leads, None when it does."""
        return self._problem

    async def run(self) -> None:
        """Take part until cancelled. Raises StoreDamaged."""
        while True:
            await self.step()
            await self._sleep(self._timing.renew_interval)

    async def step(self) -> None:
        """Read the record, decide and act once."""
        try:
            async with asyncio.timeout(self._timing.store_timeout):
                await self._step()
        except StoreDamaged:
            raise
        except CompareFailed:
            # Another node wrote it first; the next look shows who.
            self._report(None)
        except (StoreError, TimeoutError) as fault:
            reason = str(fault) or f"no answer within {self._timing.store_timeout:.1f} s"
            self._report(f"the engine does not say who leads this cluster: {reason}")
        else:
            self._report(None)

    async def resign(self) -> None:
        """Let another node lead at once, if this one does. What fails is not repeated: others notice soon."""
        self._resigned = True
        if not self.leads():
            return
        self._until = None
        try:
            async with asyncio.timeout(self._timing.store_timeout):
                for _ in range(_RESIGN_TRIES):
                    item = await self._store.get(keyspace.LEADER)
                    found = _decode(item)
                    if item is None or found is None or found.node != self._node:
                        return
                    given_up = LeaderRecord(self._node, self._control, found.counter + 1, fit=False)
                    try:
                        await self._swap(given_up, item.value)
                    except CompareFailed:
                        continue
                    return
        except (StoreError, TimeoutError) as fault:
            _log.info("leading could not be handed over, another node takes it in a moment: %s", fault)

    async def _step(self) -> None:
        sent_at = self._boottime()
        item = await self._store.get(keyspace.LEADER)
        found = _decode(item)
        still = self._standstill.observe(found, sent_at=sent_at, received_at=self._boottime())
        self._take_note(found)
        if self._resigned:
            return
        view = LeaderView(self._node, self._control, self._fit(), found, still)
        action = decide_leader(view, takeover_seconds=self._timing.inherit_after)
        if not isinstance(action, Lead):
            return
        written_at = self._boottime()
        await self._swap(action.record, None if item is None else item.value)
        if action.takeover:
            _log.info("this node leads its cluster now (before: %s)", found.node if found else "nobody")
        self._record = action.record
        self._until = None if self._resigned else written_at + self._timing.inherit_after

    async def _swap(self, record: LeaderRecord, expected: bytes | None) -> None:
        await self._store.commit(
            [Compare(keyspace.LEADER, expected)], [Write(keyspace.LEADER, msgspec.json.encode(record))]
        )

    def _take_note(self, found: LeaderRecord | None) -> None:
        if found is not None and found.node != self._node:
            if self._until is not None:
                _log.info("node %s leads this cluster now", found.node)
            self._until = None
        self._record = found

    def _report(self, problem: str | None) -> None:
        if problem != self._problem and problem is not None:
            _log.warning("%s", problem)
        self._problem = problem


def _decode(item: Item | None) -> LeaderRecord | None:
    """Read the record; one that cannot be read counts as none, since any node may write a new one."""
    if item is None:
        return None
    try:
        return msgspec.json.decode(item.value, type=LeaderRecord)
    except msgspec.DecodeError as fault:
        _log.warning("the leader's record %r cannot be read and is replaced: %s", item.value, fault)
        return None
