# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store in memory, whole or with a planted fault, and concurrent clients in virtual time that record it.

Each request takes effect at one moment between its invocation and its answer; some answers get lost, and some
requests with lost answers take effect much later.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from support.history import NEVER, Condition, History, IfAbsent, IfAt, Kind, Operation, Outcome

from grey.record.position import Position

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

FAULTS = (
    "stale read",
    "lost write",
    "doubled write",
    "torn batch",
    "refused write is carried out",
    "condition ignored",
)
_RATE = 0.05
_SELDOM = ("torn batch", "refused write is carried out", "condition ignored")
"""Faults that have few chances to strike, and then strike often."""
_OFTEN = 0.5
_BATCH = 3


@dataclass
class _Key:
    """What was written to a key, oldest first: positions and values, None for a deletion."""

    records: list[tuple[Position, str | None]] = field(default_factory=list)

    @property
    def newest(self) -> tuple[Position | None, str | None]:
        return self.records[-1] if self.records else (None, None)


class ModelStore:
    """Keys and values with positions. ``struck`` says how often the fault did something."""

    def __init__(self, chance: random.Random, *, fault: str | None = None) -> None:
        assert fault is None or fault in FAULTS
        self.chance = chance
        self.struck = 0
        self.later: list[Operation] = []
        """Writes that a fault carries out again; whoever runs the clients does that a little later."""
        self._fault = fault
        self._keys: dict[str, _Key] = {}
        self._sequence = 0

    def apply(self, parts: list[Operation]) -> list[Operation]:
        """Carry a request out (a batch has several parts); return it with its answer."""
        if parts[0].kind is Kind.GET:
            return [self._read(parts[0])]
        conditions = [each for each in parts if not self._holds(each)]
        if conditions and not self._strikes("condition ignored"):
            each = conditions[0]
            found, value = self._key(each.key).newest
            position = None if value is None else found
            return [replace(each, outcome=Outcome.CONDITION_FAILED, position=position)]
        if self.chance.random() < _RATE:
            if self._strikes("refused write is carried out"):
                self._write_all(parts)
            return [replace(each, outcome=Outcome.FAILED) for each in parts]
        if self._strikes("lost write"):
            self._sequence += len(parts)
            return [
                replace(
                    each,
                    outcome=Outcome.OK,
                    position=Position(1, self._sequence - len(parts) + index),
                    existed=True,
                )
                for index, each in enumerate(parts, start=1)
            ]
        return self._write_all(parts)

    def again(self, each: Operation) -> None:
        """Carry a write out, whatever became of it before."""
        self._write(each)

    def _write_all(self, parts: list[Operation]) -> list[Operation]:
        done = []
        if len(parts) > 1 and self._strikes("torn batch"):
            self.later.append(parts[-1])
            answered = [self._write(each) for each in parts[:-1]]
            self._sequence += 1
            return [*answered, replace(parts[-1], outcome=Outcome.OK, position=Position(1, self._sequence))]
        for each in parts:
            done.append(self._write(each))
            if len(parts) == 1 and each.kind is Kind.PUT and self._strikes("doubled write"):
                self.later.append(each)
        return done

    def _write(self, each: Operation) -> Operation:
        key = self._key(each.key)
        _, before = key.newest
        if each.kind is Kind.DELETE and before is None:
            return replace(each, outcome=Outcome.OK, existed=False)
        self._sequence += 1
        position = Position(1, self._sequence)
        key.records.append((position, each.value))
        existed = True if each.kind is Kind.DELETE else None
        return replace(each, outcome=Outcome.OK, position=position, existed=existed)

    def _read(self, each: Operation) -> Operation:
        records = self._key(each.key).records
        if len(records) > 2 and self._strikes("stale read"):
            position, value = self.chance.choice(records[:-1])
        else:
            position, value = self._key(each.key).newest  # type: ignore[assignment]
        return replace(each, outcome=Outcome.OK, value=value, position=None if value is None else position)

    def _holds(self, each: Operation) -> bool:
        position, value = self._key(each.key).newest
        if isinstance(each.condition, IfAbsent):
            return value is None
        return each.condition is None or (value is not None and position == each.condition.position)

    def _key(self, name: str) -> _Key:
        return self._keys.setdefault(name, _Key())

    def _strikes(self, fault: str) -> bool:
        rate = _OFTEN if fault in _SELDOM else _RATE
        struck = self._fault == fault and self.chance.random() < rate
        self.struck += struck
        return struck


def run_clients(
    store: ModelStore, *, clients: int, keys: int, operations: int, losses: float = _RATE
) -> History:
    """Let clients ask until there are that many operations, then read every key once more.

    ``losses`` is the share of answers that get lost.
    """
    chance = store.chance
    history = History()
    numbers = itertools.count()
    events: list[tuple[float, int, Callable[[float], None]]] = []

    def at(time: float, what: Callable[[float], None]) -> None:
        heapq.heappush(events, (time, next(numbers), what))

    def ask(client: int, now: float) -> None:
        if len(history.operations) >= operations:
            return
        parts = _request(chance, client, keys, now, numbers, history)
        lost = chance.random() < losses
        effect = now + chance.expovariate(20) + (chance.expovariate(0.5) if lost else 0)
        answered = effect + chance.expovariate(20)

        def carry_out(_: float) -> None:
            done = store.apply(parts)
            for each in store.later:
                at(effect + chance.expovariate(1), lambda _, each=each: store.again(each))  # type: ignore[misc]
            store.later.clear()
            if lost:
                history.add(replace(each, outcome=Outcome.UNKNOWN, completed=NEVER) for each in parts)
            else:
                history.add(replace(each, completed=answered) for each in done)

        at(effect, carry_out)
        at(now + 0.1 if lost else answered, lambda time: ask(client, time + 0.001))

    for client in range(clients):
        at(client / 1000, lambda time, client=client: ask(client, time))  # type: ignore[misc]
    time = 0.0
    while events:
        time, _, what = heapq.heappop(events)
        what(time)
    for key in range(keys):
        read = Operation(clients, Kind.GET, f"k{key}", time + 1, time + 2, Outcome.OK)
        history.add(store.apply([read]))
    return history


def _request(
    chance: random.Random,
    client: int,
    keys: int,
    now: float,
    numbers: itertools.count[int],
    history: History,
) -> list[Operation]:
    key = f"k{chance.randrange(keys)}"
    kind = chance.choices(["get", "put", "if", "delete", "batch"], [40, 30, 15, 5, 10])[0]
    plain = Operation(client, Kind.PUT, key, now, NEVER, Outcome.UNKNOWN)
    if kind == "get":
        return [replace(plain, kind=Kind.GET)]
    if kind == "delete":
        return [replace(plain, kind=Kind.DELETE)]
    if kind == "batch":
        batch, chosen = next(numbers), chance.sample(range(keys), min(_BATCH, keys))
        return [
            replace(plain, key=f"k{each}", value=f"v{next(numbers)}", batch=batch, part=part)
            for part, each in enumerate(chosen)
        ]
    condition: Condition | None = None
    if kind == "if":
        known = [
            each.position
            for each in history.operations[-50:]
            if each.key == key and each.value and each.position
        ]
        condition = IfAt(known[-1]) if known and chance.random() < 0.7 else IfAbsent()
    return [replace(plain, value=f"v{next(numbers)}", condition=condition)]
