# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fence and clocks that do what a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.data.fence import WriteRefused


class FakeFence:
    """Allows writes in ``held``; refuses with ``refusal`` when that is set. Counts how often it was asked."""

    def __init__(self, held: int = 1) -> None:
        self.held = held
        self.refusal: Callable[[], WriteRefused] | None = None
        self.asked = 0
        self.script: list[Callable[[], None]] = []

    def epoch(self) -> int:
        """Run the next step of the script, if there is one, then answer."""
        self.asked += 1
        if self.script:
            self.script.pop(0)()
        if self.refusal is not None:
            raise self.refusal()
        return self.held


class FakeTime:
    """A clock that is set by hand; call it for the time."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeWall:
    """A wall clock in microseconds that is set by hand; call it for the time."""

    def __init__(self, microseconds: int = 1_000_000_000) -> None:
        self.microseconds = microseconds

    def __call__(self) -> int:
        return self.microseconds
