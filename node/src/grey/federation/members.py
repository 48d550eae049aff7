# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the federation how this cluster is, and watches how the others are."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from grey.federation import records
from grey.federation.interface import FederationStore, FederationStoreError, MemberReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from grey.config.model import Federation
    from grey.record.position import Position

_log = logging.getLogger(__name__)


def report_interval(detection_seconds: float) -> float:
    """Return every how many seconds a cluster reports: once a second, faster for short detection times."""
    return min(1.0, max(0.2, detection_seconds / 10))


def offline_threshold(detection_seconds: float) -> float:
    """Return after how many seconds without a new report a cluster counts as offline.

    Five lost reports in a row and at least three seconds, but never longer than ``detection_time``.
    """
    return min(detection_seconds, max(3.0, 5 * report_interval(detection_seconds)))


class Observed(msgspec.Struct, frozen=True):
    """A cluster as it is seen from here. ``report`` is None when it never reported.

    ``last_seen_seconds`` is how long ago the newest report was first seen, on the own clock.
    """

    report: MemberReport | None
    online: bool
    last_seen_seconds: float | None


class Members:
    """Publishes the own report and observes those of all clusters.

    A cluster is offline when its counter did not change for ``offline_threshold`` on the own monotonic clock.
    The first time a report is seen its wall time says how old it may be; every later word of the same cluster
    is judged by the own clock alone.
    """

    def __init__(
        self,
        federation: Federation,
        cluster: str,
        store: FederationStore,
        *,
        report: Callable[[], MemberReport],
        publishes: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``report`` returns the own report; its counter is replaced by one that grows across restarts.

        ``publishes`` says whether this node is the one that speaks for its cluster.
        """
        detection = federation.failover.detection_time_seconds
        self._interval = report_interval(detection)
        self._threshold = offline_threshold(detection)
        self._names = tuple(each.name for each in federation.clusters)
        self._cluster = cluster
        self._store = store
        self._report = report
        self._publishes = publishes
        self._monotonic = monotonic
        self._wall = wall
        self._sleep = sleep
        self._counter = int(wall() * 1000)  # so that a restart goes on above what was reported before
        self._seen: dict[str, _Seen] = {}
        self._was_read = False
        self._problem: str | None = None
        self._publishing = asyncio.Lock()

    def observed(self) -> Mapping[str, Observed]:
        """Return every cluster of the federation file as seen from here, the own one by its own word.

        A node that does not speak for its cluster knows it as it knows the others.
        """
        return {name: self._observe(name) for name in self._names}

    def reported(self) -> Mapping[str, Position] | None:
        """Return where every other cluster stood at its newest report; None before the first reading.

        A cluster that never reported is not in it; one that is offline is.
        """
        if not self._was_read:
            return None
        return {
            name: seen.report.position
            for name, seen in self._seen.items()
            if name != self._cluster and name in self._names
        }

    def problem(self) -> str | None:
        """Return why the reports cannot be exchanged now, None when they can."""
        return self._problem

    async def run(self) -> None:
        """Publish and observe until cancelled."""
        while True:
            await self.step()
            await self._sleep(self._interval)

    async def step(self) -> None:
        """Read all reports, and publish the own one if this node speaks for its cluster."""
        faults = []
        steps = [self._read(), self.publish()] if self._publishes() else [self._read()]
        for outcome in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(outcome, FederationStoreError):
                faults.append(str(outcome))
            elif outcome is not None:
                raise outcome
        self._say(faults[0] if faults else None)

    async def _read(self) -> None:
        stored = await self._store.list(records.MEMBERS)
        now = self._monotonic()
        for key, versioned in stored.items():
            try:
                report = records.decode_report(key, versioned.value)
            except records.DamagedRecord as fault:
                _log.warning("%s", fault)
                continue
            if key != records.member_key(report.cluster):
                continue
            before = self._seen.get(report.cluster)
            if before is None:
                age = max(0.0, self._wall() - report.wall_seconds)
                self._seen[report.cluster] = _Seen(report, now - age)
            elif before.report.counter != report.counter:
                self._seen[report.cluster] = _Seen(report, now)
        self._was_read = True

    async def publish(self) -> None:
        """Publish the own report now. Raises FederationStoreError: perhaps it was not."""
        async with self._publishing:  # or an older one might be written last
            # Another node of this cluster may have reported before, with a clock of its own.
            seen = self._seen.get(self._cluster)
            self._counter = max(self._counter, seen.report.counter if seen else 0) + 1
            report = msgspec.structs.replace(self._report(), cluster=self._cluster, counter=self._counter)
            await self._store.put(records.member_key(self._cluster), records.encode(report))

    def _observe(self, name: str) -> Observed:
        if name == self._cluster and self._publishes():
            return Observed(self._report(), online=True, last_seen_seconds=0.0)
        seen = self._seen.get(name)
        if seen is None:
            return Observed(None, online=False, last_seen_seconds=None)
        age = self._monotonic() - seen.changed_at
        return Observed(seen.report, online=age < self._threshold, last_seen_seconds=age)

    def _say(self, problem: str | None) -> None:
        if problem is None and self._problem is not None:
            _log.info("reports are exchanged again")
        elif problem is not None and self._problem is None:
            _log.warning("reports cannot be exchanged: %s", problem)
        self._problem = problem


class _Seen(msgspec.Struct, frozen=True):
    report: MemberReport
    changed_at: float
