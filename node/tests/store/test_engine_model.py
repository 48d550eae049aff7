# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every engine against a model of dictionaries, one per revision."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.bounds import model_runs
from support.engines import EtcdEngine, SqliteEngine

from grey.store.interface import Compacted, Compare, CompareFailed, Item, Write

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeAlias, TypeVar

    from support.engines import Engine

    from grey.store.interface import Change

    T = TypeVar("T")
    Told: TypeAlias = tuple[tuple[list[Compare], list[Write]], int | BaseException]

KEYS = [b"", b"a", b"a\x00", b"b", b"k/1", b"k/2", b"\xff"]
VALUES = [b"", b"1", b"2", b"x" * 3000]

keys = st.sampled_from(KEYS)
values = st.one_of(st.none(), st.sampled_from(VALUES))
transactions = st.tuples(
    st.lists(st.builds(Compare, keys, values), max_size=2),
    st.lists(st.builds(Write, keys, values), min_size=1, max_size=4, unique_by=lambda write: write.key),
)


class EngineModel(RuleBasedStateMachine):
    """``states[revision]`` is what the store holds at that revision; ``changes`` what led there."""

    ordered = True
    """The engine takes commits in the order of their calls, also when they share a transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.engine = self.make_engine(Path(self.folder.name))
        self.store = self.wait(self.engine.create())
        self.states: list[dict[bytes, Item]] = [{}]
        self.changes: dict[int, dict[bytes, bytes | None]] = {}
        self.compacted = 0

    def make_engine(self, folder: Path) -> Engine:
        return SqliteEngine(folder)

    def teardown(self) -> None:
        self.wait(self.engine.stop())
        self.runner.close()
        self.folder.cleanup()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(20):
                return await work

        return self.runner.run(bounded())

    @property
    def newest(self) -> int:
        return len(self.states) - 1

    def holds(self, compares: list[Compare]) -> int | None:
        state = self.states[-1]
        for index, compare in enumerate(compares):
            item = state.get(compare.key)
            if (None if item is None else item.value) != compare.value:
                return index
        return None

    def apply(self, writes: list[Write]) -> int:
        state = dict(self.states[-1])
        revision = self.newest + 1
        changed: dict[bytes, bytes | None] = {}
        for write in writes:
            if write.value is not None:
                state[write.key] = Item(write.key, write.value, revision)
                changed[write.key] = write.value
            elif state.pop(write.key, None) is not None:
                changed[write.key] = None
        if changed:
            self.states.append(state)
            self.changes[revision] = changed
        return self.newest

    @rule(transaction=transactions)
    def commit(self, transaction: tuple[list[Compare], list[Write]]) -> None:
        compares, writes = transaction
        expected = self.holds(compares)
        try:
            revision = self.wait(self.store.commit(compares, writes))
        except CompareFailed as failed:
            assert failed.index == expected
        else:
            assert expected is None
            assert revision == self.apply(writes)

    @rule(group=st.lists(transactions, min_size=2, max_size=6))
    def commit_at_once(self, group: list[tuple[list[Compare], list[Write]]]) -> None:
        """They take effect one after the other, in the order of their calls or in some order."""

        async def all_of_them() -> list[int | BaseException]:
            commits = (self.store.commit(compares, writes) for compares, writes in group)
            return await asyncio.gather(*commits, return_exceptions=True)

        told = list(zip(group, self.wait(all_of_them()), strict=True))
        if self.ordered:
            for (compares, writes), outcome in told:
                assert self.agrees(compares, writes, outcome)
        else:
            assert self.agree_in_some_order(told), told

    def agrees(self, compares: list[Compare], writes: list[Write], outcome: int | BaseException) -> bool:
        """Carry out a commit; say whether this is its outcome."""
        expected = self.holds(compares)
        if isinstance(outcome, CompareFailed):
            return outcome.index == expected
        if isinstance(outcome, BaseException):
            raise outcome
        return expected is None and outcome == self.apply(writes)

    def agree_in_some_order(self, told: list[Told]) -> bool:
        if not told:
            return True
        for place, ((compares, writes), outcome) in enumerate(told):
            before, changes = list(self.states), dict(self.changes)
            rest = told[:place] + told[place + 1 :]
            if self.agrees(compares, writes, outcome) and self.agree_in_some_order(rest):
                return True
            self.states, self.changes = before, changes
        return False

    @rule(key=keys, back=st.integers(0, 6))
    def get(self, key: bytes, back: int) -> None:
        revision = self.newest - back
        assert self.wait(self.store.get(key)) == self.states[-1].get(key)
        if revision < 0:
            return
        try:
            assert self.wait(self.store.get(key, revision=revision)) == self.states[revision].get(key)
            assert revision >= self.compacted
        except Compacted as gone:
            assert revision < self.compacted
            assert gone.oldest == self.compacted

    @rule(wanted=st.lists(keys))
    def get_many(self, wanted: list[bytes]) -> None:
        state = self.states[-1]
        assert self.wait(self.store.get_many(wanted)) == {key: state[key] for key in wanted if key in state}

    @rule(start=keys, end=st.one_of(st.none(), keys), limit=st.integers(1, 4))
    def get_range(self, start: bytes, end: bytes | None, limit: int) -> None:
        page = self.wait(self.store.range(start, end, limit=limit))
        state = self.states[-1]
        wanted = sorted(key for key in state if key >= start and (end is None or key < end))
        assert page.items == [state[key] for key in wanted[:limit]]
        assert page.more == (len(wanted) > limit)
        assert page.revision == self.newest

    @rule(start=keys, end=st.one_of(st.none(), keys), limit=st.integers(1, 4), back=st.integers(0, 6))
    def get_range_at(self, start: bytes, end: bytes | None, limit: int, back: int) -> None:
        revision = max(self.newest - back, 0)
        try:
            page = self.wait(self.store.range(start, end, limit=limit, revision=revision))
        except Compacted as gone:
            assert revision < self.compacted
            assert gone.oldest == self.compacted
            return
        assert revision >= self.compacted
        state = self.states[revision]
        wanted = sorted(key for key in state if key >= start and (end is None or key < end))
        assert page.items == [state[key] for key in wanted[:limit]]
        assert (page.more, page.revision) == (len(wanted) > limit, revision)

    @rule(start=keys, end=st.one_of(st.none(), keys), back=st.integers(0, 10))
    def watch(self, start: bytes, end: bytes | None, back: int) -> None:
        after = max(self.newest - back, 0)
        expected = []
        for revision in range(after + 1, self.newest + 1):
            changes = {
                key: value
                for key, value in self.changes[revision].items()
                if key >= start and (end is None or key < end)
            }
            if changes:
                expected.append((revision, changes))

        async def take() -> list[list[Change]]:
            found: list[list[Change]] = []
            async with aclosing(self.store.watch(start, end, after=after)) as watch:
                while len(found) < len(expected):
                    found.append(await anext(watch))
            return found

        try:
            found = self.wait(take())
        except Compacted:
            assert after < self.compacted
            return
        assert after >= self.compacted or not expected
        assert [(c[0].revision, {change.key: change.value for change in c}) for c in found] == expected

    @rule(back=st.integers(0, 8))
    def compact(self, back: int) -> None:
        revision = max(self.newest - back, 0)
        self.wait(self.store.compact(revision))
        self.compacted = max(self.compacted, revision)

    @rule()
    def reopen(self) -> None:
        self.store = self.wait(self.engine.reopen(self.store))

    @invariant()
    def status_is_right(self) -> None:
        status = self.wait(self.store.status())
        assert (status.revision, status.compacted) == (self.newest, self.compacted)


class EtcdModel(EngineModel):
    """Each example has an etcd process of its own; watches are served from memory and from history."""

    ordered = False

    def make_engine(self, folder: Path) -> Engine:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("grey.store.etcd_watch.HELD_TRANSACTIONS", 3)
        return EtcdEngine()

    def teardown(self) -> None:
        super().teardown()
        self.patch.undo()


TestEngineModel = EngineModel.TestCase
TestEngineModel.settings = settings(
    max_examples=model_runs(40), stateful_step_count=30, deadline=None, database=None
)

TestEtcdModel = pytest.mark.processes(EtcdModel.TestCase)
TestEtcdModel.settings = settings(max_examples=4, stateful_step_count=30, deadline=None, database=None)
