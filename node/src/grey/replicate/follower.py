# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica's end of replication: follows whoever holds the role."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.data.history import History
    from grey.federation.interface import RoleView
    from grey.record import HybridClock
    from grey.replicate.channel import Connect, FetchPage
    from grey.store.interface import Store


class Follower:
    """Keeps this cluster's store equal to the primary's; a ``federation.interface.ReplicationView``."""

    def __init__(
        self,
        store: Store,
        history: History,
        role: RoleView,
        *,
        cluster: str,
        connect: Connect,
        fetch_page: FetchPage,
        interval_seconds: float,
        clock: HybridClock,
        max_clock_offset_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``monotonic`` should count while the machine sleeps (CLOCK_BOOTTIME); both are in seconds."""

    async def run(self) -> None:
        """Follow for ever; does nothing while this cluster holds the role. Raises StoreDamaged only."""
        raise NotImplementedError

    def lag_seconds(self) -> float | None:
        """Return how old the state here is at most; None while it is unknown."""
        raise NotImplementedError

    def lag_records(self) -> int | None:
        """Return how many records the primary had, at its last word, that are not applied here."""
        raise NotImplementedError

    def consistent(self) -> bool:
        """Whether the data here is a state that the primary once had (not in the middle of a full copy)."""
        raise NotImplementedError

    def problem(self) -> str | None:
        """Return what keeps this replica from following, for the operator; None when nothing does."""
        raise NotImplementedError

    def source_cluster(self) -> str | None:
        """Return the cluster that is being followed; None when there is none."""
        raise NotImplementedError
