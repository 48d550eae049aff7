# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much is taken at once: requests, requests per second of a client, and the bytes of large bodies."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from grey.link.names import peer_names
from grey.serve import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

MAX_CLIENTS = 10_000
"""How many clients' rates are remembered; the one not heard of for the longest is forgotten."""

LARGE_BYTES = 64 * 1024
"""Bodies and answers from this size on are counted; smaller ones are bounded by the requests at once."""

LARGE_TOTAL_BYTES = 256 * 1024 * 1024
"""What all large bodies and answers on their way may take together."""


class Rates:
    """At most so many requests per second of each client, and as many at once after a pause (GCRA).

    A decision takes one number per client; the libraries for this keep a list of times or wait in queues.
    """

    def __init__(self, per_second: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``per_second`` is at least 1."""
        self.per_second = per_second
        self._gap = 1.0 / per_second
        self._clock = clock
        # When a client's next request would come if it sent them evenly; in the past for one that pauses.
        self._due: OrderedDict[str, float] = OrderedDict()

    def wait_seconds(self, client: str) -> float:
        """Count one request and return 0.0; or count nothing and return how long to wait."""
        now = self._clock()
        due = max(self._due.get(client, now), now)
        over = due - now - (1.0 - self._gap)
        if over > 1e-9:
            return over
        self._due[client] = due + self._gap
        self._due.move_to_end(client)
        if len(self._due) > MAX_CLIENTS:
            self._due.popitem(last=False)
        return 0.0


class Budget:
    """The bytes that large bodies and answers hold at the moment."""

    def __init__(self, total_bytes: int = LARGE_TOTAL_BYTES) -> None:
        self._left = total_bytes

    def take(self, count: int) -> None:
        """Take bytes, which the caller gives back; raises ApiError (503 ``overloaded``)."""
        if count > self._left:
            raise errors.overloaded("too many large values are on their way at once")
        self._left -= count

    def give(self, count: int) -> None:
        """Give bytes back."""
        self._left += count

    def held(self, count: int) -> Held:
        """Hold bytes inside a ``with``; entering raises ApiError (503 ``overloaded``)."""
        return Held(self, count)


class Held:
    """Bytes of a budget that are held inside a ``with``."""

    def __init__(self, budget: Budget, count: int) -> None:
        self._budget = budget
        self._count = count

    def __enter__(self) -> None:
        self._budget.take(self._count)

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._count)


def client_name(request: web.BaseRequest) -> str:
    """Return who asks: the name in the client's certificate, else its address."""
    transport = request.transport
    if transport is None:
        return "nobody"
    certificate = transport.get_extra_info("peercert")
    if certificate:
        names = peer_names(certificate)
        name = next(iter(names.dns), None) or names.common_name
        if name:
            return name
    address = transport.get_extra_info("peername")
    return str(address[0]) if address else "nobody"
