# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from grey.data.waiting import Request, WaitingQueue
from grey.data.writer import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence


def request(keys: Sequence[bytes], name: str | None = None) -> Request:
    loop = asyncio.new_event_loop()
    try:
        return Request([Operation(key, b"") for key in keys], name, loop.create_future(), batch=len(keys) > 1)
    finally:
        loop.close()


def answer(group: Sequence[Request]) -> None:
    for each in group:
        each.outcome.cancel()


shapes = st.lists(
    st.tuples(
        st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=3, unique=True),
        st.sampled_from([None, None, "x", "y"]),
        st.sampled_from(["answered", "answered", "put back", "gone before its turn"]),
    ),
    min_size=1,
    max_size=30,
)


@given(shapes, st.integers(1, 5))
def test_each_key_sees_its_requests_in_order_and_one_at_a_time(
    wanted: list[tuple[list[bytes], str | None, str]], at_once: int
) -> None:
    queue = WaitingQueue()
    fates = {}
    left = [(request(keys, name), fate) for keys, name, fate in wanted]
    order: list[Request] = []
    while left or len(queue):
        for each, fate in left[:at_once]:
            queue.append(each)
            fates[each.number] = fate
            if fate == "gone before its turn":
                each.outcome.cancel()
        del left[:at_once]
        group = queue.take_group()
        marks = [mark for each in group for mark in each.marks]
        assert len(set(marks)) == len(marks)
        for each in group:
            if fates[each.number] == "put back":
                fates[each.number] = "answered"
            else:
                order.append(each)
                each.outcome.cancel()
        queue.finish(group)
    assert len(queue) == 0
    assert queue.take_group() == []
    expected = {number for number, fate in fates.items() if fate != "gone before its turn"}
    assert {each.number for each in order} == expected
    for mark in {mark for each in order for mark in each.marks}:
        numbers = [each.number for each in order if mark in each.marks]
        assert numbers == sorted(numbers)


def test_what_waits_can_be_taken_back() -> None:
    queue = WaitingQueue()
    requests = [request([b"a"]), request([b"a"]), request([b"b"]), request([b"b", b"a"])]
    for each in requests:
        queue.append(each)
    group = queue.take_group()
    assert group == [requests[0], requests[2]]
    assert len(queue) == 2
    assert queue.drain() == [requests[1], requests[3]]
    assert len(queue) == 0


def test_thousands_that_wait_for_one_key_cost_the_others_nothing() -> None:
    """Taking a group looks at what it takes; it used to look at everything that waits."""

    def seconds(hot: int) -> float:
        queue = WaitingQueue()
        for _ in range(hot):
            queue.append(request([b"hot"]))
        best = 1e9
        for number in range(30):
            queue.append(request([b"%d" % number]))
            begun = time.perf_counter()
            group = queue.take_group()
            answer(group)
            queue.finish(group)
            best = min(best, time.perf_counter() - begun)
        return best

    assert seconds(3000) < 20 * seconds(3) + 0.001
