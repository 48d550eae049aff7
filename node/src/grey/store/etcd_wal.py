# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose data an etcd data folder holds, without starting etcd: its log begins with the member's id.

A file of this write-ahead log is a row of frames: eight bytes of length (little endian; when there is
padding, the highest byte says how much), a record, padding. A record is a protobuf message of type, checksum
and data; the first of a file is a checksum, the second the metadata: the ids of the member and of its group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

_HEAD_BYTES = 4096
_LENGTH_BYTES = 8
_METADATA = 1


class Identity(msgspec.Struct, frozen=True):
    """The ids of a member and of its group."""

    member_id: int
    cluster_id: int


def identity(data_dir: Path) -> Identity | None:
    """Return whose data a folder holds; None when there is none, or it cannot be told. Raises OSError."""
    for log in sorted((data_dir / "member" / "wal").glob("*.wal")):
        with log.open("rb") as file:
            found = read(file.read(_HEAD_BYTES))
        if found is not None:
            return found
    return None


def read(head: bytes) -> Identity | None:
    """Read the beginning of a log file; None when it is not understood."""
    try:
        position = 0
        for _ in range(2):
            length = int.from_bytes(head[position : position + _LENGTH_BYTES], "little")
            padding = (length >> 56) & 0x7 if length >> 63 else 0
            size = length & ((1 << 56) - 1)
            start = position + _LENGTH_BYTES
            record = _message(head[start : start + size])
            if record.get(1) == _METADATA:
                ids = _message(_bytes(record[3]))
                return Identity(_number(ids[1]), _number(ids[2]))
            position = start + size + padding
    except (IndexError, KeyError, ValueError):
        return None
    return None


def _message(data: bytes) -> dict[int, int | bytes]:
    """Return the fields of a protobuf message of numbers and byte strings; raises IndexError, ValueError."""
    fields: dict[int, int | bytes] = {}
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        value, position = _varint(data, position)
        if key & 7 == 0:
            fields[key >> 3] = value
        elif key & 7 == 2:
            if position + value > len(data):
                raise ValueError("cut short")
            fields[key >> 3] = data[position : position + value]
            position += value
        else:
            raise ValueError("neither number nor bytes")
    return fields


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number")  # noqa: TRY004 - it is the file that is wrong
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes")  # noqa: TRY004
    return value
