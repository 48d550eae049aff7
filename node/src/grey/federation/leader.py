# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who of a cluster's nodes leads it: the decisions, without a clock or a store of their own.

The leader alone renews the role, follows the primary, reports to the federation, tidies and compacts. Each of
these is fenced by comparisons of its own, so that two leaders for a moment do no harm: the election only has
to be quick, never exclusive. It is a record in the cluster's own engine, changed by compare-and-swap.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class LeaderRecord(msgspec.Struct, frozen=True):
    """Who leads. ``control`` is ``host:port`` of its control plane; ``counter`` grows with each renewal.

    ``fit`` says whether the leader reaches the federation store; one that does not gives way to one that
    does.
    """

    node: str
    control: str
    counter: int
    fit: bool = True


class LeaderView(msgspec.Struct, frozen=True):
    """All that a decision rests on. ``still_seconds`` is how long the record surely did not change."""

    node: str
    control: str
    fit: bool
    record: LeaderRecord | None
    still_seconds: float


class Lead(msgspec.Struct, frozen=True):
    """Swap ``record`` in for the one that was seen: a renewal, or a takeover."""

    record: LeaderRecord
    takeover: bool


class Yield(msgspec.Struct, frozen=True):
    """Another node leads."""

    record: LeaderRecord


LeaderAction: TypeAlias = Lead | Yield


def decide_leader(view: LeaderView, *, takeover_seconds: float) -> LeaderAction:
    """Say what this node does about leading its cluster."""
    found = view.record
    if found is None:
        return Lead(LeaderRecord(view.node, view.control, 1, view.fit), takeover=True)
    next_record = LeaderRecord(view.node, view.control, found.counter + 1, view.fit)
    if found.node == view.node:
        return Lead(next_record, takeover=False)
    if view.still_seconds >= takeover_seconds or (view.fit and not found.fit):
        return Lead(next_record, takeover=True)
    return Yield(found)
