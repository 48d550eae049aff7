# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the received records are written, and in which transactions; decided without touching anything.

The transactions of the source are not folded: a replica keeps every version in its own history too, since
another replica may have to go on from any of them once this cluster is the primary. So several of them share
one transaction here only while no key repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from grey.data import keyspace
from grey.record import Envelope, Position
from grey.record.envelope import decode
from grey.store.interface import MAX_WRITES_PER_TRANSACTION, Write

if TYPE_CHECKING:
    from grey.record import Stamp

RESERVED_WRITES = 1
"""Every transaction also writes the cursor."""

Entries = Callable[[Sequence[Envelope]], Sequence[Write]]
"""Returns the writes of the request entries that belong to the records of one transaction."""


class StreamBroken(Exception):
    """What was received does not follow what is held here; nothing of it may be applied."""


class Record(msgspec.Struct, frozen=True):
    """A record and the bytes it came as: those are stored, with all that a newer node may have added."""

    envelope: Envelope
    encoded: bytes


class Step(msgspec.Struct, frozen=True):
    """One transaction to write: records of distinct keys, their request entries, the cursor afterwards."""

    records: list[Record]
    entries: list[Write]
    cursor: Position


def read(transactions: Sequence[Sequence[bytes]]) -> list[list[Record]]:
    """Decode what was received; raises StreamBroken when a record is damaged."""
    try:
        return [[Record(decode(data), data) for data in transaction] for transaction in transactions]
    except msgspec.DecodeError as error:
        raise StreamBroken(f"a received record cannot be read: {error}") from error


def newest_stamp(transactions: Sequence[Sequence[Record]]) -> Stamp | None:
    """Return the greatest stamp of the records, None when there are none."""
    return max((record.envelope.stamp for part in transactions for record in part), default=None)


def unseen(cursor: Position, epoch: int, transactions: Sequence[Sequence[Record]]) -> list[list[Record]]:
    """Return the records after ``cursor``, of which each must follow the one before it.

    Records up to the cursor are here already (a stream that was cut and resumed repeats some). Raises
    StreamBroken when one is missing, when an epoch goes back, or is later than the ``epoch`` of the stream.
    """
    here = cursor
    result = []
    for transaction in transactions:
        rest = []
        for record in transaction:
            position = record.envelope.position
            if position.sequence <= cursor.sequence:
                if position.epoch > cursor.epoch:
                    raise StreamBroken(f"record {position} would replace what is held here up to {cursor}")
                continue
            if position.sequence != here.sequence + 1:
                raise StreamBroken(f"wanted the record after {here}, found {position}: some are missing")
            if not here.epoch <= position.epoch <= epoch:
                raise StreamBroken(f"record {position} after {here} in a stream of epoch {epoch}")
            here = position
            rest.append(record)
        if rest:
            result.append(rest)
    return result


def steps(
    transactions: Sequence[Sequence[Record]], entries: Entries, limit: int = MAX_WRITES_PER_TRANSACTION
) -> list[Step]:
    """Put whole transactions together as long as no key repeats and at most ``limit`` writes result.

    Raises StreamBroken when one transaction alone cannot be written.
    """
    result: list[Step] = []
    keys: set[bytes] = set()
    for transaction in transactions:
        requests = list(entries([record.envelope for record in transaction]))
        own = [keyspace.data_key(record.envelope.key) for record in transaction]
        own += [write.key for write in requests]
        if len(set(own)) != len(own) or len(own) + RESERVED_WRITES > limit:
            where = transaction[0].envelope.position
            raise StreamBroken(f"the transaction at {where} repeats a key or has more than {limit} writes")
        cursor = transaction[-1].envelope.position
        if result and keys.isdisjoint(own) and len(keys) + len(own) + RESERVED_WRITES <= limit:
            last = result[-1]
            result[-1] = Step([*last.records, *transaction], [*last.entries, *requests], cursor)
            keys.update(own)
        else:
            result.append(Step(list(transaction), requests, cursor))
            keys = set(own)
    return result
