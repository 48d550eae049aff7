# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two written forms of a key: a percent-encoded path segment, and the one text form in JSON."""

from __future__ import annotations

import re
from urllib.parse import quote

_ESCAPE = re.compile(rb"%([0-9A-F]{2})")
_PLAIN = frozenset(range(0x21, 0x7F)) - {ord("%")}


def segment(key: bytes) -> str:
    """Return the path segment of a key; ``.`` and ``..`` are escaped, since they would vanish from a path."""
    if key in {b".", b".."}:
        return "%2E" * len(key)
    return quote(key, safe="")


def to_text(key: bytes) -> str:
    """Return the form of a key in JSON: ``%XX`` for ``%`` and for all but printable ASCII."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in key)


def from_text(text: str) -> bytes:
    """Read the form of a key in JSON. Raises ValueError unless it is exactly what ``to_text`` writes."""
    try:
        key = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text.encode("ascii"))
    except UnicodeEncodeError:
        key = b""
    if to_text(key) != text:
        raise ValueError(f"{text!r} is not a key in percent-encoded text: % and all but 0x21 to 0x7e are %XX")
    return key
