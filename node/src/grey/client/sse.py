# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-sent events (HTML standard, section 9.2): bytes in any pieces become messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from grey.client.errors import BadAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MESSAGE_BYTES = 4_194_304
"""More than the largest value as base64, with its key; more than that is no event of the API."""

_END_OF_LINE = re.compile(rb"\r\n|\n|\r(?!\Z)")


class Message(msgspec.Struct, frozen=True):
    """One event as it came."""

    event: str
    id: str
    data: bytes


class Parser:
    """Holds what is not a whole message yet."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._scanned = 0
        self._event = ""
        self._id = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Take some bytes; return the messages that they complete. Raises BadAnswer for what is endless."""
        self._rest += piece
        start = 0
        # A carriage return at the very end may be half of a line's end: it waits for the next piece.
        while (end := _END_OF_LINE.search(self._rest, max(start, self._scanned))) is not None:
            line, start = bytes(self._rest[start : end.start()]), end.end()
            self._scanned = start
            message = self._line(line)
            if message is not None:
                yield message
        del self._rest[:start]
        self._scanned = max(0, len(self._rest) - 1)
        if self._size + len(self._rest) > MAX_MESSAGE_BYTES:
            raise BadAnswer(f"an event of the watch has more than {MAX_MESSAGE_BYTES} bytes")

    def _line(self, line: bytes) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id":
            self._id = value.decode(errors="replace")
        return None

    def _dispatch(self) -> Message | None:
        message = None
        if self._data or self._event:
            message = Message(self._event or "message", self._id, b"\n".join(self._data))
        self._event, self._data, self._size = "", [], 0
        return message
