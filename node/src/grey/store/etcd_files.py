# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be told of an etcd from the files in its data folder, while it does not run.

Source: ``wal/decoder.go`` of etcd for the frames of its log, ``walpb`` and ``etcdserverpb.Metadata`` for what
is in them; the same since etcd 3.0.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_METADATA = 1
_MOST_RECORDS = 4


def in_use(data_dir: Path) -> bool:
    """Say whether an etcd, running or frozen, has this data folder open. Raises OSError."""
    try:
        descriptor = os.open(data_dir / "member" / "snap" / "db", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def cluster_id(data_dir: Path) -> int | None:
    """Return which etcd cluster a member's data folder belongs to; None when it does not say.

    It follows from the token and the members that the cluster was begun with. Raises OSError.
    """
    for log in sorted((data_dir / "member" / "wal").glob("*.wal")):
        with log.open("rb") as file:
            for _ in range(_MOST_RECORDS):
                length = file.read(8)
                if len(length) < 8:
                    break
                (field,) = struct.unpack("<Q", length)
                padding = field >> 56 & 7 if field >> 63 else 0
                record = dict(_fields(file.read(field & ~(0xFF << 56))))
                file.read(padding)
                metadata = record.get(3)
                if record.get(1) == _METADATA and isinstance(metadata, bytes):
                    found = dict(_fields(metadata)).get(2)
                    return found if isinstance(found, int) else None
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give the fields of a protobuf message of numbers and bytes; ends where it is none."""
    place = 0
    while place < len(message):
        tag, place = _number(message, place)
        value, place = _number(message, place)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2:
            yield tag >> 3, message[place : place + value]
            place += value
        else:
            return


def _number(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            break
    return value, place
