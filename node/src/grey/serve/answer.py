# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer that is known as a whole before it is sent: its head and body go out in one write.

aiohttp's own responses may be changed, streamed and compressed until the last moment, which costs a fifth of
the time of a request.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

_ONE_WRITE_BYTES = 64 * 1024
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_NO_BODY = frozenset({204, 304})

_date = (0, "")


class Answer(web.StreamResponse):
    """Status, header fields and body. The fields' names and values are ours: they hold no line breaks."""

    def __init__(self, status: int, body: bytes = b"", fields: dict[str, str] | None = None) -> None:
        super().__init__(status=status)
        self.body = body
        self.fields = fields or {}

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything, once; raises ConnectionResetError when the client is gone."""
        if self._eof_sent:
            return None
        self._eof_sent = True
        keep_alive = request.keep_alive and self._keep_alive is not False
        self._keep_alive = keep_alive
        parts = [_STATUS_LINES[self.status]]
        parts += [f"{name}: {value}\r\n" for name, value in self.fields.items()]
        if not keep_alive:
            parts.append("Connection: close\r\n")
        elif request.version != HttpVersion11:
            parts.append("Connection: keep-alive\r\n")
        bodiless = self.status in _NO_BODY
        if not bodiless:
            parts.append(f"Content-Length: {len(self.body)}\r\n")
        parts.append(_date_line())
        head = "".join(parts).encode("latin-1")
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if bodiless or request.method == "HEAD":
            transport.write(head)
        elif len(self.body) < _ONE_WRITE_BYTES:
            transport.write(head + self.body)
        else:
            transport.writelines((head, self.body))
        # A client that takes nothing must not be written for on and on.
        await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: ``prepare`` sent everything."""


def _date_line() -> str:
    """Return the header field Date with the end of the head, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n\r\n")
    return _date[1]
