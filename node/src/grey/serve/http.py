# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few pieces of HTTP that the interfaces share: exact paths, strict parameters, bounded bodies, JSON.

The paths are taken raw: a web framework would fold ``..`` and decode ``%2F``, and keys may be any bytes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web

from grey.serve.answer import Answer
from grey.serve.encoding import Unpacker
from grey.serve.errors import ApiError, bad_request, too_large, too_slow, unknown_encoding
from grey.serve.limits import LARGE_BYTES

BODY_SECONDS = 30.0
"""How long the body of one request may take to arrive."""

VALUE_TYPE = "application/octet-stream"
JSON_TYPE = "application/json"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_ENCODED = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*", re.ASCII)
_JSON_KEY_SAFE = frozenset(range(0x21, 0x7F)) - {0x25}
_JSON_KEY = [chr(byte) if byte in _JSON_KEY_SAFE else f"%{byte:02X}" for byte in range(256)]
_JSON_KEY_TEXT = re.compile(r"(?:[!-$&-~]|%[0-9A-F]{2})*", re.ASCII)


class ClientGone(Exception):
    """The client closed the connection before its request was complete: nobody waits for an answer."""


def split_target(request: web.BaseRequest) -> tuple[str, str]:
    """Return the raw path and the raw query of a request."""
    target = request.raw_path
    if not target.startswith("/"):
        # The absolute form (RFC 9112, section 3.2.2) is allowed to every client.
        _, _, rest = target.partition("://")
        target = "/" + rest.partition("/")[2]
    path, _, query = target.partition("?")
    return path, query


def percent_decode(text: str, what: str) -> bytes:
    """Return the bytes behind a percent-encoded text; refuses what is not one."""
    if "%" not in text and text.isascii() and text.isprintable():
        return text.encode("ascii")
    if not text.isascii() or not _ENCODED.fullmatch(text):
        raise bad_request(f"{what} must be percent-encoded ASCII (%XX), found {text[:100]!r}")
    return unquote_to_bytes(text)


def key_text(key: bytes) -> str:
    """Return the one form in which a key stands in JSON."""
    text = key.decode("latin-1")
    if text.isascii() and text.isprintable() and " " not in text and "%" not in text:
        return text
    return "".join([_JSON_KEY[byte] for byte in key])


def key_from_text(text: str) -> bytes:
    """Read a key as it stands in JSON; refuses every other form of it."""
    key = unquote_to_bytes(text) if _JSON_KEY_TEXT.fullmatch(text) else None
    if key is None or key_text(key) != text:
        raise bad_request(
            "in JSON a key is printable ASCII in which % and every other byte, and no more, "
            f"stand as %XX in capitals; found {text[:100]!r}"
        )
    return key


def query(text: str, allowed: Iterable[str]) -> dict[str, bytes]:
    """Return the parameters of a query; refuses unknown and repeated ones."""
    found: dict[str, bytes] = {}
    if not text:
        return found
    known = tuple(allowed)
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        if name not in known:
            wanted = ", ".join(known) if known else "none"
            raise bad_request(f"unknown parameter {name[:100]!r}; known here: {wanted}")
        if name in found:
            raise bad_request(f"the parameter {name} is given twice")
        found[name] = percent_decode(value.replace("+", "%20"), f"the parameter {name}")
    return found


def text_of(parameters: dict[str, bytes], name: str) -> str | None:
    """Return a parameter that is plain text, None when it is absent."""
    value = parameters.get(name)
    return None if value is None else value.decode("utf-8", "backslashreplace")


_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(us|ms|s|m|h|d)", re.ASCII)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str, name: str) -> float:
    """Read a duration such as 500ms or 5s."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise bad_request(f"{name} must be a duration such as 500ms or 5s, found {text[:100]!r}")
    return float(match[1]) * _UNITS[match[2]]


def large_body(request: web.BaseRequest, limit_bytes: int) -> int:
    """Return what a body may come to take; 0 for a small one, which nobody needs to count."""
    length = request.content_length
    if length is None or "Content-Encoding" in request.headers:
        return limit_bytes if length != 0 and request.can_read_body else 0
    return 0 if length < LARGE_BYTES else min(length, limit_bytes)


async def read_body(request: web.BaseRequest, limit_bytes: int, what: str) -> bytes:
    """Return the body, unpacked; stops at the limit without reading the rest.

    Raises ApiError, ClientGone.
    """
    unpacker = _unpacker(request, limit_bytes, what)
    most = limit_bytes if unpacker is None else limit_bytes + limit_bytes // 64 + 4096
    length = request.content_length
    if length is not None and length > most:
        raise too_large(what, limit_bytes)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    try:
        if request.content.is_eof():
            # Most bodies came whole with their headers.
            part = request.content.read_nowait()
            if len(part) > most:
                raise too_large(what, limit_bytes)
            parts = [part if unpacker is None else unpacker.feed(part)]
        else:
            parts = await _read_parts(request, most, unpacker)
    except _TooMuch:
        raise too_large(what, limit_bytes) from None
    except TimeoutError:
        raise too_slow(what, BODY_SECONDS) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise ClientGone from error
    if unpacker is not None:
        unpacker.end()
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _TooMuch(Exception):
    """A body is longer than it may be."""


async def _read_parts(request: web.BaseRequest, most: int, unpacker: Unpacker | None) -> list[bytes]:
    parts: list[bytes] = []
    size = 0
    async with asyncio.timeout(BODY_SECONDS):
        while part := await request.content.readany():
            size += len(part)
            if size > most:
                raise _TooMuch
            parts.append(part if unpacker is None else unpacker.feed(part))
    return parts


def _unpacker(request: web.BaseRequest, limit_bytes: int, what: str) -> Unpacker | None:
    if "Content-Encoding" not in request.headers:
        return None
    encoding = ",".join(request.headers.getall("Content-Encoding")).strip().lower()
    if encoding in {"gzip", "x-gzip"}:
        return Unpacker(limit_bytes, what)
    if encoding in {"", "identity"}:
        return None
    raise unknown_encoding(encoding)


def json_response(document: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer with a JSON document."""
    fields = {"Content-Type": JSON_TYPE, **headers} if headers else {"Content-Type": JSON_TYPE}
    return Answer(status, msgspec.json.encode(document), fields)


def error_response(error: ApiError) -> Answer:
    """Answer with an error."""
    return Answer(error.status, error.body(), {"Content-Type": JSON_TYPE, **error.headers})
