# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who writes next, when several nodes of a cluster write to one engine.

Each transaction compares the position, so of two nodes that write at the same time one has to look again;
the one that is nearer to the engine would win for ever. A node that lost twice therefore asks for a turn:
while the key ``keyspace.TURN`` holds its token, no transaction of another node succeeds, and its own removes
it. Nothing depends on this but fairness: a node that died with its turn is passed over after a moment, and
what keeps writes apart is the position.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from grey.data import keyspace
from grey.store.interface import CommitUncertain, Compare, CompareFailed, Write

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.store.interface import Store

PATIENCE = 2
"""After so many lost attempts in a row a node asks for a turn."""
LONGEST_TURN_SECONDS = 0.25
"""A turn that lasts longer is that of a node that is gone."""
POLL_SECONDS = 0.002


class Turns:
    """The turns of one node. ``held`` is the token of its own one, None: it has none and needs none."""

    def __init__(self, store: Store, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._name = uuid.uuid4().hex[:16]
        self._count = 0
        self.held: bytes | None = None

    def compare(self) -> Compare:
        """Return what every transaction of this node compares: nobody else has the turn."""
        return Compare(keyspace.TURN, self.held)

    def release(self) -> list[Write]:
        """Return what a transaction writes to give the own turn back."""
        return [] if self.held is None else [Write(keyspace.TURN, None)]

    def released(self) -> None:
        """Note that such a transaction succeeded."""
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
            elif self._monotonic() - since > LONGEST_TURN_SECONDS and await self._take(holder):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def give_back(self) -> None:
        """Give the own turn back without a write of one's own."""
        if self.held is None:
            return
        with suppress(CompareFailed):
            await self._store.commit([self.compare()], self.release())
        self.released()

    async def _take(self, holder: bytes | None) -> bool:
        """Take the turn from a holder; say whether nobody else was faster."""
        self._count += 1
        self.held = f"{self._name}-{self._count}".encode("ascii")
        try:
            await self._store.commit([Compare(keyspace.TURN, holder)], [Write(keyspace.TURN, self.held)])
        except CompareFailed:
            self.held = None
            return False
        except CommitUncertain:
            return False  # the next look tells
        return True
