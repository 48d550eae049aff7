# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Concurrent clients of a running cluster that record what they asked, when, and what came out of it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from support.history import NEVER, Condition, History, IfAbsent, IfAt, Kind, Operation, Outcome

from grey.record.position import Position

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

REQUEST_SECONDS = 3.0
"""How long a client waits for one answer."""
RETRY_SECONDS = 6.0
"""How long a client repeats a write whose outcome it does not know, with the same request id."""
IMPATIENT = 0.04
"""The share of writes whose first answer the client does not wait for, so that it must repeat them."""
BATCH = 3
_REFUSED = {421, 429, 503, 507}
_WEIGHTS = {"get": 40, "put": 35, "condition": 12, "delete": 5, "batch": 8}


class Answer(Protocol):
    """What a node answered."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def json(self) -> Any: ...


class Ask(Protocol):
    """Sends a request to a node; ``RunningFederation.api_request`` is one."""

    async def __call__(self, method: str, node: Any, path: str, **options: Any) -> Answer:
        """Send a request; raise aiohttp.ClientError, OSError or TimeoutError when there was no answer."""
        ...


class Unanswered(Exception):
    """A request that got no usable answer. ``sent``: it may have reached the node."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


@dataclass(frozen=True)
class Request:
    """One request in the API's form, and the operations that it is recorded as."""

    method: str
    path: str
    operations: tuple[Operation, ...]
    headers: Mapping[str, str]
    json: Any = None
    data: bytes | None = None


