# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a call asks whom, for how long, and what it makes of it: exact, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
from client.scripted import OK, Asked, Nodes, hangs, read, refusal, refused, says, write
from hypothesis import given, settings
from hypothesis import strategies as st
from support.virtual_time import VirtualLoop, run_virtual

from grey.client import Fenced, GreyError, OutcomeUnknown, Overloaded, RateLimited, Unavailable
from grey.client.transport import Answer, SendFailed

if TYPE_CHECKING:
    from grey.client.call import Plan

FENCED = refusal(503, "fenced")
BROKEN = SendFailed("the connection broke", sent=True, broken=True)


def run(nodes: Nodes, plan: Plan, **options: object) -> tuple[object, float]:
    """Return what a call ended with (its answer, or the exception), and when."""

    async def main() -> tuple[object, float]:
        try:
            ended: object = (await nodes.caller(**options).call(plan)).answer  # type: ignore[arg-type]
        except GreyError as error:
            ended = error
        return ended, asyncio.get_running_loop().time()

    return run_virtual(main())


@given(
    timeout=st.floats(0.05, 20),
    refused_for=st.floats(0, 20),
    step=st.sampled_from([0.0, 0.001, 0.1, 0.4]),
)
@settings(max_examples=200, deadline=None)
def test_a_clean_refusal_never_becomes_a_doubt_for_lack_of_time(
    timeout: float, refused_for: float, step: float
) -> None:
    """The primary refuses, each time after ``step`` seconds; then it hangs. Only a repetition that began
    with enough time left may bring a doubt, and only a first request may begin with less.
    """

    async def primary(asked: Asked) -> Answer:
        await asyncio.sleep(step)
        return FENCED if asked.at < refused_for else await hangs(asked)

    nodes = Nodes({"east": {"10.0.0.1": primary}})
    ended, at = run(nodes, write(timeout))
    assert at <= timeout + 1e-6
    least = min(0.5, timeout / 4)
    clean = sum(asked.at < refused_for for asked in nodes.log)
    for asked in nodes.log[1 : clean + 1]:
        assert asked.at < timeout - least + 1e-9
    if isinstance(ended, OutcomeUnknown):
        first_doubt = nodes.log[min(clean, len(nodes.log) - 1)]
        assert first_doubt.number == 0 or first_doubt.limit > least - 1e-6
    else:
        assert isinstance(ended, Fenced)


def test_the_first_request_is_always_made() -> None:
    nodes = Nodes({"east": {"10.0.0.1": says(OK)}})
    assert run(nodes, write(0.001))[0] == OK
    assert nodes.log[0].limit == 0.001


def test_a_write_in_doubt_has_nothing_to_lose() -> None:
    """It is repeated up to the end: 0.1 s before it a refusal would not be risked, a doubt may be solved."""

    async def primary(asked: Asked) -> Answer:
        if asked.number == 0:
            await asyncio.sleep(1.8)
            raise BROKEN
        return OK

    nodes = Nodes({"east": {"10.0.0.1": primary}})
    assert run(nodes, write(2))[0] == OK
    assert nodes.log[1].at == pytest.approx(1.85)

    async def refuses(asked: Asked) -> Answer:
        await asyncio.sleep(1.8)
        return FENCED

    nodes = Nodes({"east": {"10.0.0.1": refuses}})
    assert isinstance(run(nodes, write(2))[0], Fenced)
    assert len(nodes.log) == 1


def test_a_busy_machine_that_sleeps_too_long_sends_nothing_late() -> None:
    """A time limit of zero or less would mean none at all to the HTTP library."""

    async def primary(asked: Asked) -> Answer:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.call_later(0.01, lambda: setattr(loop, "now", loop.now + 60))
        return FENCED

    nodes = Nodes({"east": {"10.0.0.1": primary}})
    assert isinstance(run(nodes, write(2))[0], Fenced)
    assert len(nodes.log) == 1


def test_the_next_node_is_asked_at_once_when_one_does_not_answer() -> None:
    for plan in (read(15), write(15)):
        nodes = Nodes({"east": {"10.0.0.1": says(refused()), "10.0.0.2": says(OK), "10.0.0.3": hangs}})
        assert run(nodes, plan) == (OK, 0.0)
        assert nodes.asked == ["10.0.0.1", "10.0.0.2"]


def test_nodes_that_hang_leave_time_for_the_others() -> None:
    for plan in (read(4), write(4)):
        nodes = Nodes({"east": {"10.0.0.1": hangs, "10.0.0.2": hangs, "10.0.0.3": says(OK)}})
        assert run(nodes, plan) == (OK, 3.0)
        assert [asked.limit for asked in nodes.log] == [2.0, 1.0, 1.0]


