# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkers of histories: they accept all that a correct store can do, and catch the planted faults."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.history import NEVER, History, IfAbsent, IfAt, Kind, Operation, Outcome, Window
from support.history_model import ModelStore, run_clients
from support.linearizability import Step, Violation, check_key, search, steps_of, violations
from support.linearizability_order import out_of_order, too_late, uncounted

from grey.record.position import Position


def put(value: str, invoked: float, completed: float, at: int, **more: object) -> Operation:
    operation = Operation(1, Kind.PUT, "k", invoked, completed, Outcome.OK, value, Position(1, at))
    return replace(operation, **more)


def get(value: str | None, invoked: float, completed: float, at: int | None = None) -> Operation:
    position = None if at is None else Position(1, at)
    return Operation(2, Kind.GET, "k", invoked, completed, Outcome.OK, value, position)


def unknown(operation: Operation) -> Operation:
    return replace(operation, outcome=Outcome.UNKNOWN, completed=NEVER, position=None)


def delete(invoked: float, completed: float, at: int | None, *, existed: bool) -> Operation:
    position = None if at is None else Position(1, at)
    return Operation(3, Kind.DELETE, "k", invoked, completed, Outcome.OK, None, position, existed=existed)


A, B = put("a", 1, 2, 1), put("b", 3, 4, 2)

RIGHT = {
    "a read sees the newest": [A, B, get("b", 5, 6, 2)],
    "a concurrent read sees either": [A, replace(B, completed=9), get("a", 4, 5, 1), get("b", 6, 7, 2)],
    "an unknown write may have happened": [A, unknown(B), get("b", 5, 6, 2)],
    "an unknown write may not have happened": [A, unknown(B), get("a", 5, 6, 1)],
    "an unknown write may happen late": [A, unknown(B), get("a", 5, 6, 1), get("b", 7, 8, 2)],
    "a deleted key is gone": [A, delete(3, 4, 2, existed=True), get(None, 5, 6)],
    "a condition that holds": [A, replace(B, condition=IfAt(Position(1, 1))), get("b", 5, 6, 2)],
    "a condition that failed is a look": [
        A,
        put("c", 3, 4, 1, outcome=Outcome.CONDITION_FAILED, condition=IfAbsent()),
        get("a", 5, 6, 1),
    ],
    "the look shows an unknown write": [
        A,
        unknown(B),
        put("c", 5, 6, 2, outcome=Outcome.CONDITION_FAILED, condition=IfAt(Position(1, 1))),
        get("b", 7, 8),
    ],
    "a refused write did not happen": [
        A,
        replace(B, outcome=Outcome.FAILED, position=None),
        get("a", 5, 6, 1),
    ],
}
WRONG = {
    "a stale read": [A, B, get("a", 5, 6, 1)],
    "time runs backwards for two readers": [A, replace(B, completed=9), get("b", 4, 5, 2), get("a", 6, 7, 1)],
    "a lost write": [A, get(None, 3, 4)],
    "a lost write that was read before": [A, unknown(B), get("b", 5, 6, 2), get("a", 7, 8, 1)],
    "a doubled write": [A, B, get("b", 5, 6, 2), get("a", 7, 8, 3)],
    "a write doubled at another place, seen only by its position": [A, get("a", 5, 6, 2)],
    "a value from nowhere": [A, get("z", 3, 4, 9)],
    "two values at one place": [A, replace(B, position=Position(1, 1))],
    "a refused write happened": [A, replace(B, outcome=Outcome.FAILED, position=None), get("b", 5, 6, 2)],
    "a refused condition happened": [
        A,
        put("c", 3, 4, 1, outcome=Outcome.CONDITION_FAILED, condition=IfAbsent()),
        get("c", 5, 6, 2),
    ],
    "a deleted key came back": [A, delete(3, 4, 2, existed=True), get(None, 5, 6), get("a", 7, 8, 1)],
    "a deletion found nothing of what was there": [A, delete(3, 4, None, existed=False)],
    "a deletion found what was not there": [delete(3, 4, 1, existed=True)],
    "if absent, though it was there": [A, replace(B, condition=IfAbsent())],
    "at a position, though it had moved on": [
        A,
        B,
        put("c", 5, 6, 3, condition=IfAt(Position(1, 1))),
    ],
    "a condition failed though it held": [
        A,
        put("c", 3, 4, 1, outcome=Outcome.CONDITION_FAILED, condition=IfAt(Position(1, 1))),
    ],
}


@pytest.mark.parametrize("operations", RIGHT.values(), ids=RIGHT)
def test_right(operations: list[Operation]) -> None:
    assert check_key("k", operations) is None


@pytest.mark.parametrize("operations", WRONG.values(), ids=WRONG)
def test_wrong(operations: list[Operation]) -> None:
    assert isinstance(check_key("k", operations), Violation)


def test_a_violation_shows_where_to_look() -> None:
    found = check_key("k", WRONG["a stale read"])
    assert found is not None and found.operations == (get("a", 5, 6, 1),)
    assert str(found).startswith("k: no order explains these operations")


# Small histories against every order there is.


