# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of itself: measured a few times a second, so that every answer is ready at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Literal

from grey.federation.interface import MemberReport
from grey.link import etcd_alarm
from grey.record.position import ORIGIN, Position
from grey.serve.metrics import Figures
from grey.store.interface import StoreDamaged, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from grey.daemon.retention import KeptHistory
    from grey.data.history import History
    from grey.federation.keeper import RoleKeeper
    from grey.serve.metrics import NodeMetrics
    from grey.serve.view import NodeView
    from grey.store.interface import Store, StoreStatus

INTERVAL_SECONDS = 0.25
STATUS_SECONDS = 1.0
SILENCE_SECONDS = 3.0
"""An engine that says nothing for so long is told to be away, before its own calls give up."""
_WINDOW = 21
_log = logging.getLogger(__name__)


class Pulse:
    """The newest figures of this node."""

    def __init__(
        self,
        view: NodeView,
        store: Store,
        history: History,
        keeper: RoleKeeper,
        metrics: NodeMetrics,
        *,
        kept: KeptHistory,
        needs_full_copy: Callable[[], Mapping[str, bool]],
        leads: Callable[[], bool],
        store_up: Callable[[], bool],
        certificate_expiry: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``store_up`` says whether the federation store answered last; the others are in seconds.

        ``leads`` says whether this node leads its cluster, ``needs_full_copy`` which of the others cannot go
        on from where they stand.
        """
        self._view = view
        self._store = store
        self._history = history
        self._keeper = keeper
        self._metrics = metrics
        self._kept = kept
        self._needs_full_copy = needs_full_copy
        self._leads = leads
        self._store_up = store_up
        self._certificate_expiry = certificate_expiry
        self._monotonic = monotonic
        self._position = ORIGIN
        self._epoch = 0
        self._applied = 0
        self._status: StoreStatus | None = None
        self._status_due = 0.0
        self._engine_problem: str | None = None
        # Throughput is that of about the last five seconds.
        self._samples: deque[tuple[float, int]] = deque(maxlen=_WINDOW)

    async def run(self) -> None:
        """Measure until cancelled. Raises StoreDamaged."""
        while True:
            await self.measure()
            await asyncio.sleep(INTERVAL_SECONDS)

    def engine_problem(self) -> str | None:
        """Return why the engine could not be asked last, None when it could."""
        return self._engine_problem

    def writes_refused(self) -> str | None:
        """Return why the engine takes no writes though it answers, None when it takes them."""
        alarms = () if self._status is None else self._status.alarms
        said = (
            f"the engine has raised its alarm {alarm} and takes no writes: {etcd_alarm.next_step(alarm)}"
            for alarm in alarms
        )
        return "; ".join(said) or None

    async def measure(self) -> None:
        """Measure once; without the engine the figures stay as they were. Raises StoreDamaged."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._measure()
        except StoreDamaged:
            raise
        except (StoreError, TimeoutError) as error:
            reason = str(error) or f"no answer within {SILENCE_SECONDS:g} s"
            if self._engine_problem is None:
                _log.warning("the engine cannot be asked: %s", reason)
            self._engine_problem = f"the engine cannot be asked: {reason}"
        else:
            if self._engine_problem is not None:
                _log.info("the engine answers again")
            self._engine_problem = None
            if self._monotonic() >= self._status_due:
                await self._ask_status()

    async def _measure(self) -> None:
        position = await self._history.position()
        epoch = await self._history.epoch() or 0
        if not self._view.holds_role() and self._position != ORIGIN:
            self._applied += max(0, position.sequence - self._position.sequence)
        self._position = position
        self._epoch = max(epoch, position.epoch)
        self._samples.append((self._monotonic(), self._metrics.operations_done + self._applied))
        self._view.shown_lag()
        if self._view.state in {"serving", "refused"}:
            self._view.state = "refused" if self._keeper.refused() else "serving"

    @property
    def position(self) -> Position:
        """The position of the newest record held here, at the last measurement."""
        return self._position

    def throughput(self) -> float:
        """Return the operations per second of clients and of replication, over about five seconds."""
        if len(self._samples) < 2:
            return 0.0
        (since, before), (until, after) = self._samples[0], self._samples[-1]
        return (after - before) / max(until - since, 1e-3)

    def report(self) -> MemberReport:
        """Return what this cluster says of itself; its counter is for ``Members`` to fill in."""
        view = self._view
        primary = view.holds_role()
        return MemberReport(
            cluster=view.cluster,
            node=view.node,
            counter=0,
            epoch=self._epoch,
            position=self._position,
            lag_seconds=None if primary else view.replication.lag_seconds(),
            lag_records=None if primary else view.replication.lag_records(),
            throughput=self.throughput(),
            state=self._state(),
            wall_seconds=time.time(),
            problem=view.problem(),
            oldest=self._kept.oldest,
        )

    def _state(self) -> Literal["serving", "copying", "refused"]:
        if self._view.state == "refused":
            return "refused"
        copying = not self._view.holds_role() and not self._view.replication.consistent()
        return "copying" if copying else "serving"

    async def metrics_text(self) -> bytes:
        """Return the Prometheus text. Raises StoreDamaged."""
        if self._engine_problem is None:
            self._status_due = 0.0
            await self.measure()
        view = self._view
        holder = view.role.holder()
        primary = view.holds_role()
        return self._metrics.text(
            Figures(
                role=view.role_name(),
                epoch=None if holder is None else holder.epoch,
                sequence=self._position.sequence,
                lag_seconds=None if primary else view.replication.lag_seconds(),
                lag_records=None if primary else view.replication.lag_records(),
                leader=self._leads(),
                engine_up=self._engine_problem is None,
                store=self._status,
                role_deadline_seconds=self._keeper.remaining_seconds(),
                federation_store_up=self._store_up(),
                certificate_expiry_seconds=self._certificate_expiry(),
                needs_full_copy=self._needs_full_copy(),
            )
        )

    async def _ask_status(self) -> None:
        before = self.writes_refused()
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                self._status = await self._store.status()
                await self._kept.look(self._status)
        except StoreDamaged:
            raise
        except (StoreError, TimeoutError) as error:
            _log.debug("the engine does not say how it is: %s", error)
        self._status_due = self._monotonic() + STATUS_SECONDS
        now = self.writes_refused()
        if now is not None and now != before:
            _log.error("%s", now)
        elif now is None and before is not None:
            _log.info("the engine's alarm is lifted, it takes writes again")
