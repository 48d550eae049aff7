# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two ends of a replication channel in memory, and a role that does what a test says."""

from __future__ import annotations

import asyncio

from grey.data.fence import NotPrimary, WriteRefused
from grey.federation.interface import RoleRecord
from grey.replicate.channel import ChannelClosed


class PipeEnd:
    """One end; ``room`` bounds what the other end has not received yet."""

    def __init__(self, room: int) -> None:
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue(room)
        self.peer: PipeEnd = self
        self.closed = False

    async def send(self, message: bytes) -> None:
        if self.closed or self.peer.closed:
            raise ChannelClosed("the pipe is closed")
        await self.peer.inbox.put(message)

    async def receive(self) -> bytes:
        if self.closed:
            raise ChannelClosed("the pipe is closed")
        message = await self.inbox.get()
        if message is None:
            self.closed = True
            raise ChannelClosed("the pipe is closed")
        return message

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            if not self.peer.closed:
                await self.peer.inbox.put(None)


def pipe(room: int = 0) -> tuple[PipeEnd, PipeEnd]:
    """Return two connected ends; ``room`` 0 means no bound."""
    left, right = PipeEnd(room), PipeEnd(room)
    left.peer, right.peer = right, left
    return left, right


class FixedRole:
    """A ``RoleView``: ``record`` names the holder, ``refusal`` is why this node may not write."""

    def __init__(self, cluster: str, holder: str | None = "aws", epoch: int = 1) -> None:
        self.cluster = cluster
        self.record = None if holder is None else RoleRecord(holder, epoch, 1, "node")
        self.refusal: WriteRefused | None = None

    def epoch(self) -> int:
        if self.refusal is not None:
            raise self.refusal
        if self.record is None or self.record.cluster != self.cluster:
            raise NotPrimary(None if self.record is None else self.record.cluster)
        return self.record.epoch

    def holder(self) -> RoleRecord | None:
        return self.record

    def is_primary(self) -> bool:
        try:
            self.epoch()
        except WriteRefused:
            return False
        return True
