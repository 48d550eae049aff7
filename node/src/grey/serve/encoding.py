# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""gzip in both directions: what arrives never unpacks to more than its limit."""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib

from grey.serve import errors

WORTH_BYTES = 1024
"""Answers up to this size are not packed."""

_GZIP_WINDOW = 31  # zlib's number for: a gzip header, the largest window
_LEVEL = 1
_IN_A_THREAD_BYTES = 64 * 1024
_GZIP = re.compile(r"\s*(?:gzip|x-gzip|(\*))\s*(?:;\s*[qQ]\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?", re.ASCII)


class Unpacker:
    """Unpacks a gzip body that comes in parts."""

    def __init__(self, limit_bytes: int, what: str) -> None:
        """``limit_bytes`` bounds the unpacked bytes, ``what`` names the body in errors."""
        self._limit = limit_bytes
        self._what = what
        self._state = zlib.decompressobj(_GZIP_WINDOW)
        self._left = limit_bytes

    def feed(self, part: bytes) -> bytes:
        """Unpack a part; raises ApiError when it is damaged or the limit is passed."""
        if self._state.eof:
            raise errors.bad_request(f"{self._what}: more follows the end of its gzip form")
        try:
            found = self._state.decompress(part, self._left + 1)
        except zlib.error as error:
            raise errors.bad_request(
                f"{self._what} is not gzip as its Content-Encoding says: {error}"
            ) from None
        self._left -= len(found)
        if self._left < 0:
            raise errors.too_large(self._what, self._limit)
        if self._state.unused_data:
            raise errors.bad_request(f"{self._what}: more follows the end of its gzip form")
        return found

    def end(self) -> None:
        """Check that the body was whole; raises ApiError."""
        if not self._state.eof:
            raise errors.bad_request(f"{self._what}: its gzip form breaks off")


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding allows gzip (RFC 9110, section 12.5.3)."""
    by_star = False
    for part in header.lower().split(","):
        found = _GZIP.fullmatch(part)
        if found is not None:
            allowed = found[2] is None or float(found[2]) > 0
            if found[1] is None:
                return allowed
            by_star = allowed
    return by_star


async def pack(data: bytes) -> bytes:
    """Return the gzip form of some bytes; long ones are packed beside the event loop."""
    if len(data) < _IN_A_THREAD_BYTES:
        return gzip.compress(data, _LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, data, _LEVEL, mtime=0)
