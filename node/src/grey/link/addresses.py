# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of a host, looked up once in a while."""

from __future__ import annotations

import ipaddress
import math
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

KEPT_SECONDS = 30.0
"""How long the answer of the resolver is used; an older one still counts when the resolver fails."""


class Addresses:
    """Resolves hosts and keeps the answers for a while."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver
        self._known: dict[str, tuple[float, list[str]]] = {}

    async def of(self, host: str, now: float) -> list[str]:
        """Return the addresses of a host (of an address: itself). Raises OSError when it has none."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        known = self._known.get(host)
        if known is not None and now - known[0] < KEPT_SECONDS:
            return known[1]
        try:
            found = [each["host"] for each in await self._resolver.resolve(host, 0, socket.AF_UNSPEC)]
        except OSError:
            if known is None:
                raise
            found = known[1]
        if not found:
            raise OSError(f"{host} has no address")
        self._known[host] = (now, found)
        return found

    def doubt(self, host: str) -> None:
        """Ask the resolver again next time: none of the host's addresses answers."""
        if host in self._known:
            self._known[host] = (-math.inf, self._known[host][1])

    async def close(self) -> None:
        """Release the resolver."""
        await self._resolver.close()
