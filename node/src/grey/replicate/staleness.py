# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How old the state of a replica is at most (design, invariant 5).

The bound is the local clock since *sending* the last nonce that a primary with a valid deadline answered and
whose head is applied here: whatever was acknowledged before that moment was part of that head.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.record import Position

MOST_OPEN = 64
"""At most so many nonces wait for an answer, and so many answers for their head."""


class Staleness:
    """Keeps the nonces of the running stream and the moment up to which the state here is known."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last_nonce = 0
        self._open: deque[tuple[int, float]] = deque()
        self._answered: list[tuple[Position, float]] = []
        self._known: float | None = None

    def send(self) -> int | None:
        """Return a nonce to send right now, or None while too many are unanswered."""
        if len(self._open) >= MOST_OPEN:
            return None
        self._last_nonce += 1
        self._open.append((self._last_nonce, self._monotonic()))
        return self._last_nonce

    def answered(self, nonce: int, head: Position, *, fenced: bool) -> None:
        """Note an answer. Only one of a primary that could write when it answered bounds anything."""
        sent = None
        while self._open and self._open[0][0] <= nonce:
            number, moment = self._open.popleft()
            sent = moment if number == nonce else None
        if sent is None or not fenced:
            return
        self._answered.append((head, sent))
        if len(self._answered) > MOST_OPEN:
            # far behind: fewer marks on the way suffice, and the oldest is the next to be reached
            del self._answered[1::2]

    def applied(self, cursor: Position) -> None:
        """Note that everything up to ``cursor`` is applied, and that the state here is consistent."""
        reached = [sent for head, sent in self._answered if head <= cursor]
        if reached:
            self._answered = [(head, sent) for head, sent in self._answered if head > cursor]
            self._known = max(reached) if self._known is None else max(self._known, *reached)

    def disconnected(self) -> None:
        """Forget what the stream that ended was asked; what is known stays known and grows older."""
        self._open.clear()
        self._answered.clear()

    def forget(self) -> None:
        """Forget everything: the state here is not one that the primary had."""
        self.disconnected()
        self._known = None

    def seconds(self) -> float | None:
        """Return the bound in seconds, None while there is none."""
        return None if self._known is None else max(0.0, self._monotonic() - self._known)
