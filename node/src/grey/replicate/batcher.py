# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts the stream of a source into batches, at transaction boundaries only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from grey.record import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BATCH_BYTES = 4 * 1024 * 1024


class Batch(msgspec.Struct, frozen=True):
    """Whole transactions, each a list of encoded envelopes; ``upto`` is the position of the last record."""

    transactions: list[list[bytes]]
    records: int
    upto: Position


class Batcher:
    """Collects transactions until there are ``batch_size`` records or ``max_bytes`` bytes.

    A transaction that alone is larger becomes a batch of its own.
    """

    def __init__(self, batch_size: int, max_bytes: int = MAX_BATCH_BYTES) -> None:
        self._batch_size = batch_size
        self._max_bytes = max_bytes
        self._clear()

    def _clear(self) -> None:
        self._transactions: list[list[bytes]] = []
        self._records = 0
        self._bytes = 0
        self._upto: Position | None = None
        self._full = False

    def add(self, transaction: Sequence[bytes], upto: Position) -> bool:
        """Take a transaction that ends at ``upto``; say False when it must wait for the next batch."""
        size = sum(map(len, transaction))
        too_much = self._records + len(transaction) > self._batch_size or self._bytes + size > self._max_bytes
        if self._transactions and too_much:
            self._full = True
            return False
        self._transactions.append(list(transaction))
        self._records += len(transaction)
        self._bytes += size
        self._upto = upto
        self._full = self._records >= self._batch_size or self._bytes >= self._max_bytes
        return True

    @property
    def full(self) -> bool:
        """Whether waiting any longer adds nothing to the batch."""
        return self._full

    @property
    def empty(self) -> bool:
        """Whether there is nothing to ship."""
        return self._upto is None

    def take(self) -> Batch | None:
        """Return the batch and begin the next one; None when it is empty."""
        if self._upto is None:
            return None
        batch = Batch(self._transactions, self._records, self._upto)
        self._clear()
        return batch
