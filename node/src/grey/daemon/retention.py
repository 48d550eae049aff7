# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which history a node must keep for the other clusters (design, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from grey.record.position import ORIGIN

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from grey.record.position import Position


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
