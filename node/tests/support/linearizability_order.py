# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the positions that clients were told agree with real time, over all keys and within batches?

Positions are one order of all records. So a write that was sent after another answer must be behind all
that answer showed, and a strong read must show at least that. This sees what the search over single keys
cannot: a batch of which one read shows a part and a later read not the other, and an old state of one key
beside the new state of another.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from support.history import Kind, Operation, Outcome
from support.linearizability import Violation

from grey.record.position import ORIGIN, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from support.history import History, Window

_ANSWERED = frozenset({Outcome.OK, Outcome.CONDITION_FAILED})


def out_of_order(history: History) -> list[Violation]:
    """Return the answers whose positions contradict real time."""
    listed = sorted(history.operations, key=lambda each: each.completed)
    seen = _Seen(listed)
    records = _records(listed)
    found = [*_torn(listed), *_shared(listed)]
    for each in listed:
        floor, shown_by = seen.before(each.invoked)
        if each.outcome is not Outcome.OK or shown_by is None:
            continue
        if each.kind is Kind.GET:
            if not _fresh(each, floor, records[each.key], listed):
                found.append(Violation("a strong read shows less than an earlier answer", (shown_by, each)))
        elif each.position is not None and each.position <= floor:
            found.append(Violation("a write is before what an earlier answer showed", (shown_by, each)))
    return found


def uncounted(history: History) -> list[Violation]:
    """Return a violation when more records were written than requests can have written.

    Sequence numbers have no gaps, so each one that no answer named is of a write of unknown outcome. This
    sees a request that was carried out twice, or although it was refused, also when nobody read it.
    """
    listed = history.operations
    newest = max((each.position.sequence for each in listed if each.position), default=history.before)
    # A value that was read counts as the one request that put it, at however many positions.
    named = {(each.key, each.value) for each in [*listed, *_derived(listed)] if _names_a_record(each)}
    deletions = sum(
        each.kind is Kind.DELETE and each.outcome is Outcome.OK and each.position is not None
        for each in listed
    )
    doubtful = [
        each
        for each in listed
        if each.outcome is Outcome.UNKNOWN
        and each.kind is not Kind.GET
        and (each.value is None or (each.key, each.value) not in named)
    ]
    missing = newest - history.before - len(named) - deletions
    if missing <= len(doubtful):
        return []
    what = f"{missing} records are of no request that was answered, and only {len(doubtful)} can be of others"
    return [Violation(what, tuple(doubtful))]


def _names_a_record(each: Operation) -> bool:
    return each.outcome is Outcome.OK and each.value is not None


def too_late(history: History) -> list[Violation]:
    """Return what was acknowledged in a window in which nothing may be."""
    return [found for window in history.windows for found in _in_window(window, history.operations)]


def _in_window(window: Window, operations: Iterable[Operation]) -> list[Violation]:
    answered = [
        each
        for each in operations
        if each.outcome in _ANSWERED
        and (window.reads_too or (each.kind is not Kind.GET and each.outcome is Outcome.OK))
        and window.since < each.completed <= window.until
    ]
    begun = [each for each in answered if each.invoked >= window.since]
    before = [
        each
        for each in answered
        if each.invoked < window.since and each.completed > window.since + window.grace
    ]
    where = f"in the window {window.since:.3f}..{window.until:.3f} ({window.why})"
    found = [Violation(f"acknowledged {where}", (each,)) for each in begun]
    if len(before) > window.straddlers:
        found.append(Violation(f"{len(before)} acknowledged late {where}", tuple(before)))
    return found


class _Seen:
    """The highest position that any answer had shown by a time."""

    def __init__(self, by_completion: Sequence[Operation]) -> None:
        self._times: list[float] = []
        self._highest: list[tuple[Position, Operation]] = []
        for each in by_completion:
            if each.outcome in _ANSWERED and each.position is not None:
                self._add(each, each.position)

    def _add(self, each: Operation, position: Position) -> None:
        if not self._highest or position > self._highest[-1][0]:
            self._times.append(each.completed)
            self._highest.append((position, each))

    def before(self, time: float) -> tuple[Position, Operation | None]:
        """Return the highest position that had been answered before a time, and by what."""
        index = bisect_left(self._times, time) - 1
        return self._highest[index] if index >= 0 else (ORIGIN, None)


@dataclass(frozen=True)
class _Records:
    """What is known of the records of one key: sorted positions, and those that are deletions."""

    positions: list[Position]
    deletions: list[Position]


def _records(operations: Sequence[Operation]) -> defaultdict[str, _Records]:
    puts: defaultdict[str, set[Position]] = defaultdict(set)
    deletions: defaultdict[str, set[Position]] = defaultdict(set)
    for each in [*operations, *_derived(operations)]:
        if each.outcome is Outcome.OK and each.position is not None:
            (deletions if each.kind is Kind.DELETE else puts)[each.key].add(each.position)
    found: defaultdict[str, _Records] = defaultdict(lambda: _Records([], []))
    for key in {*puts, *deletions}:
        found[key] = _Records(sorted(puts[key] | deletions[key]), sorted(deletions[key]))
    return found


def _derived(operations: Sequence[Operation]) -> list[Operation]:
    """Return the parts of unknown batches of which one was read: the others have the positions beside."""
    places = {
        each.value: each.position
        for each in operations
        if each.kind is Kind.GET and each.outcome is Outcome.OK and each.value and each.position
    }
    found = []
    for parts in _batches(operations, Outcome.UNKNOWN):
        shown = next(((each.part, places[each.value]) for each in parts if each.value in places), None)
        if shown is not None:
            part, position = shown
            for each in parts:
                place = Position(position.epoch, position.sequence + each.part - part)
                found.append(replace(each, outcome=Outcome.OK, position=place))
    return found


def _torn(operations: Sequence[Operation]) -> list[Violation]:
    """Return the acknowledged batches whose records are not side by side."""
    found = []
    for parts in _batches(operations, Outcome.OK):
        first = parts[0]
        assert first.position is not None
        wanted = [
            Position(first.position.epoch, first.position.sequence + each.part - first.part) for each in parts
        ]
        if [each.position for each in parts] != wanted:
            found.append(Violation("a batch whose records are not side by side", tuple(parts)))
    return found


def _shared(operations: Sequence[Operation]) -> list[Violation]:
    """Return the positions at which answers showed two records."""
    found = []
    at: dict[Position, Operation] = {}
    for each in operations:
        if each.outcome is Outcome.OK and each.position is not None:
            other = at.setdefault(each.position, each)
            if (other.key, other.value) != (each.key, each.value):
                found.append(Violation(f"two records are at {each.position}", (other, each)))
    return found


def _batches(operations: Iterable[Operation], outcome: Outcome) -> list[list[Operation]]:
    batches: defaultdict[int, list[Operation]] = defaultdict(list)
    for each in operations:
        if each.batch is not None and each.outcome is outcome:
            batches[each.batch].append(each)
    return [sorted(parts, key=lambda each: each.part) for parts in batches.values()]


def _fresh(read: Operation, floor: Position, records: _Records, operations: Sequence[Operation]) -> bool:
    """Whether a read shows the newest record of its key at or below ``floor``, or one after it."""
    index = bisect_right(records.positions, floor) - 1
    if index < 0:
        return True
    newest = records.positions[index]
    if read.position is not None:
        return read.position >= newest
    if bisect_left(records.deletions, newest) < len(records.deletions):
        return True
    return any(
        each.kind is Kind.DELETE
        and each.key == read.key
        and each.outcome is Outcome.UNKNOWN
        and each.invoked <= read.completed
        for each in operations
    )
