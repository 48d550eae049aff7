# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The primary's end of replication: serves streams and pages of full copies while its fence is valid."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from grey.data.history import History
    from grey.federation.interface import RoleView
    from grey.record import Position
    from grey.replicate.channel import Channel
    from grey.replicate.wire import SnapshotPage
    from grey.store.interface import Store


class Source:
    """Serves the records of this cluster's store to any number of followers."""

    def __init__(
        self,
        store: Store,
        history: History,
        role: RoleView,
        *,
        cluster: str,
        batch_size: int,
        interval_seconds: float,
        promotable: Collection[str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``promotable`` names the clusters that hold back compaction (None: every follower does)."""

    async def serve(self, channel: Channel, peer_cluster: str) -> None:
        """Serve one stream until the channel closes or this cluster may not write any more.

        ``peer_cluster`` is the name that the peer's certificate proves. Does not close the channel.
        """
        raise NotImplementedError

    async def snapshot_page(self, after: bytes | None) -> SnapshotPage:
        """Return one page of a full copy; raises ``wire.SourceRefused`` when this is not the primary."""
        raise NotImplementedError

    def confirmed(self) -> Position | None:
        """Return the lowest position that the known promotable followers hold; None when none is known."""
        raise NotImplementedError
