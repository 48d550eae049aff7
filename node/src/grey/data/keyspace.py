# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the one key space of a data store is divided.

===========  ==========================================================================================
``k/<key>``  a user's key: the newest envelope of it, also when it says "deleted"
``r/<id>``   a request id that was carried out: what to answer when it comes again
``x/<due>``  when a key with a time to live is to be looked at: 8 bytes, big-endian, then the key
``m/...``    what the store knows of itself: identity, epoch, position
===========  ==========================================================================================
"""

from __future__ import annotations

DATA = b"k/"
DATA_END = b"k0"
REQUEST = b"r/"
REQUEST_END = b"r0"
EXPIRY = b"x/"
EXPIRY_END = b"x0"

IDENTITY = b"m/identity"
"""Whose data this is (JSON: federation, cluster, node, data_id); written once, when the store is made."""

EPOCH = b"m/epoch"
"""The epoch in which this cluster may write, as decimal text. Every write compares it: the fence."""

POSITION = b"m/position"
"""The position of the newest record held here, ``EPOCH.SEQUENCE``; written in the transaction of that record.

On a replica it is the replication cursor. Its history maps positions to this store's own revisions.
"""

LEADER = b"m/leader"
"""Which of the nodes that share this store leads the cluster (JSON; ``grey.federation.leader``)."""

TURN = b"m/turn"
"""Present while one of several nodes that write here is to be let through (``grey.data.turns``)."""

COPYING = b"m/copying"
"""Present while a full copy from another cluster is under way: the data is not yet a consistent state."""

RESTORED = b"m/restored"
"""Present in data that was restored from a snapshot (JSON; ``grey.data.restored``); never removed."""


def data_key(key: bytes) -> bytes:
    """Return where a user's key is stored."""
    return DATA + key


def user_key(stored: bytes) -> bytes:
    """Return the user's key that is stored at ``stored``."""
    return stored[len(DATA) :]


def request_key(request_id: str) -> bytes:
    """Return where the outcome of a request id is stored."""
    return REQUEST + request_id.encode("ascii")


def expiry_key(due: int, key: bytes) -> bytes:
    """Return where it is noted that a user's key is to be looked at; ``due`` is in microseconds."""
    return EXPIRY + due.to_bytes(8, "big") + key


def due_key(stored: bytes) -> tuple[int, bytes]:
    """Return what ``expiry_key`` was given for ``stored``."""
    start = len(EXPIRY)
    return int.from_bytes(stored[start : start + 8], "big"), stored[start + 8 :]


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the end of the range that holds every key with this prefix; None when it has no end."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
