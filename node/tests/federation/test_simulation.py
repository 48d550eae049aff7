# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.virtual_time import run_virtual

from .simulated import DETECTION, NAMES, Fault, Kind, World

SCHEDULES = int(os.environ.get("GREY_SCHEDULES", "200"))
QUIET_AFTER = 55.0
END = QUIET_AFTER + 3 * DETECTION

KINDS: list[Kind] = ["freeze", "stall", "kill", "outage", "partition", "lossy"]
FAULTS = st.lists(
    st.builds(
        Fault,
        kind=st.sampled_from(KINDS),
        node=st.integers(0, len(NAMES) - 1),
        at=st.floats(0.0, 32.0),
        lasts=st.floats(0.05, 22.0),
    ),
    max_size=8,
)


def random_faults(seed: int) -> list[Fault]:
    """Return faults that the generator of examples, fond of small ones, would need long to come to."""
    chance = random.Random(seed)
    return [
        Fault(
            chance.choice(KINDS),
            chance.randrange(len(NAMES)),
            chance.uniform(0, 32),
            chance.uniform(0.05, 22),
        )
        for _ in range(chance.randrange(1, 9))
    ]


async def simulate(seed: int, faults: list[Fault]) -> World:
    world = World(seed, faults)
    await world.run(END)
    return world


def check(seed: int, faults: list[Fault]) -> None:
    """At most one cluster may write at any moment of the schedule, and in the end one does."""
    world = run_virtual(simulate(seed, faults))
    newest = max(world.epochs)
    writer = world.clusters[world.epochs[newest]]
    assert END - writer.renewals[newest] < DETECTION
    assert END - writer.acknowledged[-1] < DETECTION


@settings(
    max_examples=SCHEDULES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(seed=st.integers(0, 2**32 - 1), faults=FAULTS)
@example(seed=0, faults=[Fault("freeze", 0, 5.0, 20.0)])
@example(seed=1, faults=[Fault("freeze", 0, 5.0, 20.0), Fault("freeze", 1, 14.0, 12.0)])
@example(
    seed=2, faults=[Fault("lossy", 0, 0.0, 25.0), Fault("kill", 0, 3.0, 0.1), Fault("kill", 0, 6.0, 14.0)]
)
@example(seed=3, faults=[Fault("outage", 0, 5.0, 24.0)])
def test_at_most_one_cluster_may_write_and_in_the_end_one_does(seed: int, faults: list[Fault]) -> None:
    check(seed, faults)


def check_stalls() -> None:
    """The primary is frozen with an answer in its hand; others write when it goes on."""
    for seed in range(20):
        check(seed, [Fault("stall", 0, 5.0, 20.0)])


def test_a_primary_that_freezes_between_a_question_and_what_follows_from_it() -> None:
    check_stalls()


def test_a_frozen_primary_is_succeeded_and_stays_down_after_the_thaw() -> None:
    world = run_virtual(simulate(7, [Fault("freeze", 0, 10.0, 30.0)]))
    assert world.epochs[1] == "east"
    assert world.epochs[2] != "east"
    assert max(world.epochs) == 2


def test_an_outage_of_the_store_changes_no_epoch() -> None:
    world = run_virtual(simulate(8, [Fault("outage", 0, 10.0, 40.0)]))
    assert world.epochs == {1: "east"}


def test_a_quick_restart_of_the_primary_changes_no_epoch() -> None:
    world = run_virtual(simulate(9, [Fault("kill", 0, 10.0, 3.0), Fault("kill", 0, 20.0, 3.0)]))
    assert world.epochs == {1: "east"}
