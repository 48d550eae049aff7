# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is there one order of the operations on a key that explains all answers?

The search of Wing and Gong with the memory of Lowe ("Testing for linearizability", 2017): take operations one
by one in an order that respects real time, and never visit the same set of taken operations with the same
state twice. Keys are independent of each other (Herlihy and Wing, 1990), so each is searched alone. An
operation whose outcome is not known may be taken at any time after it was sent, or never.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from support.history import NEVER, IfAbsent, Kind, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from support.history import History

    from grey.record.position import Position

MOST_STATES = 2_000_000
"""A search that visits more is given up: the history has too many concurrent operations on one key."""

State: TypeAlias = str | None
"""The value of the key; None when it does not exist."""


class Undecided(Exception):
    """The search was given up; use more keys, fewer clients or shorter runs."""


@dataclass(frozen=True)
class Violation:
    """What no order explains, with the operations to look at."""

    what: str
    operations: tuple[Operation, ...]

    def __str__(self) -> str:
        return "\n  ".join([self.what, *(str(each) for each in self.operations)])


@dataclass(frozen=True)
class Step:
    """An operation as the search sees it: what the state must be, and what it becomes."""

    operation: Operation
    needs: frozenset[State] | None = None
    """States that it can be carried out in; None for any."""
    exists: bool = False
    """Needs that the key exists, whatever its value."""
    writes: bool = False
    value: State = None

    @property
    def certain(self) -> bool:
        return self.operation.outcome is not Outcome.UNKNOWN

    @property
    def observes(self) -> bool:
        return self.needs is not None or self.exists

    def fits(self, state: State) -> bool:
        """Whether it can be carried out in a state."""
        if self.exists:
            return state is not None
        return self.needs is None or state in self.needs


def violations(history: History) -> list[Violation]:
    """Return a violation for every key whose operations no order explains; initially no key exists."""
    keys: dict[str, list[Operation]] = {}
    for each in history.operations:
        keys.setdefault(each.key, []).append(each)
    found = (check_key(key, operations) for key, operations in sorted(keys.items()))
    return [each for each in found if each is not None]


def check_key(key: str, operations: Sequence[Operation]) -> Violation | None:
    """Return why no order explains the operations on a key, None when one does. Raises Undecided."""
    try:
        steps = steps_of(operations)
    except _Contradiction as error:
        return Violation(f"{key}: {error}", error.operations)
    stuck = search(steps)
    if stuck is None:
        return None
    return Violation(f"{key}: no order explains these operations, none of which can come next", stuck)


def steps_of(operations: Iterable[Operation]) -> list[Step]:
    """Turn operations into steps, by invocation; those that tell nothing and did nothing are left out."""
    listed = sorted(operations, key=lambda each: (each.invoked, each.completed))
    at = _values_by_position(listed)
    read = {each.value for each in listed if each.kind is Kind.GET and each.outcome is Outcome.OK}
    guesses = frozenset(
        each.value for each in listed if each.kind is Kind.PUT and each.outcome is Outcome.UNKNOWN
    ) - frozenset(at.values())
    steps = [step for each in listed for step in _steps(each, at, guesses)]
    # A write of unknown outcome whose value nobody saw explains nothing, unless its mere existence was seen.
    seen = {state for step in steps if step.needs is not None for state in step.needs} | read
    existence = any(step.exists for step in steps)
    return [
        step
        for step in steps
        if step.certain or existence or step.value in seen or (step.value is None and None in seen)
    ]


def search(steps: Sequence[Step]) -> tuple[Operation, ...] | None:
    """Return None when some order explains all certain steps, else what the best try got stuck at."""
    wanted = sum(1 << index for index, step in enumerate(steps) if step.certain)
    visited: set[tuple[int, State, bool]] = set()
    # Taken steps, the state after them, and whether the newest was a guess that must be seen by the next.
    start: tuple[int, State, bool] = (0, None, False)
    stack = [start]
    best, best_taken = start, -1
    while stack:
        node = stack.pop()
        if node in visited:
            continue
        visited.add(node)
        if len(visited) > MOST_STATES:
            raise Undecided(f"more than {MOST_STATES} states for {steps[0].operation.key}")
        taken, state, guessed = node
        if taken & wanted == wanted:
            return None
        count = (taken & wanted).bit_count()
        if count > best_taken and not guessed:
            best, best_taken = node, count
        stack += _moves(steps, taken, state, guessed=guessed)
    return tuple(steps[index].operation for index in _candidates(steps, best[0]))


