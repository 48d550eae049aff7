# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the leader does begins and ends with leading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.fences import FakeTime
from support.serving import FakeReplication

from grey.daemon.leading import ClusterReplication, ShownAge, while_leading
from grey.record import Position

if TYPE_CHECKING:
    from collections.abc import Callable


class Switch:
    """Leads when the test says so."""

    def __init__(self) -> None:
        self.on = False

    def leads(self) -> bool:
        return self.on


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_work_begins_and_ends_with_leading_each_time_anew() -> None:
    switch = Switch()
    begun: list[str] = []
    running: set[str] = set()

    def work(name: str) -> Callable[[], object]:
        async def run() -> None:
            begun.append(name)
            running.add(name)
            try:
                await asyncio.Event().wait()
            finally:
                running.discard(name)

        return run

    task = asyncio.create_task(while_leading(switch, {"a": work("a"), "b": work("b")}))  # type: ignore[arg-type]
    try:
        for times in (1, 2):
            await asyncio.sleep(0)
            assert running == set()
            switch.on = True
            await until(lambda: running == {"a", "b"})
            assert sorted(begun) == ["a"] * times + ["b"] * times
            switch.on = False
            await until(lambda: not running)
        switch.on = True
        await until(lambda: running == {"a", "b"})
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert running == set()


async def test_what_fails_for_good_ends_everything() -> None:
    async def fails() -> None:
        raise ValueError("for good")

    switch = Switch()
    switch.on = True
    with pytest.raises(ExceptionGroup) as group:
        await while_leading(switch, {"fails": fails})  # type: ignore[arg-type]
    assert group.value.subgroup(ValueError) is not None


def test_the_one_who_follows_knows_how_fresh_the_data_is() -> None:
    switch, follower, deputy = Switch(), FakeReplication(), FakeReplication()
    follower.lag, deputy.lag = 0.1, 0.7
    deputy.whole = False
    view = ClusterReplication(switch, follower, deputy)  # type: ignore[arg-type]
    assert (view.lag_seconds(), view.consistent()) == (0.7, False)
    switch.on = True
    assert (view.lag_seconds(), view.consistent(), view.lag_records()) == (0.1, True, 3)
    assert view.position() == Position(1, 42)


class FakeMirror:
    """Memory that is as far as the test says."""

    complete = True
    position = Position(1, 42)


def test_what_is_shown_is_no_fresher_than_memory_is() -> None:
    clock, mirror, replication = FakeTime(100.0), FakeMirror(), FakeReplication()
    confirmed = [Position(1, 42)]
    shown = ShownAge(replication, mirror, confirmed=lambda: confirmed[0], boottime=clock)  # type: ignore[arg-type]
    assert shown.seconds() == 0.25
    mirror.position = Position(1, 41)
    clock.now += 3.0
    assert shown.seconds() == 3.25, "the engine has gone on, memory has not"
    mirror.position = Position(1, 42)
    assert shown.seconds() == 0.25
    replication.lag = 5.0
    clock.now += 1.0
    assert shown.seconds() == 1.25, "what was known before is still true"
    mirror.complete = False
    confirmed[0], replication.lag = Position(1, 41), 0.1
    clock.now += 1.0
    assert shown.seconds() == 2.25, "without memory the member beside the node counts"
    confirmed[0] = Position(1, 43)
    assert shown.seconds() == pytest.approx(0.1)
    replication.whole = False
    assert shown.seconds() is None
    replication.whole, replication.lag = True, None
    assert shown.seconds() is None
