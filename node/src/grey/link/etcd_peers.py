# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""With how many others a member of an etcd is connected: it says so on its metrics page, nowhere else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp

from grey.link.etcd_fault import MemberFault
from grey.link.tls import TlsError, client_context

if TYPE_CHECKING:
    from grey.link.tls import TlsFiles

_ACTIVE = re.compile(rb"^etcd_network_active_peers\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


class Peers:
    """The other members, as the member at ``endpoint`` sees them."""

    def __init__(self, endpoint: str, tls: TlsFiles | None) -> None:
        """``endpoint`` is ``host:port``, or ``unix:/PATH`` without ``tls``."""
        self._endpoint = endpoint
        self._tls = tls

    async def connected(self, timeout_seconds: float) -> int:
        """Return how many there are; raises MemberFault.

        The page has some 150 KB: ask a few times a minute, not a second.
        """
        try:
            async with (
                aiohttp.ClientSession(
                    connector=self._connector(), timeout=aiohttp.ClientTimeout(timeout_seconds)
                ) as session,
                session.get(self._url(), raise_for_status=True) as answer,
            ):
                page = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError, TlsError) as fault:
            raise MemberFault(f"no metrics: {fault or type(fault).__name__}", carried_out=False) from fault
        return active_peers(page)

    def _connector(self) -> aiohttp.BaseConnector:
        if self._tls is None:
            return aiohttp.UnixConnector(self._endpoint.removeprefix("unix:"))
        return aiohttp.TCPConnector(ssl=client_context(self._tls))

    def _url(self) -> str:
        return "http://engine/metrics" if self._tls is None else f"https://{self._endpoint}/metrics"


def active_peers(page: bytes) -> int:
    """Return how many peers a metrics page counts as connected."""
    return sum(float(value) > 0 for value in _ACTIVE.findall(page))
