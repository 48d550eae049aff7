# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which node of a cluster to ask: those that work first, spread over the clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

_FIRST_REST_SECONDS = 5.0
_LONGEST_REST_SECONDS = 60.0


class Target(msgspec.Struct, frozen=True):
    """One node: it answers at ``address`` and ``port``, and its certificate must carry ``host``."""

    host: str
    port: int
    address: str


class _Fault(msgspec.Struct):
    until: float
    rest_seconds: float


class Health:
    """What a client remembers of nodes. Pure: the time (seconds of any steady clock) is handed in.

    A node that failed is asked after the others for a while that doubles with each failure, since asking
    one that is frozen costs a whole attempt.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._ranks: dict[Target, float] = {}
        self._faults: dict[Target, _Fault] = {}

    def order(self, targets: Iterable[Target], now: float) -> list[Target]:
        """Return the nodes of a host as they should be asked.

        The order of the address families stays as the resolver gave it; within one, each client has its own.
        """
        wanted = list(dict.fromkeys(targets))
        families = list(dict.fromkeys(":" in target.address for target in wanted))
        return sorted(
            wanted,
            key=lambda target: (
                self._resting_until(target, now),
                families.index(":" in target.address),
                self._ranks.setdefault(target, self._dice.random()),
            ),
        )

    def good(self, target: Target) -> None:
        """Remember that a node answered."""
        self._faults.pop(target, None)

    def bad(self, target: Target, now: float) -> None:
        """Remember that a node did not answer."""
        before = self._faults.get(target)
        rest = _FIRST_REST_SECONDS if before is None else min(_LONGEST_REST_SECONDS, 2 * before.rest_seconds)
        if before is None or before.until <= now:
            self._faults[target] = _Fault(now + rest, rest)

    def _resting_until(self, target: Target, now: float) -> float:
        fault = self._faults.get(target)
        return fault.until if fault is not None and fault.until > now else 0.0
