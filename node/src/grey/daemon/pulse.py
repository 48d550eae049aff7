# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of itself: measured a few times a second, so that every answer is ready at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Literal

from grey.federation.interface import MemberReport
from grey.record.position import ORIGIN, Position
from grey.serve.metrics import Figures

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.data.history import History
    from grey.federation.keeper import RoleKeeper
    from grey.serve.metrics import NodeMetrics
    from grey.serve.view import NodeView
    from grey.store.interface import Store

INTERVAL_SECONDS = 0.25
_WINDOW = 21


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
        store_up: Callable[[], bool],
        certificate_expiry: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``store_up`` says whether the federation store answered last; the others are in seconds."""
        self._view = view
        self._store = store
        self._history = history
        self._keeper = keeper
        self._metrics = metrics
        self._store_up = store_up
        self._certificate_expiry = certificate_expiry
        self._monotonic = monotonic
        self._position = ORIGIN
        self._epoch = 0
        self._applied = 0
        # Throughput is that of about the last five seconds.
        self._samples: deque[tuple[float, int]] = deque(maxlen=_WINDOW)

    async def run(self) -> None:
        """Measure until cancelled. Raises what the store raises."""
        while True:
            await self.measure()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def measure(self) -> None:
        """Measure once."""
        position = await self._history.position()
        epoch = await self._history.epoch() or 0
        if not self._view.holds_role() and self._position != ORIGIN:
            self._applied += max(0, position.sequence - self._position.sequence)
        self._position = position
        self._epoch = max(epoch, position.epoch)
        self._samples.append((self._monotonic(), self._metrics.operations_done + self._applied))
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
        )

    def _state(self) -> Literal["serving", "copying", "refused"]:
        if self._view.state == "refused":
            return "refused"
        copying = not self._view.holds_role() and not self._view.replication.consistent()
        return "copying" if copying else "serving"

    async def metrics_text(self) -> bytes:
        """Return the Prometheus text."""
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
                store_bytes=(await self._store.status()).bytes,
                role_deadline_seconds=self._keeper.remaining_seconds(),
                federation_store_up=self._store_up(),
                certificate_expiry_seconds=self._certificate_expiry(),
            )
        )
