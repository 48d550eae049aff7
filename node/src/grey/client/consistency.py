# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fresh a read must be (the document's *Strong*, *Eventual* and *Bounded*)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import msgspec


class Consistency(msgspec.Struct, frozen=True):
    """``Consistency.STRONG``, ``Consistency.EVENTUAL`` or ``Consistency.bounded(seconds)``."""

    mode: Literal["strong", "eventual", "bounded"]
    max_staleness_seconds: float | None = None

    STRONG: ClassVar[Consistency]
    EVENTUAL: ClassVar[Consistency]

    @classmethod
    def bounded(cls, seconds: float) -> Consistency:
        """A read that is never staler than this many seconds. Raises ValueError unless it is above 0."""
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"max_staleness must be a number of seconds above 0, not {seconds!r}")
        return cls("bounded", seconds)


Consistency.STRONG = Consistency("strong")
Consistency.EVENTUAL = Consistency("eventual")
