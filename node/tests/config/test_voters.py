# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grey.config.voters import Candidate, choose

if TYPE_CHECKING:
    from grey.config.model import Topology

P = Candidate(primary=True, read_only=False, voter=None)
R = Candidate(primary=False, read_only=False, voter=None)
O = Candidate(primary=False, read_only=True, voter=None)  # noqa: E741
YES = Candidate(primary=False, read_only=True, voter=True)
NO = Candidate(primary=False, read_only=False, voter=False)


@pytest.mark.parametrize(
    ("candidates", "topology", "witnesses", "expected"),
    [
        ([P, R, O], "active-passive", 0, "111"),
        ([P], "active-passive", 0, "1"),
        ([P, R], "active-passive", 0, "11"),
        ([P, O, O, O], "active-passive", 0, "1110"),
        ([O, O, O, P], "active-passive", 0, "1101"),
        ([P, R, O], "active-passive", 1, "110"),
        ([P, O, O, O], "active-passive", 1, "1100"),
        ([P, R, R, R], "active-passive", 0, "1111"),
        ([R] * 8 + [P, O], "active-passive", 0, "1111110010"),
        ([P, *[R] * 8], "active-passive", 2, "111110000"),
        ([P, NO, O, O], "active-passive", 0, "1011"),
        ([P, R, R, YES], "active-passive", 0, "1111"),
        ([P, O, O, YES], "active-passive", 0, "1101"),
        ([P, R, O, R], "hub-spoke", 0, "1000"),
        ([P, YES, O, R], "hub-spoke", 0, "1100"),
        ([P, P, R], "active-active", 0, "111"),
    ],
)
def test_voters_of_the_design(
    candidates: list[Candidate], topology: Topology, witnesses: int, expected: str
) -> None:
    assert "".join(str(int(voter)) for voter in choose(candidates, topology, witnesses)) == expected


CANDIDATE = st.builds(
    Candidate, primary=st.booleans(), read_only=st.booleans(), voter=st.none() | st.booleans()
)


@settings(deadline=None)
@given(st.lists(CANDIDATE, min_size=1, max_size=12), st.integers(0, 3))
def test_what_the_file_says_holds_and_the_default_stays_in_bounds(
    candidates: list[Candidate], witnesses: int
) -> None:
    chosen = choose(candidates, "active-passive", witnesses)
    explicit = sum(candidate.voter is True for candidate in candidates)
    for candidate, voter in zip(candidates, chosen, strict=True):
        assert candidate.voter in (None, voter)
    assert sum(chosen) + witnesses <= max(7, explicit + witnesses)
