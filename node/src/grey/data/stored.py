# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the records that a store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from grey.data import keyspace
from grey.record.envelope import Envelope, decode
from grey.store.interface import StoreDamaged

if TYPE_CHECKING:
    from grey.store.interface import Item


def decode_item(item: Item) -> Envelope:
    """Read the envelope of a stored key; raises StoreDamaged."""
    return decode_value(item.key, item.value)


def decode_value(stored_key: bytes, value: bytes) -> Envelope:
    """Read the envelope stored under ``stored_key``; raises StoreDamaged."""
    try:
        return decode(value)
    except msgspec.DecodeError as error:
        raise StoreDamaged(
            f"the record of key {keyspace.user_key(stored_key)!r} cannot be read: {error}; restore a backup, "
            f"or copy from another cluster"
        ) from error
