# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The primary's end of replication: serves streams and pages of full copies while its fence is valid."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from grey.data.errors import Diverged
from grey.data.fence import WriteRefused
from grey.replicate import wire
from grey.replicate.channel import ChannelClosed
from grey.replicate.snapshot import read_page
from grey.replicate.stream import Stream
from grey.store.interface import Compacted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from grey.data.history import History
    from grey.federation.interface import RoleView
    from grey.record import Position
    from grey.replicate.channel import Channel
    from grey.store.interface import Store

HELLO_SECONDS = 10.0
"""How long a new connection may take to say Hello, and the last word may take to be sent."""

_log = logging.getLogger(__name__)


class Source:
    """Serves the records of this cluster's store to any number of followers.

    ``streams`` is the number of connected followers; ``records_shipped`` and ``batches_shipped`` count up.
    """

    def __init__(
        self,
        store: Store,
        history: History,
        role: RoleView,
        *,
        cluster: str,
        batch_size: int,
        interval_seconds: float,
        promotable: Collection[str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``promotable`` names the clusters that hold back compaction (None: every follower)."""
        self._store = store
        self._history = history
        self._role = role
        self._cluster = cluster
        self._batch_size = batch_size
        self._interval = interval_seconds
        self._promotable = promotable
        self._monotonic = monotonic
        self._confirmed: dict[str, Position] = {}
        self.streams = 0
        self.records_shipped = 0
        self.batches_shipped = 0

    async def serve(self, channel: Channel, peer_cluster: str) -> None:
        """Serve one stream until the channel closes or this cluster may not write any more.

        ``peer_cluster`` is the name that the peer's certificate proves. Does not close the channel.
        Raises StoreError when the store fails.
        """
        try:
            refused = await self._serve(channel, peer_cluster)
            async with asyncio.timeout(HELLO_SECONDS):
                await channel.send(wire.encode(refused))
        except ChannelClosed as closed:
            _log.info("the replication stream to %s ended: %s", peer_cluster, closed)
        except TimeoutError:
            _log.warning("the replication stream to %s ended: it fell silent", peer_cluster)
        except wire.ProtocolError as error:
            _log.warning("the replication stream to %s ended: %s", peer_cluster, error)

    async def snapshot_page(self, after: bytes | None) -> wire.SnapshotPage:
        """Return one page of a full copy.

        Raises ``wire.SourceRefused`` when this is not the primary, ``wire.ProtocolError`` for a token that is
        none, and StoreError.
        """
        try:
            epoch = self._role.epoch()
            page = await read_page(self._store, self._history, after, cluster=self._cluster, epoch=epoch)
            self._check_epoch(epoch)
        except WriteRefused as error:
            raise wire.SourceRefused(self._not_primary(error)) from error
        return page

    def confirmed(self) -> Position | None:
        """Return the lowest position that the known promotable followers hold; None when none is known.

        A follower is known from its first accepted Hello until this process ends.
        """
        counted = (
            position
            for cluster, position in self._confirmed.items()
            if self._promotable is None or cluster in self._promotable
        )
        return min(counted, default=None)

    async def _serve(self, channel: Channel, peer: str) -> wire.Refused:
        """Serve the stream; return the last word for the follower."""
        async with asyncio.timeout(HELLO_SECONDS):
            hello = wire.decode_from_follower(await channel.receive())
        if not isinstance(hello, wire.Hello) or hello.cluster != peer:
            raise wire.ProtocolError(f"wanted the Hello of {peer} first, found {hello}")
        if hello.version != wire.VERSION:
            return wire.Refused(
                "version",
                f"{self._cluster} speaks version {wire.VERSION} of the replication protocol, {peer} speaks "
                f"{hello.version}: install the same release on both",
            )
        after = hello.from_position
        try:
            epoch = self._role.epoch()
            try:
                revision = await self._history.revision_of(after)
                forked = await self._forked(hello, revision)
            finally:
                self._check_epoch(epoch)
            if forked is not None:
                return forked
            self._confirmed[peer] = after
            await self._welcome(channel, epoch)
            await self._stream(channel, peer, epoch, after, revision)
        except WriteRefused as error:
            return self._not_primary(error)
        except Diverged as error:
            return wire.Refused("diverged", f"{peer} stands at {after}: {error}")
        except Compacted as error:
            self._confirmed[peer] = after
            return wire.Refused("compacted", f"{self._cluster} no longer has what follows {after}: {error}")
        raise AssertionError("a stream always ends with a reason")

    async def _forked(self, hello: wire.Hello, revision: int) -> wire.Refused | None:
        """Return the refusal of a follower whose last record is another than the one of its position here.

        Records that one of the two no longer has prove nothing.
        """
        theirs, position = hello.last, hello.from_position
        if theirs is None:
            return None
        ours = await self._history.provenance_of(position, revision=revision)
        if ours is None or ours == theirs:
            return None
        return wire.Refused(
            "diverged",
            f"{hello.cluster} stands at {position}, where its record was written by {theirs.origin} at "
            f"{theirs.stamp}, that of {self._cluster} by {ours.origin} at {ours.stamp}: the history forked "
            f"within epoch {position.epoch}",
        )

    async def _welcome(self, channel: Channel, epoch: int) -> None:
        head = await self._history.position()
        self._check_epoch(epoch)
        await channel.send(wire.encode(wire.Welcome(wire.VERSION, self._cluster, epoch, head)))

    async def _stream(self, channel: Channel, peer: str, epoch: int, after: Position, revision: int) -> None:
        def confirmed(position: Position) -> None:
            self._confirmed[peer] = position

        def shipped(records: int) -> None:
            self.records_shipped += records
            self.batches_shipped += 1

        self.streams += 1
        try:
            await Stream(
                self._store,
                self._history,
                channel,
                check_role=lambda: self._check_epoch(epoch),
                after=after,
                revision=revision,
                batch_size=self._batch_size,
                interval_seconds=self._interval,
                monotonic=self._monotonic,
                confirmed=confirmed,
                shipped=shipped,
            ).run()
        finally:
            self.streams -= 1

    def _check_epoch(self, epoch: int) -> None:
        now = self._role.epoch()
        if now != epoch:
            raise EpochOver(f"epoch {epoch} is over, it is {now} now")

    def _not_primary(self, error: WriteRefused) -> wire.Refused:
        return wire.Refused("not_primary", f"{self._cluster} does not serve replicas now: {error}")


class EpochOver(WriteRefused):
    """The epoch in which a stream or a page began is not the present one."""
