# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions about the role, without a clock, a network or a store of their own (design, section 5).

A role record is changed by compare-and-swap only, and a counter that is 0 says that its epoch was given but
never used: the holder first makes the epoch durable in its own data (claim), then renews the counter, and
only a renewal gives it a deadline. So an interrupted bootstrap or promotion can be told from lost data.
"""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar

import msgspec

from grey.federation.interface import RoleRecord
from grey.record.position import ORIGIN, Position

FIRST_EPOCH = 1

R = TypeVar("R")


class Timing(msgspec.Struct, frozen=True):
    """The times that follow from ``detection_time``, in seconds of CLOCK_BOOTTIME.

    The margin covers clocks that run at different speeds; the renewal interval lets several renewals fail
    before the deadline; ``inherit_after`` is when another node of a cluster leads it and goes on renewing.
    """

    detection: float
    margin: float
    renew_interval: float
    inherit_after: float
    store_timeout: float

    @classmethod
    def of(cls, detection_seconds: float) -> Timing:
        """Return the times for a ``failover.detection_time``."""
        return cls(
            detection=detection_seconds,
            margin=min(max(0.05 * detection_seconds, 0.05), detection_seconds / 4),
            renew_interval=min(1.0, detection_seconds / 10),
            inherit_after=detection_seconds / 3,
            store_timeout=min(5.0, detection_seconds / 4),
        )

    def deadline(self, sent_at: float) -> float:
        """Return until when a renewal holds that was sent at ``sent_at``."""
        return sent_at + self.detection - self.margin


class Lease(msgspec.Struct, frozen=True):
    """The right to write in ``epoch`` before ``deadline`` (CLOCK_BOOTTIME seconds)."""

    epoch: int
    deadline: float


class Standstill(Generic[R]):
    """Measures on the own clock how long a record has not changed.

    Both ends are taken so that the answer is never too long: from when an answer came, to when a later
    question was sent. After a gap of more than ``gap`` seconds between two reads the measuring starts anew:
    when nobody could read the store, its holder could not renew either and deserves the time to do so.
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._record: R | None = None
        self._since = 0.0
        self._read_at = 0.0

    def observe(self, record: R | None, *, sent_at: float, received_at: float) -> float:
        """Take note of what a read returned; return for how many seconds it surely stood still."""
        if record != self._record or received_at - self._read_at > self._gap:
            self._record = record
            self._since = received_at
        self._read_at = received_at
        return max(0.0, sent_at - self._since)


class View(msgspec.Struct, frozen=True):
    """All that a decision rests on.

    ``bootstrap`` is the name of the cluster that the federation file calls primary. ``leads`` says whether
    this node leads its cluster: only then it writes the record. ``elsewhere`` names another cluster that
    reports history. ``followed`` is the newest position of the record's epoch that a replica reports.
    ``restored`` is the epoch of the snapshot that the data was restored from, 0 when it was not.
    """

    cluster: str
    node: str
    bootstrap: str | None
    record: RoleRecord | None
    version: int | None
    local_epoch: int | None
    local_position: Position
    leads: bool = True
    elsewhere: str | None = None
    followed: Position = ORIGIN
    restored: int = 0


class Bootstrap(msgspec.Struct, frozen=True):
    """Create the first role record."""

    record: RoleRecord


class Claim(msgspec.Struct, frozen=True):
    """Make the record's epoch durable in the local data, then look again."""

    epoch: int


class Renew(msgspec.Struct, frozen=True):
    """Swap ``record`` in where version ``expected`` stands."""

    record: RoleRecord
    expected: int


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do yet; the reason is for people."""

    reason: str


class Leave(msgspec.Struct, frozen=True):
    """The leader of this cluster does what is to be done."""


class StepDown(msgspec.Struct, frozen=True):
    """Another cluster holds the role."""

    record: RoleRecord


class Refuse(msgspec.Struct, frozen=True):
    """Store and data contradict each other: write nothing until somebody has looked."""

    problem: str


Action: TypeAlias = Bootstrap | Claim | Renew | Wait | Leave | StepDown | Refuse


def decide(view: View) -> Action:
    """Say what this node does about the role."""
    local_epoch = max(view.local_epoch or 0, view.local_position.epoch)
    empty = view.local_epoch is None and view.local_position == ORIGIN
    if view.record is None or view.version is None:
        return _without_record(view, empty=empty)
    record = view.record
    if local_epoch > record.epoch:
        return Refuse(
            f"the data of {view.cluster} is of epoch {local_epoch}, but the role record in the federation "
            f"store says epoch {record.epoch} ({record.cluster}): the store is older than the data. "
            "Restore the newer federation store, or recover the quorum explicitly"
        )
    if record.cluster != view.cluster:
        return StepDown(record)
    return _held(view, record, empty=empty)


def _without_record(view: View, *, empty: bool) -> Action:
    if not empty:
        return Refuse(
            f"the federation store holds no role record, but the data of {view.cluster} has history "
            f"(position {view.local_position}): the federation store was lost or is another one. "
            "Restore it from a backup, or check federation_store.endpoints in the node's file"
        )
    if view.bootstrap != view.cluster:
        return Wait(f"no cluster has the role yet; the first primary is to be {view.bootstrap or 'unknown'}")
    if view.elsewhere is not None:
        return Refuse(
            f"neither the federation store nor {view.cluster} holds history, but {view.elsewhere} reports "
            "some: starting anew would leave its records behind. "
            f"Restore the data of {view.cluster} or the federation store"
        )
    if not view.leads:
        return Leave()
    return Bootstrap(RoleRecord(view.cluster, FIRST_EPOCH, 0, view.node))


def _held(view: View, record: RoleRecord, *, empty: bool) -> Action:
    """Decide as the cluster that the record names."""
    if record.epoch <= view.restored:
        return Refuse(
            f"the data of {view.cluster} was restored from a snapshot of epoch {view.restored} (position "
            f"{view.local_position}). What {view.cluster} wrote later in epoch {record.epoch} may be held "
            "elsewhere, so that it must not be written in that epoch again. Start a new one from here, on "
            f"one node of {view.cluster}: greyd snapshot new-epoch. Or promote another cluster"
        )
    if view.local_epoch == record.epoch:
        written = max(record.position, view.followed)
        if written > view.local_position:
            return Refuse(
                f"{view.cluster} wrote records up to {written} as the primary of epoch {record.epoch}, but "
                f"the data here ends at {view.local_position}: data was lost, or an older copy was put in "
                "its place. Put the newest data back, or promote another cluster"
            )
        if not view.leads:
            return Leave()
        renewed = msgspec.structs.replace(
            record, counter=record.counter + 1, node=view.node, position=view.local_position
        )
        return Renew(renewed, view.version or 0)
    unused = record.counter == 0 and view.local_position.epoch < record.epoch
    if unused and empty == (record.epoch == FIRST_EPOCH):
        return Claim(record.epoch) if view.leads else Leave()
    if view.local_epoch is not None and view.local_epoch <= view.restored:
        return Refuse(
            f"epoch {record.epoch} was begun for {view.cluster}, but the data here was restored from a "
            f"snapshot of epoch {view.restored} and did not begin it. Start a new one from here, on one node "
            f"of {view.cluster}: greyd snapshot new-epoch. Or promote another cluster"
        )
    found = "is empty" if empty else f"was never primary in it (position {view.local_position})"
    return Refuse(
        f"the role record names {view.cluster} as the primary of epoch {record.epoch}, "
        f"but the data here {found}: data was lost or replaced. "
        "Restore the data folder, or promote another cluster"
    )
