# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names: the map of the node's file first, then the system's resolver."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class NamesResolver(AbstractResolver):
    """Answers names of the map with their addresses, in order, and asks the system for all others."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        """``names`` maps host names to addresses. Raises ValueError when one is not an address."""
        self._names = {
            name.rstrip(".").lower(): tuple(ipaddress.ip_address(address) for address in addresses)
            for name, addresses in names.items()
        }
        self._system: ThreadedResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raises OSError when it has none."""
        known = self._names.get(host.rstrip(".").lower())
        if known is None:
            if self._system is None:
                self._system = ThreadedResolver()
            return await self._system.resolve(host, port, family)
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=families[address.version],
                proto=0,
                flags=int(socket.AI_NUMERICHOST),
            )
            for address in known
            if family in {socket.AF_UNSPEC, families[address.version]}
        ]

    async def close(self) -> None:
        """Release the system's resolver."""
        if self._system is not None:
            await self._system.close()
