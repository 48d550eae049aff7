# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a write was not acknowledged, beside the fence's own reasons (``grey.data.fence``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grey.record import Position


class DataError(Exception):
    """Something that the data room cannot do; the message says what to do next."""


class OutcomeUnknown(DataError):
    """The write may or may not have happened, and may still show later."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the write may or may not have happened: {why}; retry it with the same request id")


class RequestIdReused(DataError):
    """The request id belongs to another request; nothing was written."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"the request id {request_id!r} was used before for another request; each request needs its own"
        )
        self.request_id = request_id


class Overloaded(DataError):
    """Too many writes wait already; nothing was written."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} writes wait already; nothing was written, try again in a moment")
        self.waiting = waiting


class WriterStopped(DataError):
    """The node stops, or stopped on an error; nothing was written."""

    def __init__(self) -> None:
        super().__init__("this node takes no writes, since it stops; nothing was written, try another node")


class ConditionFailed(DataError):
    """A condition of a write did not hold; nothing was written, in a batch of nothing.

    ``key`` is the first whose condition failed, ``found`` the position of its newest version; None: it does
    not exist.
    """

    def __init__(self, key: bytes, found: Position | None) -> None:
        state = "does not exist" if found is None else f"is at position {found}"
        super().__init__(f"the key {key!r} {state}, which is not what the write demands; nothing was written")
        self.key = key
        self.found = found


class HigherEpoch(DataError):
    """An epoch cannot be claimed, since the store holds a higher one already."""

    def __init__(self, asked: int, held: int) -> None:
        super().__init__(f"epoch {asked} cannot be claimed: this store is in epoch {held} already")
        self.asked = asked
        self.held = held


class Diverged(DataError):
    """Two histories differ: the one asked about has ``asked`` where this one has ``held``."""

    def __init__(self, asked: Position, held: Position) -> None:
        super().__init__(f"position {asked} is not part of the history here, which has {held} in its place")
        self.asked = asked
        self.held = held


class NotYetHere(DataError):
    """This store has not got as far as ``position`` yet; ``held`` is how far it is."""

    def __init__(self, position: Position, held: Position) -> None:
        super().__init__(f"position {position} is yet to come here, where {held} is the newest; try again")
        self.position = position
        self.held = held


class Copied(DataError):
    """A full copy replaces the data of this replica: what changed cannot be told key by key."""

    def __init__(self) -> None:
        super().__init__("a full copy replaces the data here: list the keys anew, then watch from there")
