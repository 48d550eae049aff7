# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the role: renews it while this cluster holds it, and says at any moment if this node may write."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from grey.data.errors import DataError
from grey.data.fence import DeadlinePassed, NotPrimary, WriteRefused
from grey.federation import records
from grey.federation.clocks import boottime_seconds
from grey.federation.interface import FederationStore, FederationStoreError, MemberReport, RoleRecord
from grey.federation.role import (
    Action,
    Bootstrap,
    Claim,
    Lease,
    Leave,
    Refuse,
    Renew,
    StepDown,
    Timing,
    View,
    Wait,
    decide,
)
from grey.record.position import ORIGIN, Position
from grey.store.interface import StoreDamaged, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.config.model import Federation

_log = logging.getLogger(__name__)

_ACTIONS_PER_STEP = 3
"""Bootstrap, claim and renew follow one another at once."""


class LocalHistory(Protocol):
    """What this node's own data says of its past. ``grey.data.history.History`` is one.

    Methods raise grey.store.interface.StoreError or grey.data.errors.DataError.
    """

    async def epoch(self) -> int | None:
        """Return the newest epoch that this cluster claimed, None when it never claimed one."""
        ...

    async def position(self) -> Position:
        """Return the position of the newest record held here, ORIGIN when there is none."""
        ...

    async def restored(self) -> int | None:
        """Return the epoch of the snapshot that the data was restored from, None when it was not."""
        ...

    async def claim(self, epoch: int) -> None:
        """Make ``epoch`` the one in which this cluster may write, durably. Idempotent; never goes back."""
        ...


