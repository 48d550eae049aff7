# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an engine is: its size, its alarms, what it compacted; and giving back the space that this freed."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

from grey.link.etcd_alarm import SPACE
from grey.link.etcd_fault import MemberFault
from grey.store import etcd_wire
from grey.store.etcd_calls import COMPACTED
from grey.store.interface import StoreStatus

if TYPE_CHECKING:
    from grey.store.etcd_calls import Calls

_log = logging.getLogger(__name__)

_ALARM = re.compile(r"memberID:(\d+) alarm:(\w+)")

DEFRAGMENT_SECONDS = 120.0
"""A member answers nothing while it defragments; some 100 MiB take a second."""

_PEERS_SECONDS = 5.0
# Parts: of the quota, of the size on disk, of the quota.
_FULL = 0.8
_WORTH_IT = 0.5
_ROOM = 0.9


class Upkeep:
    """The state of one member, and what it needs from time to time."""

    def __init__(self, calls: Calls, quota_bytes: int | None) -> None:
        self._calls = calls
        self._quota_bytes = quota_bytes
        self._connected = 0
        self._peers_until = 0.0
        self._compacted = 0
        self._looked_at = 0
        self._defragmented = 0

    async def status(self) -> StoreStatus:
        """Ask the member beside this node; needs no majority. Raises MemberFault."""
        found = await self._calls.status()
        return StoreStatus(
            revision=etcd_wire.from_etcd(found.header.revision),
            compacted=await self.compacted(),
            bytes=found.dbSize,
            used_bytes=found.dbSizeInUse,
            limit_bytes=self._quota_bytes,
            alarms=tuple(sorted({kind for _, kind in _alarms(found)})),
            leader=found.leader == found.header.member_id,
            majority=bool(found.leader),
            members=await self._calls.members(),
            reachable=1 + await self._peers(),
        )

    async def _peers(self) -> int:
        """Return with how many others the member is connected, as it was a few seconds ago at most."""
        now = asyncio.get_running_loop().time()
        if now >= self._peers_until:
            try:
                self._connected = await self._calls.connected_peers()
            except MemberFault as fault:
                _log.debug("the engine does not say who it is connected with: %s", fault)
                self._connected = 0
            self._peers_until = asyncio.get_running_loop().time() + _PEERS_SECONDS
        return self._connected

    async def is_kept(self, revision: int) -> bool:
        """Say whether a revision that exists can still be asked for. Raises MemberFault."""
        try:
            await self._calls.range(etcd_wire.presence(revision))
        except MemberFault as fault:
            if fault.said == COMPACTED:
                return False
            raise
        return True

    async def compacted(self) -> int:
        """Return the newest compacted revision: etcd does not tell it. Raises MemberFault."""
        low = self._compacted
        if await self.is_kept(low):
            return low
        high = etcd_wire.from_etcd((await self._calls.status()).header.revision)
        while high - low > 1:  # low is compacted away; high is kept, since the newest always is
            middle = (low + high) // 2
            if await self.is_kept(middle):
                high = middle
            else:
                low = middle
        self._compacted = max(self._compacted, high)
        return self._compacted

    def note_compaction(self, revision: int) -> None:
        """Remember that the history up to ``revision`` is gone."""
        self._compacted = max(self._compacted, revision)

    async def reclaim(self) -> bool:
        """Give back what compaction freed, when the member is short of space and it is worth it.

        Lifts the member's space alarm when there is room again. To be called every minute or so, since the
        first call after a compaction only waits for the next. Returns whether anything was done; raises
        MemberFault.
        """
        found = await self._calls.status()
        quota = self._quota_bytes
        if quota is None:
            return False
        alarmed = (found.header.member_id, SPACE) in _alarms(found)
        freed = found.dbSize > _FULL * quota and found.dbSizeInUse < _WORTH_IT * found.dbSize
        if freed or (alarmed and await self._compacted_since()):
            _log.info("defragmenting the engine, which takes %d bytes", found.dbSize)
            await self._calls.defragment(DEFRAGMENT_SECONDS)
            self._defragmented = self._compacted
            found, freed = await self._calls.status(), True
        if alarmed and found.dbSize < _ROOM * quota:
            _log.info("lifting the engine's space alarm: %d of %d bytes are taken", found.dbSize, quota)
            await self._calls.lift_space_alarm(found.header.member_id)
            return True
        return bool(freed)

    async def _compacted_since(self) -> bool:
        """Say whether a compaction that has had its time is newer than the last defragmentation.

        A member that takes no writes does not notice that its data has become less.
        """
        before, self._looked_at = self._looked_at, await self.compacted()
        return before == self._looked_at > self._defragmented


def _alarms(status: Any) -> list[tuple[int, str]]:
    """Return member and kind of each alarm that is raised."""
    return [(int(match[1]), match[2]) for text in status.errors if (match := _ALARM.search(text)) is not None]
