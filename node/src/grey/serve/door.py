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

from grey.serve import errors
from grey.serve.http import ClientGone, error_response

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


class Door:
    """A handler for ``aiohttp.web.Server`` around the routes of one interface."""

    def __init__(
        self,
        route: Route,
        *,
        translate: Translate,
        watch: Watch,
        max_waiting: int = 1024,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``max_waiting`` requests are served at once; more are shed with ``overloaded``."""
        self._route = route
        self._translate = translate
        self._watch = watch
        self._max_waiting = max_waiting
        self._clock = clock
        self._waiting = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        started = self._clock()
        operation, result = "other", "ok"
        self._waiting += 1
        try:
            self._admit()
            operation, answer = self._route(request)
            return await answer
        except errors.ApiError as error:
            result = error.code
            return error_response(error)
        except ClientGone:
            result = "client_gone"
            return web.Response(status=400)
        except asyncio.CancelledError:
            result = "cancelled"
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: every fault gets an answer and an incident
            known = self._translate(error) or self._incident(operation, error)
            result = known.code
            return error_response(known)
        finally:
            self._waiting -= 1
            self._watch.observe(operation, result, self._clock() - started)

    def _admit(self) -> None:
        if self._waiting > self._max_waiting:
            raise errors.overloaded(f"{self._max_waiting} requests are being served already")

    @staticmethod
    def _incident(operation: str, error: Exception) -> errors.ApiError:
        incident = secrets.token_hex(6)
        log.error("request failed incident=%s operation=%s", incident, operation, exc_info=error)
        return errors.internal(incident)
