# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a write must be allowed by. The role's keeper (``grey.federation``) implements it."""

from __future__ import annotations

from typing import Protocol


class WriteRefused(Exception):
    """This node must not acknowledge a write or a strong read now; the message says why and what to do."""


class NotPrimary(WriteRefused):
    """Another cluster is the primary. ``primary`` is its name, None when nobody is known to be."""

    def __init__(self, primary: str | None) -> None:
        super().__init__(f"the primary is {primary}" if primary else "no primary is known")
        self.primary = primary


class DeadlinePassed(WriteRefused):
    """This cluster holds the role but could not confirm it in time: another may be about to take it."""

    def __init__(self) -> None:
        super().__init__("the primary role could not be confirmed before its deadline")


class Fence(Protocol):
    """Says whether this node may write now."""

    def epoch(self) -> int:
        """Return the epoch in which this node may write at this very moment.

        Never waits. Raises NotPrimary or DeadlinePassed. Called before a commit and once more after it:
        only a write for which both calls return the same epoch is acknowledged (design, section 5).
        """
        ...
