# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of every request: counted, limited, measured, and whatever goes wrong is answered in one form."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from grey.config.model import ApiLimits
from grey.serve import errors
from grey.serve.answer import Answer
from grey.serve.encoding import WORTH_BYTES, accepts_gzip, pack
from grey.serve.http import VALUE_TYPE, ClientGone, error_response
from grey.serve.limits import LARGE_BYTES, Budget, Rates, client_name

log = logging.getLogger("grey.serve")


class Watch(Protocol):
    """Who counts the operations (``grey.serve.metrics``)."""

    def observe(self, operation: str, result: str, seconds: float) -> None:
        """Note that an operation ended: ``result`` is ``ok`` or the error's code."""
        ...


Translate = Callable[[Exception], errors.ApiError | None]
"""Turns an exception of another room into the error that the client sees; None for a fault of the node."""

Route = Callable[[web.BaseRequest], tuple[str, Awaitable[web.StreamResponse]]]
"""Names the operation of a request and starts it; raises ApiError when nothing answers there."""


_HEALTH = ("/health", "/ready", "/primary", "/replica")
"""Never shed: a load balancer that is told "too busy" would send everybody to the other nodes."""
_STREAMS = frozenset({"watch", "stream"})
"""They last: who serves them limits them, and they are not among the requests at once."""


class Door:
    """A handler for ``aiohttp.web.Server`` around the routes of one interface."""

    def __init__(
        self,
        route: Route,
        *,
        translate: Translate,
        watch: Watch,
        limits: ApiLimits | None = None,
        gzip: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Requests over ``limits`` (None: the defaults) are refused; ``gzip`` packs for who accepts it."""
        self._route = route
        self._translate = translate
        self._watch = watch
        limits = limits or ApiLimits()
        self._max_waiting = limits.concurrent_requests
        self._rates = Rates(limits.requests_per_second) if limits.requests_per_second else None
        self._budget = Budget()
        self._gzip = gzip
        self._clock = clock
        self._waiting = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        started = self._clock()
        operation, result = "other", "ok"
        self._waiting += 1
        counted = 1
        try:
            if self._waiting > self._max_waiting or self._rates is not None:
                self._admit(request)
            operation, answer = self._route(request)
            if operation in _STREAMS:
                self._waiting -= 1
                counted = 0
            response = await answer
            if isinstance(response, Answer) and len(response.body) > WORTH_BYTES:
                await self._send_long(request, response)
        except errors.ApiError as error:
            result = error.code
            return error_response(error)
        except ClientGone:
            result = "client_gone"
            return Answer(400)
        except asyncio.CancelledError:
            result = "cancelled"
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: every fault gets an answer and an incident
            known = self._translate(error) or self._incident(operation, error)
            result = known.code
            return error_response(known)
        else:
            return response
        finally:
            self._waiting -= counted
            self._watch.observe(operation, result, self._clock() - started)

    def _admit(self, request: web.BaseRequest) -> None:
        if request.raw_path.startswith(_HEALTH):
            return
        if self._waiting > self._max_waiting:
            raise errors.overloaded(f"{self._max_waiting} requests are being served already")
        if self._rates is not None:
            client = client_name(request)
            wait = self._rates.wait_seconds(client)
            if wait > 0:
                raise errors.rate_limited(client, self._rates.per_second, wait)

    async def _send_long(self, request: web.BaseRequest, answer: Answer) -> None:
        """Pack an answer if that is wanted; send a large one here, where it counts as being served."""
        large = len(answer.body) >= LARGE_BYTES
        # What a write did is told in any case: a refusal would say that nothing was carried out.
        with self._budget.held(len(answer.body) if large and request.method == "GET" else 0):
            if self._gzip:
                await self._pack(request, answer)
            if large:
                try:
                    await answer.prepare(request)
                except ConnectionError as error:
                    raise ClientGone from error

    @staticmethod
    async def _pack(request: web.BaseRequest, answer: Answer) -> None:
        value = answer.fields.get("Content-Type") == VALUE_TYPE
        accepted = request.headers.get("Accept-Encoding", "")
        answer.fields["Vary"] = "Accept-Encoding"
        # Most HTTP libraries send a list without being asked: a value, which may well be packed already, is
        # packed for those who name gzip alone.
        if not (accepted.strip().lower() == "gzip" if value else accepts_gzip(accepted)):
            return
        packed = await pack(answer.body)
        if len(packed) < len(answer.body):
            answer.body = packed
            answer.fields["Content-Encoding"] = "gzip"

    @staticmethod
    def _incident(operation: str, error: Exception) -> errors.ApiError:
        incident = secrets.token_hex(6)
        log.error("request failed incident=%s operation=%s", incident, operation, exc_info=error)
        return errors.internal(incident)
