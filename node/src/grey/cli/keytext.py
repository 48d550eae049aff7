# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and values between bytes and what a terminal, a shell or JSON can hold."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING, Any

from grey.cli.errors import WRONG, CliError
from grey.client.keys import from_text, to_text

if TYPE_CHECKING:
    import datetime

    from grey.client import Item

ENCODINGS = ("utf8", "percent")


def key_bytes(text: str, encoding: str) -> bytes:
    """Read a key or a prefix from the command line. Raises CliError (exit 2)."""
    if encoding == "utf8":
        # Bytes that are not UTF-8 come from the shell as surrogates; they are refused with a hint.
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise CliError(
                "the key is not UTF-8", "write it with %XX and --key-encoding percent", code=WRONG
            ) from None
    try:
        return from_text(text)
    except ValueError as error:
        raise CliError(
            str(error), "give the key without --key-encoding percent, or escape it", code=WRONG
        ) from None


def shown(key: bytes, encoding: str) -> str:
    """Return a key as it is printed: as it is where that is possible, else with %XX as a whole."""
    return key.decode() if encoding == "utf8" and is_plain(key) else to_text(key)


def is_plain(key: bytes) -> bool:
    """Say whether a key can be printed as it is; with a % it would look like the percent form."""
    try:
        text = key.decode()
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeError:
        return False
    return text.isprintable() and "%" not in text


def text_of(data: bytes) -> str | None:
    """Return bytes as text, None when they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def key_fields(key: bytes) -> dict[str, str | None]:
    """Return what JSON says of a key."""
    return {"key": to_text(key), "key_text": text_of(key)}


def value_fields(value: bytes) -> dict[str, str | None]:
    """Return what JSON says of a value."""
    return {"value_base64": base64.b64encode(value).decode(), "value_text": text_of(value)}


def item_fields(item: Item) -> dict[str, Any]:
    """Return what JSON says of a key of a listing."""
    fields = {**key_fields(item.key), "position": str(item.position), "stamp": item.stamp}
    if item.value is not None:
        fields |= value_fields(item.value)
    return fields | expiry_fields(item.expires)


def expiry_fields(expires: datetime.datetime | None) -> dict[str, str]:
    """Return what JSON says of when a key is deleted: nothing of a key that stays."""
    return {} if expires is None else {"expires": expires.isoformat()}
