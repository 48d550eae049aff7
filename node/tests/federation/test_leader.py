# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import msgspec
import pytest

from grey.federation.leader import Lead, LeaderRecord, LeaderView, Yield, decide_leader

OTHER = LeaderRecord("b", "10.0.0.2:8443", 7)
VIEW = LeaderView(node="a", control="10.0.0.1:8443", fit=True, record=OTHER, still_seconds=0.0)


def decide(**changes: object) -> Lead | Yield:
    return decide_leader(msgspec.structs.replace(VIEW, **changes), takeover_seconds=10.0)


def test_the_first_node_leads_at_once() -> None:
    assert decide(record=None) == Lead(LeaderRecord("a", "10.0.0.1:8443", 1), takeover=True)


def test_a_leader_that_renews_is_left_alone() -> None:
    assert decide(still_seconds=9.999) == Yield(OTHER)


def test_one_that_stood_still_is_succeeded() -> None:
    assert decide(still_seconds=10.0) == Lead(LeaderRecord("a", "10.0.0.1:8443", 8), takeover=True)


@pytest.mark.parametrize("fit", [True, False])
def test_the_leader_renews_and_says_how_it_is(fit: bool) -> None:
    """Also after a restart, and under a new address: nobody else has its name."""
    own = LeaderRecord("a", "10.0.0.9:8443", 3)
    assert decide(record=own, fit=fit) == Lead(LeaderRecord("a", "10.0.0.1:8443", 4, fit), takeover=False)


def test_a_leader_that_cannot_keep_the_role_gives_way_to_a_node_that_can() -> None:
    unfit = msgspec.structs.replace(OTHER, fit=False)
    assert isinstance(decide(record=unfit), Lead)
    assert decide(record=unfit, fit=False) == Yield(unfit), "two that cannot do not take turns"
    assert isinstance(decide(record=unfit, fit=False, still_seconds=10.0), Lead)
