# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the leader of a cluster does, and how fresh the data is whoever leads."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from grey.federation.clocks import boottime_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from grey.data.mirror import Mirror
    from grey.federation.deputy import Deputy
    from grey.federation.interface import ReplicationView
    from grey.federation.leadership import Leading
    from grey.record import Position
    from grey.replicate.follower import Follower

POLL_SECONDS = 0.1
"""Every task is fenced by itself, so it may begin and end a little late."""

_log = logging.getLogger(__name__)


async def while_leading(
    leading: Leading, work: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]
) -> None:
    """Run all of ``work`` while this node leads, until cancelled; each time from the beginning.

    Raises what one of the tasks raises, in a group.
    """
    while True:
        while not leading.leads():  # noqa: ASYNC110 - it ends by the passing of time, which sets no event
            await asyncio.sleep(POLL_SECONDS)
        _log.info("the leader's tasks begin: %s", ", ".join(work))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(begin(), name=name) for name, begin in work.items()]
            while leading.leads():  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
            for task in tasks:
                task.cancel()
        _log.info("the leader's tasks have ended")


class ClusterReplication:
    """How fresh this cluster's data is, whoever follows the primary; a ``ReplicationView``."""

    def __init__(self, leading: Leading, follower: Follower, deputy: Deputy) -> None:
        self._leading = leading
        self._follower = follower
        self._deputy = deputy

    def lag_seconds(self) -> float | None:
        """Return how old the data is at most; None while it is unknown."""
        return self._word().lag_seconds()

    def lag_records(self) -> int | None:
        """Return how many records the primary had, at its last word, that are not applied here."""
        return self._word().lag_records()

    def consistent(self) -> bool:
        """Whether the data is a state that the primary once had."""
        return self._word().consistent()

    def position(self) -> Position:
        """Return the position that the lag speaks of."""
        return self._word().position()

    def _word(self) -> ReplicationView:
        return self._follower if self._leading.leads() else self._deputy


class ShownAge:
    """How old what an eventual read shows on a replica is at most.

    It comes from memory, or from the member beside this node alone; either may be behind the engine, of which
    the lag speaks. Ask it often: what is known grows older with each second that it is not confirmed.
    """

    def __init__(
        self,
        replication: ReplicationView,
        mirror: Mirror,
        *,
        confirmed: Callable[[], Position],
        boottime: Callable[[], float] = boottime_seconds,
    ) -> None:
        """``confirmed`` is a position that the member here was seen to hold."""
        self._replication = replication
        self._mirror = mirror
        self._confirmed = confirmed
        self._boottime = boottime
        self._as_of: float | None = None

    def seconds(self) -> float | None:
        """Return the age in seconds; None while it is unknown."""
        if not self._replication.consistent():
            self._as_of = None
            return None
        now, lag = self._boottime(), self._replication.lag_seconds()
        shown = self._mirror.position if self._mirror.complete else self._confirmed()
        if lag is not None and shown >= self._replication.position():
            self._as_of = max(now - lag, self._as_of or 0.0)
        return None if self._as_of is None else now - self._as_of
