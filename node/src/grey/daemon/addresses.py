# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of a host, one per node, in the order in which they are to be tried."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import TYPE_CHECKING

from grey.link.resolver import NamesResolver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

KEPT_SECONDS = 30.0
"""How long an answer of the resolver is used; an older one still counts when the resolver fails."""


class Addresses:
    """Resolves hosts, and remembers which addresses worked: the one that failed last comes last."""

    def __init__(
        self, names: Mapping[str, Sequence[str]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """``names`` maps host names to addresses, before the system's resolver is asked."""
        self._resolver = NamesResolver(names)
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, list[str]]] = {}

    async def of(self, host: str) -> list[str]:
        """Return the addresses of a host (of an address: itself). Raises OSError when it has none."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        known = self._known.get(host)
        if known is not None and self._monotonic() - known[0] < KEPT_SECONDS:
            return list(known[1])
        try:
            found = [each["host"] for each in await self._resolver.resolve(host, 0, socket.AF_UNSPEC)]
        except OSError:
            if known is None:
                raise
            found = known[1]
        if not found:
            raise OSError(f"{host} has no address")
        if known is not None:
            # What was learned of those that are still there counts on.
            before = [address for address in known[1] if address in found]
            found = [*before, *(address for address in found if address not in before)]
        self._known[host] = (self._monotonic(), list(dict.fromkeys(found)))
        return list(self._known[host][1])

    def good(self, host: str, address: str) -> None:
        """Try this one first from now on."""
        self._move(host, address, 0)

    def bad(self, host: str, address: str) -> None:
        """Try this one last from now on."""
        self._move(host, address, -1)

    def _move(self, host: str, address: str, place: int) -> None:
        known = self._known.get(host)
        if known is None or address not in known[1]:
            return
        known[1].remove(address)
        known[1].insert(len(known[1]) if place else 0, address)

    async def close(self) -> None:
        """Release the resolver."""
        await self._resolver.close()
