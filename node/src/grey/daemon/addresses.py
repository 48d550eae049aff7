# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of a host, one per node, in the order in which they are to be tried."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.link.addresses import Addresses


class OrderedAddresses:
    """Remembers which addresses of a host worked: the one that failed last comes last."""

    def __init__(self, addresses: Addresses, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._addresses = addresses
        self._monotonic = monotonic
        self._orders: dict[str, list[str]] = {}

    async def of(self, host: str) -> list[str]:
        """Return the addresses of a host (of an address: itself). Raises OSError when it has none."""
        found = await self._addresses.of(host, self._monotonic())
        # What was learned of those that are still there counts on.
        learned = [address for address in self._orders.get(host, ()) if address in found]
        self._orders[host] = list(dict.fromkeys([*learned, *found]))
        return list(self._orders[host])

    def good(self, host: str, address: str) -> None:
        """Try this one first from now on."""
        self._move(host, address, first=True)

    def bad(self, host: str, address: str) -> None:
        """Try this one last from now on."""
        self._move(host, address, first=False)

    def _move(self, host: str, address: str, *, first: bool) -> None:
        order = self._orders.get(host, [])
        if address in order:
            order.remove(address)
            order.insert(0 if first else len(order), address)

    async def close(self) -> None:
        """Release the resolver."""
        await self._addresses.close()
