# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes without sockets, for calls in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, NamedTuple, cast

from grey.client.addresses import Health, Target
from grey.client.call import Caller, Plan
from grey.client.model import ClusterEndpoint
from grey.client.route import Router
from grey.client.transport import Answer, Request, SendFailed, Transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Node = Callable[["Asked"], Awaitable[Answer]]


class Asked(NamedTuple):
    """A request that a node got: when (seconds), and how long its sender will wait."""

    at: float
    address: str
    limit: float
    number: int


OK = Answer(200, {}, b"{}")
READ = Request("GET", "/v1/kv/k")


def refusal(status: int, code: str, retry_after: str | None = None) -> Answer:
    body = {"error": {"code": code, "message": f"because {code}", "hint": ""}}
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Answer(status, headers, json.dumps(body).encode())


class Lowest(random.Random):
    """Every node and pause as the order of the file says, the pauses as short as they may be."""

    def uniform(self, a: float, b: float) -> float:
        return a

    def random(self) -> float:
        return 0.0


class Nodes:
    """A transport to scripted nodes: cluster name to what each of its nodes does, by address."""

    def __init__(self, clusters: dict[str, dict[str, Node]]) -> None:
        self.clusters = clusters
        self.log: list[Asked] = []
        self.health = Health(Lowest())

    async def targets(self, endpoint: str, *, timeout_seconds: float) -> list[Target]:
        assert timeout_seconds > 0
        name = endpoint.partition(":")[0]
        targets = [Target(name, 1, address) for address in self.clusters[name]]
        return self.health.order(targets, asyncio.get_running_loop().time())

    def bad(self, target: Target) -> None:
        self.health.bad(target, asyncio.get_running_loop().time())

    def all_bad(self, endpoint: str) -> None: ...

    async def send(
        self, target: Target, request: Request, *, timeout_seconds: float, stream: bool = False
    ) -> Answer:
        assert timeout_seconds > 0
        asked = Asked(asyncio.get_running_loop().time(), target.address, timeout_seconds, len(self.log))
        self.log.append(asked)
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await self.clusters[target.host][target.address](asked)
        except TimeoutError:
            self.bad(target)
            raise SendFailed("no answer", sent=True) from None
        except SendFailed:
            self.bad(target)
            raise
        self.health.good(target)
        return answer

    @property
    def asked(self) -> list[str]:
        """The addresses that were asked, in order."""
        return [asked.address for asked in self.log]

    def caller(self, primary: str | None = None, attempt_seconds: float = 5.0) -> Caller:
        endpoints = [ClusterEndpoint(name, f"{name}:1") for name in self.clusters]
        router = Router(endpoints, primary=primary)
        return Caller(cast("Transport", self), router, attempt_seconds=attempt_seconds, dice=Lowest())


def write(timeout_seconds: float, **more: object) -> Plan:
    return Plan(
        Request("PUT", "/v1/kv/k"),
        what="put k",
        to_primary=True,
        timeout_seconds=timeout_seconds,
        write_id="w-1",
        **more,  # type: ignore[arg-type]
    )


def read(timeout_seconds: float, **more: object) -> Plan:
    return Plan(READ, what="get k", to_primary=False, timeout_seconds=timeout_seconds, **more)  # type: ignore[arg-type]


def says(*answers: Answer | SendFailed) -> Node:
    """Give one answer after the other, the last one again and again."""
    left = list(answers)

    async def node(asked: Asked) -> Answer:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, SendFailed):
            raise found
        return found

    return node


async def hangs(asked: Asked) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


def refused() -> SendFailed:
    return SendFailed("connection refused", sent=False)
