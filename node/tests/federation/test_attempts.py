# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.virtual_time import run_virtual

from grey.federation.attempts import Answer, Attempts
from grey.link.etcd_fault import MemberFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Scripted:
    """A member that answers as told: seconds until the answer, and the answer or a fault."""

    def __init__(self, endpoint: str, *script: tuple[float, object]) -> None:
        self.endpoint = endpoint
        self.script = list(script)
        self.asked_at: list[float] = []
        self.cancelled = 0

    async def ask(self, seconds: float) -> object:
        self.asked_at.append(asyncio.get_running_loop().time())
        after, what = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        try:
            await asyncio.sleep(after)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(what, Exception):
            raise what
        return what


HUNG = (1e6, "never")


def attempts(*members: Scripted, first: int = 0, timeout: float = 5.0) -> Attempts[Scripted, object]:
    return Attempts(
        members, lambda member, seconds: member.ask(seconds), first=first, timeout=timeout, patience=0.5
    )


def fault(*, carried_out: bool | None = None) -> MemberFault:
    return MemberFault("refused", carried_out=carried_out)


def virtual(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtual(test())  # type: ignore[arg-type]

    run.__name__ = test.__name__
    return run


@virtual
async def test_the_first_member_alone_is_asked_when_it_answers() -> None:
    a, b = Scripted("a", (0.4, "yes")), Scripted("b", (0.0, "other"))
    async with attempts(a, b) as asked:
        assert await asked.answer() == Answer(0, "yes")
    assert (a.asked_at, b.asked_at) == ([0.0], [])


@virtual
async def test_a_hung_member_delays_by_the_patience_and_is_cancelled() -> None:
    a, b = Scripted("a", HUNG), Scripted("b", (0.1, "yes"))
    async with attempts(a, b) as asked:
        assert await asked.answer() == Answer(1, "yes")
    assert asyncio.get_running_loop().time() == pytest.approx(0.6)
    assert a.cancelled == 1


@virtual
async def test_a_fault_moves_on_at_once_and_a_whole_circle_of_faults_waits() -> None:
    a, b = Scripted("a", (0.0, fault()), (0.0, "yes")), Scripted("b", (0.0, fault()))
    async with attempts(a, b) as asked:
        assert await asked.answer() == Answer(0, "yes")
    assert (a.asked_at, b.asked_at) == ([0.0, pytest.approx(0.5)], [0.0])
    assert asked.faults == {"a": "refused", "b": "refused"}


@virtual
async def test_when_the_time_is_over_every_member_was_named() -> None:
    a, b, c = Scripted("a", HUNG), Scripted("b", (0.0, fault(carried_out=False))), Scripted("c", HUNG)
    async with attempts(a, b, c, first=1, timeout=2.0) as asked:
        assert await asked.answer() is None
    assert asyncio.get_running_loop().time() == pytest.approx(2.0)
    assert asked.faults == {"a": "no answer", "b": "refused", "c": "no answer"}
    assert not asked.uncertain


@virtual
async def test_uncertain_faults_are_remembered_and_late_answers_can_be_awaited() -> None:
    a, b = Scripted("a", (0.8, "late")), Scripted("b", (0.1, fault(carried_out=None)), (0.05, "quick"))
    async with attempts(a, b) as asked:
        assert await asked.answer() == Answer(0, "late")
        assert asked.uncertain
    async with attempts(Scripted("a", (0.8, "late")), Scripted("b", (0.0, "quick"))) as asked:
        assert await asked.answer() == Answer(1, "quick")
        assert asked.running
        assert await asked.answer(start_more=False) == Answer(0, "late")
        assert await asked.answer(start_more=False) is None
        assert not asked.running
