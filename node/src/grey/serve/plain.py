# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port 9090: metrics and health, without TLS, for scrapers and load balancers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from grey.serve import errors, http

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.serve.health import HealthPages

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class PlainPages:
    """Routes and answers of port 9090."""

    def __init__(self, health: HealthPages, metrics: Callable[[], Awaitable[bytes]]) -> None:
        self._health = health
        self._metrics = metrics

    def route(self, request: web.BaseRequest) -> tuple[str, Awaitable[web.StreamResponse]]:
        """Name the operation of a request and start it (``grey.serve.door.Route``)."""
        path, query = http.split_target(request)
        if self._health.handles(path):
            return "health", self._health.answer(request, path, query)
        if path != "/metrics":
            raise errors.no_route(request.method, path[:200])
        if request.method not in {"GET", "HEAD"}:
            raise errors.method_not_allowed(request.method, path, "GET, HEAD")
        return "metrics", self._text()

    async def _text(self) -> web.Response:
        return web.Response(body=await self._metrics(), headers={"Content-Type": PROMETHEUS_TEXT})
