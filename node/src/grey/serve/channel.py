# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A WebSocket, of either end, as the channel that replication speaks through."""

from __future__ import annotations

import aiohttp
from aiohttp import web

from grey.replicate.channel import ChannelClosed

HEARTBEAT_SECONDS = 10.0
"""A peer that does not answer a ping for half of this is gone: its host may have died without a word."""
CLOSE_SECONDS = 2.0


class WebSocketChannel:
    """Implements ``grey.replicate.channel.Channel``."""

    def __init__(self, socket: web.WebSocketResponse | aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        """Send a message, waiting while the buffers are full; raises ChannelClosed."""
        try:
            await self._socket.send_bytes(message)
        except (ConnectionError, aiohttp.ClientError, RuntimeError) as error:
            raise ChannelClosed(f"the connection broke while sending: {error}") from error

    async def receive(self) -> bytes:
        """Return the next message; raises ChannelClosed when there will be none."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data
        if message.type is aiohttp.WSMsgType.ERROR:
            raise ChannelClosed(f"the connection broke: {message.data or self._socket.exception()}")
        if message.type is aiohttp.WSMsgType.TEXT:
            raise ChannelClosed("the peer sent text, this protocol is binary")
        raise ChannelClosed(f"the peer closed the connection ({self._socket.close_code})")

    async def close(self) -> None:
        """Close both directions. Idempotent."""
        await self._socket.close()