def test_a_node_that_hung_is_asked_last_for_a_while_that_doubles() -> None:
    nodes = Nodes({"east": {"10.0.0.1": hangs, "10.0.0.2": says(OK)}})

    async def main() -> list[float]:
        caller, loop, slow = nodes.caller(attempt_seconds=1), asyncio.get_running_loop(), []
        while loop.time() < 200:
            before = loop.time()
            await caller.call(read(15))
            if loop.time() > before:
                slow.append(before)
            await asyncio.sleep(0.5)
        return slow

    slow = run_virtual(main())
    assert len(slow) == 6
    assert [round(later - sooner, 1) for sooner, later in itertools.pairwise(slow)] == [
        6.0,
        11.0,
        21.0,
        41.0,
        61.0,
    ]


def test_another_node_may_serve_what_one_refuses() -> None:
    for code in ("fenced", "unavailable", "overloaded", "outcome_unknown", "internal"):
        nodes = Nodes({"east": {"10.0.0.1": says(refusal(503, code)), "10.0.0.2": says(OK)}})
        assert run(nodes, write(15)) == (OK, 0.0), code


def test_what_holds_for_the_cluster_is_not_asked_of_its_other_nodes() -> None:
    east = {"10.0.0.1": says(refusal(421, "not_primary")), "10.0.0.2": hangs}
    nodes = Nodes({"east": east, "west": {"10.1.0.1": says(OK)}})
    assert run(nodes, write(15)) == (OK, 0.0)
    assert nodes.asked == ["10.0.0.1", "10.1.0.1"]


def test_a_read_leaves_a_frozen_cluster_in_time() -> None:
    nodes = Nodes({"east": {"10.0.0.1": hangs}, "west": {"10.1.0.1": says(OK)}})
    assert run(nodes, read(3)) == (OK, 1.5)


def test_a_slow_primary_is_given_all_the_time_there_is() -> None:
    """The others could only point back at it."""

    async def slow(asked: Asked) -> Answer:
        await asyncio.sleep(2.5)
        return OK

    nodes = Nodes({"east": {"10.0.0.1": slow}, "west": {"10.1.0.1": says(refusal(421, "not_primary"))}})
    assert run(nodes, write(3), primary="east") == (OK, 2.5)


def test_a_kept_connection_that_the_node_had_closed_is_made_anew() -> None:
    closed = SendFailed("server disconnected", sent=True, broken=True, reused=True)
    for plan in (read(15), write(15)):
        nodes = Nodes({"east": {"10.0.0.1": says(closed, OK)}, "west": {"10.1.0.1": says(OK)}})
        assert run(nodes, plan, primary="east") == (OK, 0.0)
        assert nodes.asked == ["10.0.0.1", "10.0.0.1"]
        nodes = Nodes({"east": {"10.0.0.1": says(closed)}, "west": {"10.1.0.1": says(OK)}})
        assert run(nodes, plan, primary="east") == (OK, 0.0)
        assert nodes.asked == ["10.0.0.1", "10.0.0.1", "10.1.0.1"]


def test_a_write_whose_kept_connection_broke_is_in_doubt() -> None:
    closed = SendFailed("server disconnected", sent=True, broken=True, reused=True)
    nodes = Nodes({"east": {"10.0.0.1": says(closed, refused())}})
    ended, _ = run(nodes, write(2))
    assert isinstance(ended, OutcomeUnknown)
    assert ended.request_id == "w-1"


def test_who_asks_too_often_waits_as_long_as_it_is_told() -> None:
    limited = refusal(429, "rate_limited", "3")
    for plan in (read(15), write(15)):
        nodes = Nodes(
            {"east": {"10.0.0.1": says(limited, OK), "10.0.0.2": says(OK)}, "west": {"w": says(OK)}}
        )
        ended, at = run(nodes, plan, primary="east")
        assert ended == OK
        assert at == pytest.approx(3.05)
        assert nodes.asked == ["10.0.0.1", "10.0.0.1"]


@pytest.mark.parametrize(("code", "kind"), [("rate_limited", RateLimited), ("overloaded", Overloaded)])
def test_no_wait_that_would_outlast_the_call(code: str, kind: type[Exception]) -> None:
    nodes = Nodes({"east": {"10.0.0.1": says(refusal(429, code, "60"))}})
    ended, at = run(nodes, write(15))
    assert isinstance(ended, kind)
    assert at == 0.0


def test_who_refuses_the_certificate_for_good_is_not_asked_again() -> None:
    lasting = SendFailed("its certificate is refused", sent=False, lasting=True)
    nodes = Nodes({"east": {"10.0.0.1": says(lasting), "10.0.0.2": says(lasting)}})
    ended, at = run(nodes, write(15))
    assert isinstance(ended, Unavailable)
    assert "nobody is left to ask" in ended.message
    assert "east:1 at 10.0.0.2" in ended.message
    assert at == 0.0
    nodes = Nodes({"east": {"10.0.0.1": says(lasting), "10.0.0.2": says(refused(), OK)}})
    assert run(nodes, write(15))[0] == OK
