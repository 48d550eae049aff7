# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a record stands in the one history that all clusters of a federation share."""

from __future__ import annotations

import re

import msgspec

_TEXT = re.compile(r"(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})", re.ASCII)


class Position(msgspec.Struct, frozen=True, order=True, array_like=True):
    """The pair (epoch, sequence) that the primary gives to a record; the same on every cluster.

    Ordered by epoch, then sequence. The sequence goes on counting from one epoch to the next without a
    gap, so that a missing record shows as a hole wherever it is lost (design, section 4).
    """

    epoch: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read ``EPOCH.SEQUENCE``, for example ``1.42``.

        Raises ValueError when the text has another form.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"a position is written EPOCH.SEQUENCE, for example 1.42, not {text!r}")
        return cls(int(match[1]), int(match[2]))


ORIGIN = Position(0, 0)
"""The position before the first record: a store that holds nothing stands here."""
