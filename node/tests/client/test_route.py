# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grey.client import ClusterEndpoint, Primary
from grey.client.route import DOWN_SECONDS, Route, Router

A, B, C = (ClusterEndpoint(name, f"{name}:1", weight) for name, weight in (("a", 10), ("b", 30), ("c", 20)))


def names(clusters: list[ClusterEndpoint]) -> str:
    return "".join(cluster.name for cluster in clusters)


def route(router: Router, *, to_primary: bool = True, only: ClusterEndpoint | None = None) -> Route:
    return Route(router, to_primary=to_primary, only=only, dice=random.Random(1))


def walk(way: Route, steps: int) -> str:
    found = [way.next(0.0) for _ in range(steps)]
    return "".join(
        f"{'|' if step.pause_seconds else ''}{step.cluster.name}" if step else "-" for step in found
    )


def test_order() -> None:
    assert names(Router([A, B, C]).nearest(0)) == "bca"
    assert names(Router([A, B, C], prefer="a").nearest(0)) == "abc"
    assert names(Router([A, B, C], prefer="a").nearest(0, "c")) == "cab"
    assert names(Router([A, B, C], primary="c").primary_first(0)) == "cba"


def test_who_is_down_comes_last_for_a_while() -> None:
    router = Router([A, B, C], primary="c")
    router.unreachable(C, 100.0)
    router.unreachable(B, 101.0)
    assert names(router.nearest(100.0)) == "abc"
    assert names(router.primary_first(100.0 + DOWN_SECONDS)) == "cab"
    router.reached(B)
    assert names(router.nearest(101.0)) == "bac"


def test_rounds_have_a_pause_between_them() -> None:
    assert walk(route(Router([A, B, C], primary="c")), 7) == "cba|cba|c"


def test_told_is_next_but_once_in_a_round() -> None:
    router = Router([A, B, C])
    way = route(router)
    assert walk(way, 1) == "b"
    way.told(Primary("a", "a:1"))
    assert walk(way, 1) == "a"
    way.told(Primary("b", "b:1"))
    assert walk(way, 1) == "c"
    assert walk(way, 2) == "|bc"
    assert router.primary == "b"


def test_a_primary_that_is_no_cluster_of_ours_is_asked_where_it_says() -> None:
    router = Router([A, B, C])
    way = route(router)
    way.told(Primary("d", "d:9"))
    step = way.next(0.0)
    assert step is not None
    assert step.cluster == ClusterEndpoint("d", "d:9")
    assert router.learn(Primary("a", "elsewhere:7")) == A


def test_only() -> None:
    way = route(Router([A, B, C]), only=C)
    assert walk(way, 1) == "c"
    way.told(Primary("a", "a:1"))
    assert walk(way, 2) == "|c|c"
    way.hopeless(C)
    assert walk(way, 1) == "-"


def test_the_hopeless_are_left_out_until_nobody_is_left() -> None:
    way = route(Router([A, B, C]))
    way.hopeless(B)
    assert walk(way, 3) == "ca|c"
    way.told(Primary("b", "b:1"))
    assert walk(way, 1) == "a"
    way.hopeless(A)
    way.hopeless(C)
    assert walk(way, 1) == "-"


def test_end_round_waits_at_least_so_long() -> None:
    way = route(Router([A, B, C], primary="a"))
    assert walk(way, 1) == "a"
    way.end_round(3.0)
    step = way.next(0.0)
    assert step is not None
    assert step.cluster == A
    assert 3.0 < step.pause_seconds <= 3.1


@given(st.integers(), st.integers(1, 60))
def test_pauses_grow_with_jitter_and_have_an_end(seed: int, rounds: int) -> None:
    way = Route(Router([A]), to_primary=True, dice=random.Random(seed))
    steps = [way.next(0.0) for _ in range(rounds + 1)]
    pauses = [step.pause_seconds for step in steps if step]
    assert pauses[0] == 0
    for number, pause in enumerate(pauses[1:], start=1):
        longest = min(1.0, 0.05 * 2**number)
        assert longest / 2 <= pause <= longest


@pytest.mark.parametrize(
    ("clusters", "options", "message"),
    [
        ([], {}, "a client needs at least one cluster"),
        ([A, A], {}, "the names of clusters must differ: a, a"),
        ([A, B], {"prefer": "x"}, "prefer names x, the clusters are a, b"),
        ([A, B], {"primary": "x"}, "primary names x, the clusters are a, b"),
    ],
)
def test_what_makes_no_sense_is_refused(
    clusters: list[ClusterEndpoint], options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Router(clusters, **options)
