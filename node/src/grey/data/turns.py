# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who writes next, when several nodes of a cluster write to one engine.

Each transaction compares the position, so of two nodes that write at the same time one has to look again;
the one that is nearer to the engine would win for ever. A node that lost twice therefore asks for a turn:
while the key ``keyspace.TURN`` holds its token, no transaction of another node succeeds. It keeps the turn
for a few transactions, since a change costs as much as two of them, and its last one removes the token.
Nothing depends on this but fairness: a node that died with its turn is passed over after a moment, and what
keeps writes apart is the position.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING

from grey.data import keyspace
from grey.store.interface import CommitUncertain, Compare, CompareFailed, StoreDamaged, StoreError, Write

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.store.interface import Store

PATIENCE = 2
"""After so many lost attempts in a row a node asks for a turn."""
TURN_SECONDS = 0.025
"""A node that has its turn gives it back with the first transaction after so long."""
LONGEST_TURN_SECONDS = 0.5
"""A turn that lasts longer is that of a node that is gone, unless the engine is as slow as that."""
POLL_SECONDS = 0.002

_log = logging.getLogger(__name__)


class Turns:
    """The turns of one node. ``held`` is the token of its own one, None: it has none and needs none."""

    def __init__(self, store: Store, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._name = uuid.uuid4().hex[:16]
        self._count = 0
        self._since = 0.0
        self._slowest = 0.0
        self.held: bytes | None = None

    def compare(self) -> Compare:
        """Return what every transaction of this node compares: nobody else has the turn."""
        return Compare(keyspace.TURN, self.held)

    def release(self) -> list[Write]:
        """Return what a transaction writes to give the own turn back; nothing while it may go on."""
        if self.held is None or self._monotonic() - self._since < TURN_SECONDS:
            return []
        return [Write(keyspace.TURN, None)]

    def released(self) -> None:
        """Note that the turn was given back."""
        self.held = None

    async def contend(self, lost: int) -> None:
        """Wait until it is worth to try again, after ``lost`` attempts in a row were overtaken.

        Raises what the store raises.
        """
        seen: bytes | None = None
        since = self._monotonic()
        while True:
            item = await self._store.get(keyspace.TURN, serializable=True)
            holder = None if item is None else item.value
            if holder is None:
                self.held = None
                if lost < PATIENCE or await self._take(None):
                    return
            elif holder == self.held:
                return
            elif holder != seen:
                seen, since = holder, self._monotonic()
            elif self._monotonic() - since > self._patience() and await self._take(holder):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def give_back(self) -> None:
        """Give the own turn back without a write of one's own. Raises StoreDamaged."""
        if self.held is None:
            return
        try:
            await self._store.commit([self.compare()], [Write(keyspace.TURN, None)])
        except StoreDamaged:
            raise
        except StoreError as error:
            _log.debug("the others have to pass over the turn of this node: %s", error)
        finally:
            self.released()

    def _patience(self) -> float:
        return max(LONGEST_TURN_SECONDS, 10 * self._slowest)

    async def _take(self, holder: bytes | None) -> bool:
        """Take the turn from a holder; say whether nobody else was faster."""
        self._count += 1
        self.held = f"{self._name}-{self._count}".encode("ascii")
        begun = self._since = self._monotonic()
        try:
            await self._store.commit([Compare(keyspace.TURN, holder)], [Write(keyspace.TURN, self.held)])
        except CompareFailed:
            self.held = None
            return False
        except CommitUncertain:
            return False  # the next look tells
        finally:
            self._slowest = max(self._slowest / 2, self._monotonic() - begun)
        return True
