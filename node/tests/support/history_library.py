# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that ask through the client library: what it says of an outcome must hold, whatever it repeats."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support.history import NEVER, IfAbsent, IfAt, Kind, Operation, Outcome
from support.history_clients import Clients, Request

from grey.client import AsyncClient, Consistency, Put, Value, errors

if TYPE_CHECKING:
    import random

CALL_SECONDS = 6.0
_NOT_WRITTEN = (
    errors.NotPrimary,
    errors.Fenced,
    errors.Overloaded,
    errors.RateLimited,
    errors.DiskFull,
    errors.Unavailable,
)


class LibraryClients(Clients):
    """``Clients`` that share one ``AsyncClient``, which chooses the node and repeats by itself."""

    def __init__(self, library: AsyncClient, chance: random.Random, *, keys: int, name: str) -> None:
        super().__init__(_ask_nobody, (None,), chance, keys=keys, name=name)
        self._library = library

    async def _perform(self, request: Request, node: Any = None) -> list[Operation]:
        first, *others = request.operations
        invoked = time.monotonic()
        try:
            done = await self._call(first) if first.batch is None else await self._batch_of(request)
        except errors.ConditionFailed as error:
            done = [replace(first, outcome=Outcome.CONDITION_FAILED, position=error.position)]
        except errors.OutcomeUnknown as error:
            done = [replace(each, outcome=Outcome.UNKNOWN, detail=str(error)) for each in (first, *others)]
        except _NOT_WRITTEN as error:
            outcome = Outcome.UNKNOWN if first.kind is Kind.GET else Outcome.FAILED
            done = [replace(each, outcome=outcome, detail=str(error)) for each in (first, *others)]
        now = time.monotonic()
        done = [
            replace(each, invoked=invoked, completed=NEVER if each.outcome is Outcome.UNKNOWN else now)
            for each in done
        ]
        self._record(done)
        return done

    async def _call(self, each: Operation) -> list[Operation]:
        library = self._library
        if each.kind is Kind.GET:
            found = await library.look(each.key, consistency=Consistency.STRONG, timeout_seconds=CALL_SECONDS)
            if not isinstance(found, Value):
                return [replace(each, outcome=Outcome.OK)]
            value, shown = found.value.decode(), found.position
            return [replace(each, outcome=Outcome.OK, value=value, position=shown)]
        if each.kind is Kind.DELETE:
            gone = await library.delete(each.key, timeout_seconds=CALL_SECONDS)
            return [replace(each, outcome=Outcome.OK, position=gone.position, existed=gone.existed)]
        written = await library.put(
            each.key,
            (each.value or "").encode(),
            if_absent=isinstance(each.condition, IfAbsent),
            if_position=each.condition.position if isinstance(each.condition, IfAt) else None,
            timeout_seconds=CALL_SECONDS,
        )
        return [replace(each, outcome=Outcome.OK, position=written.position)]

    async def _batch_of(self, request: Request) -> list[Operation]:
        operations = [Put(each.key, (each.value or "").encode()) for each in request.operations]
        results = await self._library.batch(operations, timeout_seconds=CALL_SECONDS)
        return [
            replace(each, outcome=Outcome.OK, position=result.position)
            for each, result in zip(request.operations, results, strict=True)
        ]


async def _ask_nobody(method: str, node: Any, path: str, **options: Any) -> Any:
    raise AssertionError("the library asks")
