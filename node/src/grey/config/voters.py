# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clusters hold a member of the federation store (design, section 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.config.model import Topology

MAX_VOTERS = 7
ENOUGH_VOTERS = 3


class Candidate(msgspec.Struct, frozen=True):
    """What counts about a cluster; ``voter`` is what the file says, None when it says nothing."""

    primary: bool
    read_only: bool
    voter: bool | None


def choose(candidates: Sequence[Candidate], topology: Topology, witnesses: int) -> list[bool]:
    """Return for each cluster whether it votes.

    What the file says holds. Of the others, those without read-only vote (in hub-spoke the hub alone), the
    primary before the rest, up to seven with the witnesses; read-only ones then fill up to three, in order.
    """
    chosen = [candidate.voter is True for candidate in candidates]
    order = sorted(range(len(candidates)), key=lambda index: not candidates[index].primary)

    def fill(limit: int, *, read_only: bool) -> None:
        for index in order:
            candidate = candidates[index]
            free = candidate.voter is None and candidate.read_only == read_only
            spoke = topology == "hub-spoke" and not candidate.primary
            if free and not spoke and sum(chosen) + witnesses < limit:
                chosen[index] = True

    fill(MAX_VOTERS, read_only=False)
    fill(ENOUGH_VOTERS, read_only=True)
    return chosen
