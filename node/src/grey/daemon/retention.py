# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which history a node must keep for the other clusters, and which it keeps (design, section 4)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from grey.federation.interface import FederationStoreError
from grey.record.position import ORIGIN
from grey.store.interface import Compacted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from grey.data.history import History
    from grey.record.position import Position
    from grey.store.interface import StoreStatus

_log = logging.getLogger(__name__)


def lowest_needed(
    role: Literal["primary", "replica", "unknown"],
    *,
    promotable: Collection[str],
    streams: Position | None,
    reported: Mapping[str, Position] | None,
) -> Position | None:
    """Return the lowest position after which history is needed; None when nobody needs any.

    ``streams`` is what the followers confirmed to this process, which knows of none right after its start;
    ``reported`` is where all others said that they are, those that are away included (None: not read yet).
    While too little is known all history is needed. A replica keeps none for others: nobody follows it.
    """
    if role == "replica":
        return None
    if role == "unknown" or reported is None:
        return ORIGIN
    held = [position for name, position in reported.items() if name in promotable]
    return min(held if streams is None else [*held, streams], default=None)


class KeptHistory:
    """From which position on this cluster's history is kept, or soon will be: what its report says."""

    def __init__(self, history: History, publish: Callable[[], Awaitable[None]]) -> None:
        """``publish`` writes the cluster's report into the federation store; raises FederationStoreError."""
        self._history = history
        self._publish = publish
        self._looked_at = -1
        self.oldest: Position | None = None
        """The oldest position from which another cluster can follow; None while it is unknown. Only grows."""

    async def look(self, status: StoreStatus) -> None:
        """Take note of what the engine says that it compacted. Raises StoreError."""
        if status.compacted == self._looked_at:
            return
        try:
            found = (await self._history.state_of(status.compacted)).position
        except Compacted:
            return  # it goes on while it is asked; the next look comes
        self._looked_at = status.compacted
        self._raise(found)

    async def announce(self, oldest: Position) -> bool:
        """Tell the federation that history before ``oldest`` goes; say whether it was heard."""
        self._raise(oldest)
        try:
            await self._publish()
        except FederationStoreError as error:
            _log.debug("the report was not published: %s", error)
            return False
        return True

    def _raise(self, oldest: Position) -> None:
        self.oldest = oldest if self.oldest is None else max(self.oldest, oldest)