@st.composite
def small(draw: st.DrawFn) -> list[Operation]:
    """Some operations on one key with any times and answers, mostly wrong ones."""
    operations = []
    values = [f"v{number}" for number in range(4)]
    for client in range(draw(st.integers(1, 6))):
        invoked = draw(st.integers(0, 8))
        times = {"invoked": float(invoked), "completed": float(invoked + draw(st.integers(1, 5)))}
        kind = draw(st.sampled_from(["get", "put", "delete"]))
        if kind == "get":
            operations.append(get(draw(st.sampled_from([None, *values])), **times))
        elif kind == "put" and values:
            each = replace(put(values.pop(0), **times, at=0), position=None, client=client)
            each = replace(each, condition=draw(st.sampled_from([None, None, IfAbsent()])))
            operations.append(unknown(each) if draw(st.booleans()) else each)
        elif kind == "delete":
            each = delete(**times, at=None, existed=draw(st.booleans()))
            operations.append(replace(unknown(each), existed=None) if draw(st.booleans()) else each)
    return operations


def explained(steps: list[Step]) -> bool:
    """Try all orders of all choices of what happened."""
    certain = [step for step in steps if step.certain]
    doubtful = [step for step in steps if not step.certain]
    for count in range(len(doubtful) + 1):
        for happened in itertools.combinations(doubtful, count):
            for order in itertools.permutations([*certain, *happened]):
                if _respects_time(order) and _runs(order):
                    return True
    return False


def _respects_time(order: tuple[Step, ...]) -> bool:
    return all(
        not later.operation.completed < earlier.operation.invoked
        for index, earlier in enumerate(order)
        for later in order[index + 1 :]
    )


def _runs(order: tuple[Step, ...]) -> bool:
    state = None
    for step in order:
        if not step.fits(state):
            return False
        state = step.value if step.writes else state
    return True


@settings(max_examples=400, deadline=None)
@given(small())
def test_the_search_finds_an_order_exactly_when_there_is_one(operations: list[Operation]) -> None:
    written = {each.value for each in operations if each.kind is Kind.PUT}
    if any(each.kind is Kind.GET and each.value not in {None, *written} for each in operations):
        return
    kept = steps_of(operations)
    every = [
        Step(
            each,
            needs,
            each.existed is True,
            each.kind is not Kind.GET and each.existed is not False,
            each.value,
        )
        for each in operations
        for needs in (
            frozenset({each.value})
            if each.kind is Kind.GET
            else frozenset({None})
            if each.condition is not None or each.existed is False
            else None,
        )
    ]
    assert (search(kept) is None) == explained(every)


# A store in memory, whole and with planted faults, under concurrent clients with virtual time.


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_all_that_a_correct_store_does_is_accepted(seed: int) -> None:
    history = run_clients(ModelStore(random.Random(seed)), clients=6, keys=4, operations=300)
    assert violations(history) == out_of_order(history) == uncounted(history) == []


def test_the_model_has_every_outcome() -> None:
    runs = (
        run_clients(ModelStore(random.Random(seed)), clients=6, keys=4, operations=300) for seed in range(5)
    )
    assert {each.outcome for history in runs for each in history.operations} == set(Outcome)


@pytest.mark.parametrize(
    ("fault", "sees"),
    [
        ("stale read", violations),
        ("stale read", out_of_order),
        ("lost write", violations),
        ("lost write", out_of_order),
        ("doubled write", violations),
        ("doubled write", uncounted),
        ("refused write is carried out", uncounted),
        ("torn batch", out_of_order),
        ("condition ignored", violations),
    ],
)
def test_a_planted_fault_is_caught(fault: str, sees: object) -> None:
    """Runs in which the fault strikes at least three times: half of them are seen by that checker alone."""
    runs = caught = 0
    for seed in range(30):
        store = ModelStore(random.Random(seed), fault=fault)
        # Doubts hide a record too many.
        losses = 0.0 if sees is uncounted else 0.05
        history = run_clients(store, clients=6, keys=4, operations=300, losses=losses)
        if store.struck >= 3:
            runs += 1
            caught += bool(sees(history))  # type: ignore[operator]
    assert runs >= 10, "the fault hardly ever struck: the test shows nothing"
    assert caught >= runs / 2


def test_a_write_acknowledged_after_the_deadline_is_caught() -> None:
    window = Window(10.0, 20.0, "the deadline had passed")
    fine = [
        put("before", 8.0, 9.9, 1),
        put("on its way", 9.8, 10.1, 2),
        put("after", 19.9, 20.1, 3),
        replace(unknown(put("doubt", 11, 12, 4)), completed=12.0),
        get("after", 12.0, 12.1, 3),
    ]
    late = put("late", 12.0, 12.1, 5)
    straddler = put("thawed", 9.9, 15.0, 6)
    assert too_late(History(fine, [window])) == []
    assert [each.operations for each in too_late(History([*fine, late], [window]))] == [(late,)]
    assert [each.operations for each in too_late(History([straddler], [window]))] == [(straddler,)]
    assert too_late(History([straddler], [replace(window, straddlers=1)])) == []
    (found,) = too_late(History(fine, [replace(window, reads_too=True)]))
    assert found.operations == (fine[-1],)


def test_five_thousand_operations_are_checked_in_seconds() -> None:
    started = time.monotonic()
    history = run_clients(ModelStore(random.Random(1)), clients=16, keys=50, operations=5000)
    assert len(history.operations) >= 5000
    assert violations(history) == out_of_order(history) == uncounted(history) == []
    assert time.monotonic() - started < 60
