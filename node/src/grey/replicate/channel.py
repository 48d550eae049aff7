# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two-way connection that replication runs over; handed in, so that a simulation can cut and delay it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from grey.record import Position
    from grey.replicate.wire import SnapshotPage


class ChannelClosed(Exception):
    """The connection is gone or could not be made; the message says why. Trying again may work."""


class Channel(Protocol):
    """Carries whole messages of at most ``wire.MAX_MESSAGE_BYTES``, in order, until it is closed."""

    async def send(self, message: bytes) -> None:
        """Send a message, waiting while the buffers are full; raises ChannelClosed."""
        ...

    async def receive(self) -> bytes:
        """Return the next message; raises ChannelClosed when there will be none."""
        ...

    async def close(self) -> None:
        """Close both directions; whoever waits on either end gets ChannelClosed. Idempotent."""
        ...


class Connect(Protocol):
    """Opens a channel to the node of a cluster that serves the stream; leaving the context closes it."""

    def __call__(self, cluster: str, position: Position, /) -> AbstractAsyncContextManager[Channel]:
        """Connect for the records after ``position``; entering raises ChannelClosed when it does not work."""
        ...


class FetchPage(Protocol):
    """Asks the node of a cluster for one page of a full copy."""

    async def __call__(self, cluster: str, after: bytes | None, /) -> SnapshotPage:
        """Return the page after a token (None: the first).

        Raises ChannelClosed when nobody answers and ``wire.SourceRefused`` when the source says no.
        """
        ...
