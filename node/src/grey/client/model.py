# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into a client and what comes out of it. Positions compare; stamps are text to show."""

from __future__ import annotations

import datetime
from typing import Literal

import msgspec

from grey.record.position import Position


class ClusterEndpoint(msgspec.Struct, frozen=True):
    """Where a cluster answers: ``endpoint`` is HOST:PORT of the key-value API.

    Among clusters that are equally near, the one with the greater ``weight`` is asked first.
    """

    name: str
    endpoint: str
    weight: int = 0


class Value(msgspec.Struct, frozen=True):
    """A key that was read. ``cluster`` answered, ``origin`` once took the write.

    ``lag_seconds`` is how old the state of the answering replica may be; None on the primary.
    ``expires`` is when the primary will delete the key (UTC); None when it stays.
    """

    key: bytes
    value: bytes
    position: Position
    stamp: str
    origin: str
    cluster: str
    lag_seconds: float | None = None
    expires: datetime.datetime | None = None


class Missing(msgspec.Struct, frozen=True):
    """A key that was looked for and does not exist where it was; the fields as those of ``Value``."""

    key: bytes
    cluster: str
    lag_seconds: float | None = None


class Item(msgspec.Struct, frozen=True):
    """A key of a listing. ``value`` is None when the listing was asked for keys alone; see ``Value``."""

    key: bytes
    position: Position
    stamp: str
    value: bytes | None = None
    expires: datetime.datetime | None = None


class Page(msgspec.Struct, frozen=True):
    """A part of a listing. ``next`` is the ``after`` of the page that follows, None on the last page.

    ``position`` is where the data stood when the first page was made: all pages show that state, and a watch
    from it misses nothing.
    """

    items: tuple[Item, ...]
    next: str | None
    cluster: str
    position: Position


class Event(msgspec.Struct, frozen=True):
    """A change that a watch saw. ``cluster`` told of it, ``origin`` once took the write.

    ``value`` is None for a delete, and for a put when the watch was asked for keys alone.
    """

    kind: Literal["put", "delete"]
    key: bytes
    position: Position
    stamp: str
    origin: str
    cluster: str
    value: bytes | None = None
    expires: datetime.datetime | None = None


class Written(msgspec.Struct, frozen=True):
    """A write that was acknowledged. ``replayed``: an earlier attempt with the same request id did it."""

    key: bytes
    position: Position
    stamp: str
    replayed: bool = False


class Deleted(msgspec.Struct, frozen=True):
    """A delete that was acknowledged; ``position`` and ``stamp`` are None when the key did not exist."""

    key: bytes
    existed: bool
    position: Position | None
    stamp: str | None
    replayed: bool = False


class BatchResult(msgspec.Struct, frozen=True):
    """One operation of a batch that was acknowledged; a delete has a position also when there was no key."""

    key: bytes
    position: Position
    stamp: str


class Put(msgspec.Struct, frozen=True):
    """An operation of a batch: set a key. ``ttl``, ``if_absent`` and ``if_position`` as in ``Client.put``."""

    key: str | bytes
    value: bytes
    ttl: float | datetime.timedelta | None = None
    if_absent: bool = False
    if_position: Position | str | None = None


class Delete(msgspec.Struct, frozen=True):
    """An operation of a batch: remove a key; with ``if_position`` only if it is still there."""

    key: str | bytes
    if_position: Position | str | None = None
