# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A federation store in memory, with faults on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.federation.interface import FederationStoreError, Versioned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class MemoryFederationStore:
    """Implements ``grey.federation.interface.FederationStore``.

    ``before`` and ``after`` run around each operation, with its name; FederationStoreError in ``after`` makes
    the outcome of a swap unknown although it was carried out.
    """

    def __init__(self) -> None:
        self.records: dict[str, Versioned] = {}
        self.revision = 0
        self.calls: list[str] = []
        self.down = False
        self.before: Callable[[str], Awaitable[None]] | None = None
        self.after: Callable[[str], Awaitable[None]] | None = None

    async def get(self, key: str) -> Versioned | None:
        await self._enter("get")
        found = self.records.get(key)
        await self._leave("get")
        return found

    async def list(self, prefix: str) -> dict[str, Versioned]:
        await self._enter("list")
        found = {key: value for key, value in self.records.items() if key.startswith(prefix)}
        await self._leave("list")
        return found

    async def swap(self, key: str, value: bytes, *, expected: int | None) -> bool:
        await self._enter("swap")
        there = self.records.get(key)
        written = (there.version if there else None) == expected
        if written:
            self._write(key, value)
        await self._leave("swap")
        return written

    async def put(self, key: str, value: bytes) -> None:
        await self._enter("put")
        self._write(key, value)
        await self._leave("put")

    async def close(self) -> None:
        self.calls.append("close")

    def _write(self, key: str, value: bytes) -> None:
        self.revision += 1
        self.records[key] = Versioned(value, self.revision)

    async def _enter(self, what: str) -> None:
        self.calls.append(what)
        if self.before is not None:
            await self.before(what)
        if self.down:
            raise FederationStoreError("the store is down")

    async def _leave(self, what: str) -> None:
        if self.after is not None:
            await self.after(what)
