# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short ways to make records."""

from __future__ import annotations

from grey.data import keyspace
from grey.data.history import format_epoch, format_position
from grey.data.requests import entry_writes
from grey.record import Envelope, Position, RequestRef, Stamp
from grey.record.envelope import encode
from grey.store.interface import Store, Write


def envelope(
    sequence: int,
    key: bytes = b"a",
    value: bytes | None = b"v",
    *,
    epoch: int = 1,
    seconds: float = 1000.0,
    request: RequestRef | None = None,
) -> Envelope:
    """Return a record of the cluster aws."""
    stamp = Stamp(int(seconds * 1e6), sequence)
    return Envelope(key, value, Position(epoch, sequence), stamp, "aws", request)


async def write(store: Store, *envelopes: Envelope) -> int:
    """Commit records in one transaction, as a writer does; return the revision."""
    writes = [Write(keyspace.data_key(each.key), encode(each)) for each in envelopes]
    writes += entry_writes(envelopes)
    last = envelopes[-1].position
    writes.append(Write(keyspace.EPOCH, format_epoch(last.epoch)))
    writes.append(Write(keyspace.POSITION, format_position(last)))
    return await store.commit([], writes)