class Clients:
    """Clients that ask the nodes of one cluster until they are stopped. ``history`` grows meanwhile."""

    def __init__(
        self, ask: Ask, nodes: Sequence[Any], chance: random.Random, *, keys: int, name: str
    ) -> None:
        """``name`` begins every key and value, so that runs on one cluster do not meet."""
        self._ask = ask
        self._nodes = nodes
        self._chance = chance
        self._name = name
        self._keys = [f"{name}/{number:02}" for number in range(keys)]
        self._numbers = itertools.count(1)
        self._known: dict[str, Position] = {}
        self._stopped = False
        self.history = History()
        self.acknowledged = 0
        self.last_acknowledged = 0.0
        """When the newest acknowledgement of a write was seen, on the monotonic clock."""

    def stop(self) -> None:
        """Let every client end after its present request."""
        self._stopped = True

    async def run(self, count: int, pause_seconds: float) -> None:
        """Run so many clients; each pauses for about so long between two requests."""
        async with asyncio.TaskGroup() as group:
            for client in range(count):
                group.create_task(self._run_one(client, pause_seconds))

    async def begin(self) -> None:
        """Write once, to learn where the history begins. Fails when that is not acknowledged."""
        (done,) = await self._perform(self._write(-1, Kind.PUT, self._keys[0], self._value(), None))
        assert done.position is not None, f"wanted an acknowledged write to begin with, found: {done}"
        self.history.before = done.position.sequence - 1

    async def end(self, within: float = 30.0) -> None:
        """Read every key once more through every node, so that the history knows how it ended."""
        async with asyncio.timeout(within):
            waiting = list(itertools.product(self._nodes, self._keys))
            while waiting:
                node, key = waiting[0]
                (done,) = await self._perform(self._get(-1, key), node)
                if done.outcome is Outcome.OK:
                    waiting.pop(0)
                else:
                    await asyncio.sleep(0.1)

    async def _run_one(self, client: int, pause_seconds: float) -> None:
        while not self._stopped:
            request = self._request(client)
            done = await self._perform(request)
            refused = all(each.outcome is Outcome.FAILED for each in done)
            await asyncio.sleep(self._chance.expovariate(1 / pause_seconds) + (0.05 if refused else 0))

    async def _perform(self, request: Request, node: Any = None) -> list[Operation]:
        """Send a request, repeat it while its outcome is not known, and record what came out."""
        writes = request.operations[0].kind is not Kind.GET
        invoked = time.monotonic()
        doubt = False
        patience = REQUEST_SECONDS
        if writes and self._chance.random() < IMPATIENT:
            patience = self._chance.uniform(0.001, 0.02)
        while True:
            try:
                done, final = await self._send(request, node, patience, doubt=doubt)
                doubt = doubt or any(each.outcome is Outcome.UNKNOWN for each in done)
            except Unanswered as error:
                doubt = doubt or error.sent
                outcome = Outcome.UNKNOWN if doubt else Outcome.FAILED
                final = not doubt
                done = [replace(each, outcome=outcome, detail=str(error)) for each in request.operations]
            patience = REQUEST_SECONDS
            if final or not writes or time.monotonic() - invoked > RETRY_SECONDS:
                break
            await asyncio.sleep(0.05)
        now = time.monotonic()
        done = [
            replace(each, invoked=invoked, completed=NEVER if each.outcome is Outcome.UNKNOWN else now)
            for each in done
        ]
        self._record(done)
        return done

    def _record(self, done: list[Operation]) -> None:
        for each in done:
            self._learn(each)
        self.history.add(done)

    def _learn(self, each: Operation) -> None:
        if each.outcome is Outcome.OK and each.value is not None and each.position is not None:
            self._known[each.key] = each.position
        if each.outcome is Outcome.OK and each.kind is not Kind.GET:
            self.acknowledged += 1
            self.last_acknowledged = each.completed

    async def _send(
        self, request: Request, node: Any, patience: float, *, doubt: bool
    ) -> tuple[list[Operation], bool]:
        """Return the operations with their outcome, and whether that is the last word."""
        answer = await self._exchange(request, node or self._chance.choice(self._nodes), patience)
        first = request.operations[0]
        if answer.status == 200 or (answer.status == 404 and first.kind is Kind.GET):
            return _understood(request, answer), True
        said = f"{answer.status} {answer.json['error']['code']}"
        if answer.status in {412, *_REFUSED}:
            if doubt:
                # An earlier attempt may still be on its way.
                return [
                    replace(each, outcome=Outcome.UNKNOWN, detail=said) for each in request.operations
                ], False
            if answer.status == 412:
                found = answer.json["error"]["position"]
                position = None if found is None else Position.parse(found)
                outcome = Outcome.CONDITION_FAILED
                return [replace(first, outcome=outcome, position=position, detail=said)], True
            return [replace(each, outcome=Outcome.FAILED, detail=said) for each in request.operations], True
        if answer.status not in {500, 504}:
            raise AssertionError(f"{request.method} {request.path}: {answer.status} {answer.body[:300]!r}")
        return [replace(each, outcome=Outcome.UNKNOWN, detail=said) for each in request.operations], False

    async def _exchange(self, request: Request, node: Any, patience: float) -> Answer:
        options: dict[str, Any] = {"headers": dict(request.headers)}
        if request.json is not None:
            options["json"] = request.json
        if request.data is not None:
            options["data"] = request.data
        timeout = aiohttp.ClientTimeout(total=patience)
        try:
            return await self._ask(request.method, node, request.path, timeout=timeout, **options)
        except aiohttp.ClientConnectorError as error:
            raise Unanswered(f"not connected: {error}", sent=False) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unanswered(f"no answer: {type(error).__name__}", sent=True) from error

    def _request(self, client: int) -> Request:
        kind = self._chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        key = self._chance.choice(self._keys)
        if kind == "get":
            return self._get(client, key)
        if kind == "batch":
            return self._batch(client)
        if kind == "delete":
            return self._write(client, Kind.DELETE, key, None, None)
        condition: Condition | None = None
        if kind == "condition":
            known = self._known.get(key)
            condition = IfAbsent() if known is None or self._chance.random() < 0.2 else IfAt(known)
        return self._write(client, Kind.PUT, key, self._value(), condition)

    def _get(self, client: int, key: str) -> Request:
        operation = Operation(client, Kind.GET, key, 0, NEVER, Outcome.UNKNOWN)
        return Request("GET", f"{_path(key)}?consistency=strong", (operation,), {})

    def _write(
        self, client: int, kind: Kind, key: str, value: str | None, condition: Condition | None
    ) -> Request:
        operation = Operation(client, kind, key, 0, NEVER, Outcome.UNKNOWN, value, condition=condition)
        headers = {"Grey-Request-Id": f"{self._name}-{next(self._numbers)}"}
        if isinstance(condition, IfAbsent):
            headers["If-None-Match"] = "*"
        elif condition is not None:
            headers["If-Match"] = f'"{condition.position}"'
        method = "PUT" if kind is Kind.PUT else "DELETE"
        return Request(
            method, _path(key), (operation,), headers, data=None if value is None else value.encode()
        )

    def _batch(self, client: int) -> Request:
        number = next(self._numbers)
        operations = tuple(
            Operation(
                client, Kind.PUT, key, 0, NEVER, Outcome.UNKNOWN, self._value(), batch=number, part=part
            )
            for part, key in enumerate(self._chance.sample(self._keys, BATCH))
        )
        body = [
            {
                "op": "put",
                "key": each.key,
                "value_base64": base64.b64encode((each.value or "").encode()).decode(),
            }
            for each in operations
        ]
        headers = {"Grey-Request-Id": f"{self._name}-{number}"}
        return Request("POST", "/v1/batch", operations, headers, json={"operations": body})

    def _value(self) -> str:
        return f"{self._name}={next(self._numbers)}"


def _path(key: str) -> str:
    return f"/v1/kv/{key.replace('/', '%2F')}"


def _understood(request: Request, answer: Answer) -> list[Operation]:
    first = request.operations[0]
    if first.kind is Kind.GET:
        if answer.status == 404:
            return [replace(first, outcome=Outcome.OK)]
        shown = Position.parse(answer.headers["Grey-Position"])
        return [replace(first, outcome=Outcome.OK, value=answer.body.decode(), position=shown)]
    results = answer.json["results"] if first.batch is not None else [answer.json]
    done = []
    for each, result in zip(request.operations, results, strict=True):
        position = None if result["position"] is None else Position.parse(result["position"])
        done.append(replace(each, outcome=Outcome.OK, position=position, existed=result.get("existed")))
    return done
