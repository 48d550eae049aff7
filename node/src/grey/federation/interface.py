# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rest of the node needs of the federation: a small shared store, a view of roles and members."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from grey.data.fence import Fence
from grey.record.position import ORIGIN, Position


class FederationStoreError(Exception):
    """The federation store did not answer, or not with a majority; the message says what to look at."""


class Versioned(msgspec.Struct, frozen=True):
    """A value with the version that a compare-and-swap names. Versions of one key only grow."""

    value: bytes
    version: int


class FederationStore(Protocol):
    """A few small records shared by the whole federation. Reads and swaps are linearizable.

    Keys are relative to the federation, for example ``role`` or ``members/aws-east``.
    Every method raises FederationStoreError when there is no answer within its own time limit.
    """

    async def get(self, key: str) -> Versioned | None:
        """Return the record, None when there is none."""
        ...

    async def list(self, prefix: str) -> dict[str, Versioned]:
        """Return all records below a prefix."""
        ...

    async def swap(self, key: str, value: bytes, *, expected: int | None) -> bool:
        """Write the record if its version is ``expected`` (None: if there is none); say if it was written.

        On FederationStoreError the outcome is unknown.
        """
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Write the record, whatever was there."""
        ...

    async def close(self) -> None:
        """Release the connection."""
        ...


class RoleRecord(msgspec.Struct, frozen=True):
    """Who is the primary. ``counter`` grows with each renewal; ``node`` is the one that renews.

    ``position`` is that of the newest record which the holder's data held at that renewal: data that ends
    before it is not the data that the holder wrote.
    """

    cluster: str
    epoch: int
    counter: int
    node: str
    position: Position = ORIGIN


class MemberReport(msgspec.Struct, frozen=True):
    """What the node of a cluster says of itself about once a second. ``counter`` grows with each report.

    ``lag_seconds`` and ``lag_records`` are None on the primary and while a replica does not know them.
    ``throughput`` is client and replication operations per second. ``wall_seconds`` is the reporter's clock:
    for display only. ``state`` is ``copying`` while a full copy is under way, ``refused`` when the node
    cannot serve (``problem`` says why). ``oldest`` is the oldest position from which another cluster can
    follow this one: whoever stands before it needs a full copy (None: not known yet).
    """

    cluster: str
    node: str
    counter: int
    epoch: int
    position: Position
    lag_seconds: float | None
    lag_records: int | None
    throughput: float
    state: Literal["serving", "copying", "refused"]
    wall_seconds: float
    problem: str | None = None
    oldest: Position | None = None


class ReplicationView(Protocol):
    """What the follower of a replica tells the rest of its node."""

    def lag_seconds(self) -> float | None:
        """Return how old the state here is at most; None while it is unknown. Meaningless on the primary."""
        ...

    def lag_records(self) -> int | None:
        """Return how many records the primary had, at its last word, that are not applied here."""
        ...

    def consistent(self) -> bool:
        """Whether the data here is a state that the primary once had (not in the middle of a full copy)."""
        ...

    def position(self) -> Position:
        """Return the position that the lag speaks of: data read at or after it is no older than that."""
        ...


class RoleView(Fence, Protocol):
    """What this node knows of the role. Answers at once from what the keeper last learned."""

    def holder(self) -> RoleRecord | None:
        """Return the newest role record seen, None before the first one."""
        ...

    def is_primary(self) -> bool:
        """Whether this node may write at this moment: like ``epoch()``, without an exception."""
        ...
