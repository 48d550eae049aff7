# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of a cluster whose nodes share an engine: one identity for all of them, made once.

Any number of nodes may run ``greyd init`` at the same time: the engine lets one of them give the identity,
and the others take it over. Each node writes it into its own identity file, so that each of them notices an
engine that lost its data or was replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import msgspec

from grey.daemon.identity_file import (
    StateRefused,
    read_file,
    require_own,
    require_same,
    write_file,
)
from grey.data.identity import WrongIdentity, describe, new_identity, read_identity, write_identity
from grey.store.interface import CommitUncertain, EngineUnreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.data.identity import Identity
    from grey.store.interface import Store

RETRY_SECONDS = 0.5
WATCH_SECONDS = 2.0


class SharedData:
    """What one node knows, makes and demands of the engine that it shares."""

    def __init__(self, config: NodeFile, federation: Federation, store: Store) -> None:
        self._config = config
        self._federation = federation
        self._store = store
        self._where = f"the engine of {config.cluster} ({config.store.endpoint})"

    async def make(self, *, check: bool) -> tuple[bool, Identity | None]:
        """Make what is missing; return whether anything was, and whose data it is now.

        With ``check`` nothing is changed. Raises StateRefused, StoreError, OSError.
        """
        known = read_file(self._config)
        if known is not None:
            await self.confirm(known)
            return False, known
        held = await self._held()
        if held is None and check:
            return True, None
        if held is None:
            held = await self._give_identity()
        require_own(self._config, self._federation, held, self._where)
        own = msgspec.structs.replace(held, node=self._config.name)
        if not check:
            write_file(self._config, own)
        return True, own

    async def confirm(self, known: Identity) -> None:
        """Demand that the engine holds what the identity file says. Raises StateRefused, StoreError."""
        require_own(self._config, self._federation, known, self._config.identity_file)
        held = await read_identity(self._store)
        if held is None:
            raise StateRefused(
                f"{self._config.identity_file} says that {self._where} holds the data {describe(known)}, but "
                "the engine holds nobody's: its data is gone, or it is another engine. Put the data back "
                "(greyd snapshot restore). If it is lost for good: greyd forget-data, delete this file on "
                "every node of the cluster, greyd init, and it is copied from the primary"
            )
        require_same(held, known, self._where, self._config.identity_file)

    async def watch(self, known: Identity) -> None:
        """Confirm it again and again, until cancelled: an engine can be replaced under a running node.

        Raises StateRefused and StoreDamaged. An engine that does not answer is waited for.
        """
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with contextlib.suppress(EngineUnreachable):
                await self.confirm(known)

    async def _held(self) -> Identity | None:
        """Return the identity in the engine; None when it is empty. Raises StateRefused."""
        # Asked first: what another node writes meanwhile must not look like data without an identity.
        before = await self._store.range(b"", None, limit=1)
        held = await read_identity(self._store)
        if held is None and before.revision > 0:
            raise StateRefused(
                f"{self._where} holds data that belongs to nobody: it was not made by greyd init. "
                "Start an empty engine, or correct node.store.endpoint in the node's file"
            )
        return held

    async def _give_identity(self) -> Identity:
        identity = new_identity(self._federation.name, self._config.cluster, None)
        try:
            await write_identity(self._store, identity)
        except WrongIdentity as taken:
            return taken.held
        except CommitUncertain:
            held = await read_identity(self._store)
            if held is None:
                raise
            return held
        return identity


async def patiently(
    work: Callable[[], Awaitable[tuple[bool, Identity | None]]], wait_seconds: float
) -> tuple[bool, Identity | None]:
    """Carry out ``work``, again while the engine cannot be reached, for so many seconds."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return await work()
        except (EngineUnreachable, CommitUncertain):
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)
