# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of a simulated node to the federation store and to the engine of its cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from grey.federation.interface import FederationStoreError, Versioned
from grey.store.interface import CommitUncertain, Compare, EngineUnreachable, Item, StoreError, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .simulated_node import Node


class Way:
    """A way to something that is asked: delays, losses, late and doubled requests, outages, freezes."""

    def __init__(self, node: Node, mean: float) -> None:
        self.node = node
        self.world = node.world
        self._mean = mean

    def _up(self) -> bool:
        raise NotImplementedError

    def _connected(self) -> bool:
        raise NotImplementedError

    async def _carry(self, carry_out: Callable[[], Any], *, repeats: bool) -> Any:
        """Carry out at the other end; raises TimeoutError when no answer comes."""
        from .simulated import TIMING

        await self.node.thawed()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[object] = loop.create_future()

        def arrive(*, reply: bool) -> None:
            if not self._up():
                return
            try:
                result = carry_out()
            except StoreError as error:
                if reply and not answer.done():
                    answer.set_exception(error)
                return
            if reply and not answer.done():
                answer.set_result(result)

        chance = self.world.random
        lossy = self.world.faulty("lossy") is not None
        back = 0.0
        if self._connected():
            mean = 0.4 if lossy else self._mean
            there, back = chance.expovariate(1 / mean), chance.expovariate(1 / mean)
            lost = lossy and chance.random() < 0.2
            silent = lossy and chance.random() < 0.3
            if repeats and lossy and chance.random() < 0.3:
                loop.call_later(there + chance.uniform(0.0, 20.0), lambda: arrive(reply=False))
            if not lost:
                loop.call_later(there, lambda: arrive(reply=not silent))
        try:
            async with asyncio.timeout(TIMING.store_timeout):
                result = await answer
                await asyncio.sleep(back)
            self.node.stall()
        finally:
            await self.node.thawed()
        return result


class Link(Way):
    """A node's way to the federation store."""

    def __init__(self, node: Node) -> None:
        super().__init__(node, 0.03)

    def _up(self) -> bool:
        return self.world.faulty("outage") is None

    def _connected(self) -> bool:
        return self.world.faulty("partition", self.node.index) is None

    async def get(self, key: str) -> Versioned | None:
        return await self._ask(lambda: self.world.records.get(key))

    async def list(self, prefix: str) -> dict[str, Versioned]:
        return await self._ask(lambda: {k: v for k, v in self.world.records.items() if k.startswith(prefix)})

    async def swap(self, key: str, value: bytes, *, expected: int | None) -> bool:
        sent = self.world.now
        return await self._ask(lambda: self.world.apply(self.node, key, value, expected, sent))

    async def put(self, key: str, value: bytes) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def _ask(self, carry_out: Callable[[], Any]) -> Any:
        try:
            return await self._carry(carry_out, repeats=True)
        except TimeoutError:
            raise FederationStoreError("no answer") from None


class EngineLink(Way):
    """A node's way to the engine of its cluster: single keys and transactions of ``Store``.

    That of a node which shares it with nobody is a file.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node, 0.005)
        self._engine = node.cluster.engine

    def _up(self) -> bool:
        return not any(self.world.faulty("engine", node.index) for node in self.node.cluster.nodes)

    def _connected(self) -> bool:
        return self.world.faulty("member", self.node.index) is None

    async def get(
        self, key: bytes, *, revision: int | None = None, serializable: bool = False
    ) -> Item | None:
        return (await self.get_many([key])).get(key)

    async def get_many(self, keys: Sequence[bytes], *, serializable: bool = False) -> dict[bytes, Item]:
        if self.node.sole:
            return {key: self._engine.items[key] for key in keys if key in self._engine.items}

        def read() -> dict[bytes, Item]:
            return {key: self._engine.items[key] for key in keys if key in self._engine.items}

        try:
            return dict(await self._carry(read, repeats=False))
        except TimeoutError:
            raise EngineUnreachable("no answer") from None

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        if self.node.sole:
            await self._file()
            revision = self._engine.commit(compares, writes)
            await self._file()
            return revision
        try:
            return int(await self._carry(lambda: self._engine.commit(compares, writes), repeats=True))
        except TimeoutError:
            raise CommitUncertain("no answer") from None

    async def _file(self) -> None:
        await asyncio.sleep(self.world.random.uniform(0.0, 0.05))
        await self.node.thawed()
