# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a write may demand of the key that it changes; judged in the transaction that carries it out."""

from __future__ import annotations

import msgspec

from grey.record import Position


class Absent(msgspec.Struct, frozen=True):
    """The key does not exist: it never did, is deleted, or has expired."""


class At(msgspec.Struct, frozen=True):
    """The key exists, and ``position`` is that of its newest version."""

    position: Position


class Expired(msgspec.Struct, frozen=True):
    """``position`` is that of the key's newest version, which has expired. For the expiry's own deletes."""

    position: Position


Condition = Absent | At
"""What a user may ask for."""

AnyCondition = Absent | At | Expired


def describe(condition: AnyCondition) -> str:
    """Return the text that a condition adds to the digest of a request; no two conditions share one."""
    match condition:
        case Absent():
            return "absent"
        case At(position):
            return f"at {position}"
        case Expired(position):
            return f"expired {position}"


def holds(condition: AnyCondition, position: Position | None, *, expired: bool) -> bool:
    """Say whether a condition holds for a key whose newest version, no tombstone, stands at ``position``.

    ``position`` is None for a key that is missing or deleted; ``expired`` says that its time is over.
    """
    match condition:
        case Absent():
            return position is None or expired
        case At(wanted):
            return position == wanted and not expired
        case Expired(wanted):
            return position == wanted and expired
