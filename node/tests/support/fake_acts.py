# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fake cluster can be told to do in place of its work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Act = Callable[[web.BaseRequest], Awaitable[web.Response | None]]
"""What a cluster does instead of its work; None: go on with it."""


def error(status: int, code: str, /, headers: dict[str, str] | None = None, **detail: Any) -> web.Response:
    body = {"error": {"code": code, "message": f"because {code}", "hint": f"do {code}", **detail}}
    return web.json_response(body, status=status, headers=headers)


def answer(status: int, code: str, /, headers: dict[str, str] | None = None, **detail: Any) -> Act:
    """Answer with an error of the API."""

    async def act(request: web.BaseRequest) -> web.Response | None:
        return error(status, code, headers, **detail)

    return act


def raw(status: int, body: bytes, headers: dict[str, str] | None = None) -> Act:
    """Answer with anything."""

    async def act(request: web.BaseRequest) -> web.Response | None:
        return web.Response(status=status, body=body, headers=headers)

    return act


def delay(seconds: float) -> Act:
    """Answer late."""

    async def act(request: web.BaseRequest) -> web.Response | None:
        await asyncio.sleep(seconds)
        return None

    return act


async def drop(request: web.BaseRequest) -> web.Response | None:
    """Break the connection and do nothing."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def freeze(request: web.BaseRequest) -> web.Response | None:
    """Never answer."""
    await asyncio.Event().wait()
    return None


def event(kind: str, position: str, data: object = None) -> bytes:
    """Return a server-sent event as the API writes it."""
    told = b"" if data is None else b"data: %s\n" % json.dumps(data).encode()
    return b"event: %s\nid: %s\n%s\n" % (kind.encode(), position.encode(), told)