class RoleKeeper:
    """The role as this node knows it; implements ``grey.federation.interface.RoleView``.

    The node that leads its cluster renews. Only a renewal that the store confirmed to this very process moves
    its deadline, and it counts from before its sending. A renewal whose answer is lost is looked up by the
    next read and sent anew. The other nodes read and judge, and write until the deadline that the leader
    granted them.
    """

    def __init__(
        self,
        federation: Federation,
        cluster: str,
        node: str,
        store: FederationStore,
        history: LocalHistory,
        *,
        leads: Callable[[], bool] = lambda: True,
        boottime: Callable[[], float] = boottime_seconds,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``leads`` says whether this node leads its cluster; ``boottime`` returns seconds."""
        self._timing = Timing.of(federation.failover.detection_time_seconds)
        self._bootstrap = next((each.name for each in federation.clusters if each.role == "primary"), None)
        self._promotable = {each.name for each in federation.clusters if not each.read_only}
        self._cluster = cluster
        self._node = node
        self._store = store
        self._history = history
        self._leads = leads
        self._boottime = boottime
        self._sleep = sleep
        self._read_at = boottime()
        self._holder: RoleRecord | None = None
        self._sent: RoleRecord | None = None
        self._lease: Lease | None = None
        self._problem: str | None = "the federation store was not asked yet"
        self._refused = False

    def epoch(self) -> int:
        """Return the epoch in which this node may write now; raises NotPrimary or DeadlinePassed."""
        lease = self._lease
        if lease is None:
            holder = self._holder
            if holder is not None and holder.cluster == self._cluster:
                raise DeadlinePassed
            raise NotPrimary(holder.cluster if holder else None)
        if self._boottime() >= lease.deadline:
            raise DeadlinePassed
        return lease.epoch

    def holder(self) -> RoleRecord | None:
        """Return the newest role record seen, None before the first one."""
        return self._holder

    def is_primary(self) -> bool:
        """Whether this node may write at this moment."""
        try:
            self.epoch()
        except WriteRefused:
            return False
        return True

    def remaining_seconds(self) -> float:
        """Return for how long this node may still write without another renewal; 0.0 when it may not."""
        lease = self._lease
        return 0.0 if lease is None else max(0.0, lease.deadline - self._boottime())

    def problem(self) -> str | None:
        """Return why the role is not as it should be, None when all is well."""
        return self._problem

    def refused(self) -> bool:
        """Whether store and data contradict each other, so that this node must not serve."""
        return self._refused

    def reaches_store(self) -> bool:
        """Whether the record could be read within the time in which another node would take over."""
        return self._boottime() - self._read_at < self._timing.inherit_after

    def grant(self, epoch: int, deadline: float) -> None:
        """Take the leader's word that this cluster may write in ``epoch`` before ``deadline``.

        It never shortens what was granted before, which rests on an older renewal of the same epoch. Nothing
        is taken that contradicts what was read here.
        """
        holder, lease = self._holder, self._lease
        if self._refused or holder is None or (holder.cluster, holder.epoch) != (self._cluster, epoch):
            return
        if lease is None or deadline > lease.deadline:
            self._lease = Lease(epoch, deadline)

    async def run(self) -> None:
        """Keep the role until cancelled. Raises StoreDamaged when the local data cannot be read at all."""
        while True:
            await self.step()
            await self._sleep(self._timing.renew_interval)

    async def step(self) -> None:
        """Read the record, decide and act once."""
        try:
            await self._step()
        except StoreDamaged:
            raise
        except (FederationStoreError, records.DamagedRecord) as fault:
            self._report(str(fault))
        except (StoreError, DataError) as fault:
            self._report(f"the local data cannot confirm the role: {fault}")

    async def _step(self) -> None:
        for _ in range(_ACTIONS_PER_STEP):
            action = decide(await self._look())
            await self._act(action)
            if not isinstance(action, Bootstrap | Claim):
                return

    async def _look(self) -> View:
        # The data is asked first: its epochs come from the record, so a later read of that is never older.
        restored = await self._history.restored()
        epoch, position = await self._local()
        versioned = await self._store.get(records.ROLE)
        self._read_at = self._boottime()
        record = records.decode_role(versioned.value) if versioned else None
        self._take_note(record)
        followed = await self._followed(record)
        if record is not None and self._overtaken(record, followed, epoch, position):
            # Another node of this cluster may have gone on since, and the record shows it already.
            epoch, position = await self._local()
            if max(epoch or 0, position.epoch) > record.epoch:
                return await self._look()
        return View(
            cluster=self._cluster,
            node=self._node,
            bootstrap=self._bootstrap,
            record=record,
            version=versioned.version if versioned else None,
            local_epoch=epoch,
            local_position=position,
            leads=self._leads(),
            elsewhere=await self._elsewhere() if record is None and epoch is None else None,
            followed=followed,
            restored=restored or 0,
        )

    async def _local(self) -> tuple[int | None, Position]:
        return await self._history.epoch(), await self._history.position()

    def _overtaken(
        self, record: RoleRecord, followed: Position, epoch: int | None, position: Position
    ) -> bool:
        """Whether the record speaks of this cluster's data as newer than it was read to be."""
        if record.cluster != self._cluster or max(epoch or 0, position.epoch) > record.epoch:
            return False  # the second: the record was read later, so no further look makes it newer
        return (epoch or 0) < record.epoch or position < max(record.position, followed)

    async def _elsewhere(self) -> str | None:
        """Return the name of another cluster that reports history, if there is one."""
        found = await self._reports()
        return next((each.cluster for each in found if each.epoch > 0 or each.position != ORIGIN), None)

    async def _followed(self, record: RoleRecord | None) -> Position:
        """Return the newest position in the record's epoch that a promotable replica reports.

        Asked only until this process renews for the first time: from then on its data is open and kept.
        """
        if record is None or record.cluster != self._cluster or self._sent is not None or not self._leads():
            return ORIGIN
        # A later history may begin behind records of an older epoch; within one epoch only the holder writes.
        positions = (each.position for each in await self._reports() if each.cluster in self._promotable)
        return max((each for each in positions if each.epoch == record.epoch), default=ORIGIN)

    async def _reports(self) -> list[MemberReport]:
        """Return the newest report of every other cluster."""
        stored = await self._store.list(records.MEMBERS)
        found = [records.decode_report(key, each.value) for key, each in stored.items()]
        return [report for report in found if report.cluster != self._cluster]

    def _take_note(self, record: RoleRecord | None) -> None:
        before = self._holder
        if record is not None:
            if before is None or (before.cluster, before.epoch) != (record.cluster, record.epoch):
                _log.info("role: %s is the primary of epoch %d", record.cluster, record.epoch)
            self._holder = record
        lease = self._lease
        if lease and (record is None or (record.cluster, record.epoch) != (self._cluster, lease.epoch)):
            self._lease = None

    async def _act(self, action: Action) -> None:
        self._refused = isinstance(action, Refuse)
        match action:
            case Bootstrap(record):
                _log.info("bootstrap: taking the first role record for %s", record.cluster)
                await self._store.swap(records.ROLE, records.encode(record), expected=None)
            case Claim(epoch):
                _log.info("claiming epoch %d in the local data", epoch)
                await self._history.claim(epoch)
            case Renew(record, expected):
                await self._renew(record, expected)
            case StepDown() | Leave():
                self._report(None)
            case Wait(reason):
                self._report(reason)
            case Refuse(problem):
                self._lease = None
                self._report(problem)

    async def _renew(self, record: RoleRecord, expected: int) -> None:
        self._sent = record
        sent_at = self._boottime()
        if await self._store.swap(records.ROLE, records.encode(record), expected=expected):
            self._holder = record
            self._lease = Lease(record.epoch, self._timing.deadline(sent_at))
            self._report(None)

    def _report(self, problem: str | None) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        if problem is None:
            _log.info("role: all is well again")
        else:
            _log.warning("role: %s", problem)
