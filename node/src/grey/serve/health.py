# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health for load balancers: 200 or 503, and a body that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from grey.serve import http
from grey.serve.errors import method_not_allowed

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from grey.serve.answer import Answer
    from grey.serve.view import NodeView


class Health(msgspec.Struct):
    """The body of every health answer. ``lag_seconds`` is None on the primary and while it is unknown."""

    status: str
    cluster: str
    node: str
    role: str
    epoch: int | None
    lag_seconds: float | None
    problem: str | None


class HealthPages:
    """``/health``, ``/ready``, ``/primary`` and ``/replica``, on the API's port and on the metrics' port."""

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self._pages: dict[str, Callable[[str], str | None]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/primary": self._primary,
            "/replica": self._replica,
        }

    def handles(self, path: str) -> bool:
        """Whether the path is one of these pages."""
        return path in self._pages

    async def answer(self, request: web.BaseRequest, path: str, query: str) -> Answer:
        """Answer one of the pages."""
        if request.method not in {"GET", "HEAD"}:
            raise method_not_allowed(request.method, path, "GET, HEAD")
        return self._document(self._pages[path](query))

    def _document(self, why_not: str | None) -> Answer:
        view = self._view
        holder = view.role.holder()
        health = Health(
            status="ok" if why_not is None else "unavailable",
            cluster=view.cluster,
            node=view.node,
            role=view.role_name(),
            epoch=None if holder is None else holder.epoch,
            lag_seconds=None if view.holds_role() else view.shown_lag(),
            problem="; ".join(part for part in dict.fromkeys((why_not, view.problem())) if part) or None,
        )
        return http.json_response(health, status=200 if why_not is None else 503)

    def _health(self, query: str) -> None:
        http.query(query, ())

    def _ready(self, query: str) -> str | None:
        http.query(query, ())
        return self._view.not_ready()

    def _primary(self, query: str) -> str | None:
        http.query(query, ())
        return self._view.not_writable()

    def _replica(self, query: str) -> str | None:
        wanted = http.text_of(http.query(query, ("lag",)), "lag")
        limit = None if wanted is None else http.seconds_of(wanted, "lag")
        view = self._view
        if (reason := view.not_ready()) is not None:
            return reason
        if view.role_name() != "replica":
            return "this cluster is the primary" if view.holds_role() else "no primary is known"
        lag = view.shown_lag()
        if limit is not None and (lag is None or lag > limit):
            found = "unknown" if lag is None else f"{lag:.3f} s"
            return f"the lag is {found}, at most {limit:g} s was asked for"
        return None
