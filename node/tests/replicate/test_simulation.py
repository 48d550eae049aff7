# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication under kills, cuts, full disks, compaction, interrupted copies and moved roles, in virtual time.

A failure prints its ``seed`` and ``actions``: ``simulate(seed, actions)`` replays it exactly. More schedules:
``GREY_SCHEDULES=10000 pytest tests/replicate/test_simulation.py``.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from support.replication_simulation import KINDS, Action, Result, random_actions, simulate

SCHEDULES = int(os.environ.get("GREY_SCHEDULES", "200"))

actions = st.lists(
    st.builds(Action, st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 20)), min_size=4, max_size=14
)


@pytest.mark.usefixtures("quiet")
@settings(
    max_examples=SCHEDULES,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32), story=actions)
def test_replicas_equal_the_primary_after_any_story(seed: int, story: list[Action]) -> None:
    note(f"replay with simulate({seed}, {story})")
    simulate(seed, story)


@pytest.mark.usefixtures("quiet")
def test_a_schedule_is_the_same_every_time() -> None:
    first = [simulate(seed, random_actions(seed)) for seed in range(5)]
    assert [simulate(seed, random_actions(seed)) for seed in range(5)] == first


@pytest.mark.usefixtures("quiet")
def test_the_simulation_reaches_what_it_is_about() -> None:
    total = Result(*map(sum, zip(*(simulate(seed, random_actions(seed)) for seed in range(20)), strict=True)))
    assert total.records > 1000
    assert total.states > 1000
    assert total.copies > 40
    assert total.connections > 150
    assert total.expired > 60
    assert total.demands > 40