def _moves(
    steps: Sequence[Step], taken: int, state: State, *, guessed: bool
) -> list[tuple[int, State, bool]]:
    """Return where one more step leads; the most promising last, since the search takes that first."""
    candidates = [index for index in _candidates(steps, taken) if steps[index].fits(state)]
    if guessed:
        # A guess that nobody sees before the next write explains nothing.
        candidates = [index for index in candidates if steps[index].observes]
    else:
        for index in candidates:
            if steps[index].certain and not steps[index].writes:
                # What only looks and fits changes nothing for the others: it can always be taken at once.
                return [(taken | 1 << index, state, False)]
    moves = []
    for index in reversed(candidates):
        step = steps[index]
        after = step.value if step.writes else state
        moves.append((taken | 1 << index, after, not step.certain))
    guesses = [move for move in moves if move[2]]
    return guesses + [move for move in moves if not move[2]]


def _candidates(steps: Sequence[Step], taken: int) -> list[int]:
    """Return the steps that may come next: sent before any step that is not taken was answered."""
    found = []
    earliest = NEVER
    for index, step in enumerate(steps):
        if taken >> index & 1:
            continue
        if step.operation.invoked > earliest:
            break
        found.append(index)
        if step.certain:
            earliest = min(earliest, step.operation.completed)
    return found


def _steps(each: Operation, at: Mapping[Position, str], guesses: frozenset[State]) -> list[Step]:
    if each.outcome is Outcome.FAILED or (each.kind is Kind.GET and each.outcome is Outcome.UNKNOWN):
        return []
    if each.kind is Kind.GET:
        return [Step(each, frozenset({each.value}))]
    if each.outcome is Outcome.CONDITION_FAILED:
        return [_refused(each, at, guesses)]
    needs: frozenset[State] | None = None
    if isinstance(each.condition, IfAbsent):
        needs = frozenset({None})
    elif each.condition is not None:
        needs = _value_at(each.condition.position, at, guesses)
    if each.kind is Kind.PUT:
        return [Step(each, needs, writes=True, value=each.value)]
    if each.existed is False:
        return [Step(each, frozenset({None}))]
    return [Step(each, needs, exists=needs is None and each.existed is True, writes=True)]


def _refused(each: Operation, at: Mapping[Position, str], guesses: frozenset[State]) -> Step:
    """Read a condition that failed as the look at the key that it is."""
    wanted = None if isinstance(each.condition, IfAbsent) or not each.condition else each.condition.position
    if each.position == wanted:
        raise _Contradiction("a condition failed although it held", (each,))
    if each.position is None:
        return Step(each, frozenset({None}))
    return Step(each, _value_at(each.position, at, guesses))


def _value_at(position: Position, at: Mapping[Position, str], guesses: frozenset[State]) -> frozenset[State]:
    """Return what may be at a position: where no answer says it, a write of unknown outcome."""
    return frozenset({at[position]}) if position in at else guesses


def _values_by_position(operations: Sequence[Operation]) -> dict[Position, str]:
    """Return which value was written at which position. Raises _Contradiction when that cannot be."""
    written = _puts(operations)
    at: dict[Position, Operation] = {}
    places: dict[str, Operation] = {}
    for each in operations:
        if each.outcome is not Outcome.OK or each.value is None:
            continue
        source = written.get(each.value)
        if source is None:
            raise _Contradiction("a value was read that nobody put", (each,))
        if source.outcome in {Outcome.FAILED, Outcome.CONDITION_FAILED}:
            raise _Contradiction("a value was read whose put was refused", (source, each))
        if each.position is None:
            continue
        other = at.setdefault(each.position, each)
        if other.value != each.value:
            raise _Contradiction("two values are at one position", (other, each))
        other = places.setdefault(each.value, each)
        if other.position != each.position:
            raise _Contradiction("one request was carried out at two positions", (source, other, each))
    return {position: each.value for position, each in at.items() if each.value is not None}


def _puts(operations: Iterable[Operation]) -> dict[str, Operation]:
    written: dict[str, Operation] = {}
    for each in operations:
        if (
            each.kind is Kind.PUT
            and each.value is not None
            and written.setdefault(each.value, each) is not each
        ):
            raise ValueError(f"the value {each.value} was put twice: this history cannot be checked")
    return written


class _Contradiction(Exception):
    def __init__(self, what: str, operations: tuple[Operation, ...]) -> None:
        super().__init__(what)
        self.operations = operations
