# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import msgspec
import pytest
from support.model_federation import federation

from grey.federation.interface import MemberReport, RoleRecord
from grey.federation.members import Observed
from grey.federation.status import BEHIND, Voters, status_document
from grey.record.position import Position

HOLDER = RoleRecord("aws-east", 1, 9, "aws-east-1")
REPORT = MemberReport("gcp-west", "gcp-west-1", 7, 1, Position(1, 42), 0.082, 0, 12450.0, "serving", 1e9)


def document(observed: dict[str, Observed], holder: RoleRecord | None = HOLDER) -> dict[str, object]:
    made = status_document(
        federation("aws-east", "gcp-west"),
        answered_by="aws-east-1",
        holder=holder,
        observed=observed,
        voters=Voters(3, 2),
    )
    return json.loads(msgspec.json.encode(made))


def cluster(
    observed: Observed, name: str = "gcp-west", holder: RoleRecord | None = HOLDER
) -> dict[str, object]:
    return next(each for each in document({name: observed}, holder)["clusters"] if each["name"] == name)


def test_the_document_is_as_the_reference_has_it() -> None:
    own = msgspec.structs.replace(
        REPORT, cluster="aws-east", lag_seconds=None, lag_records=None, throughput=45230.0
    )
    assert document({"aws-east": Observed(own, True, 0.0), "gcp-west": Observed(REPORT, True, 0.4)}) == {
        "federation": "global-grey",
        "epoch": 1,
        "primary": "aws-east",
        "answered_by": "aws-east-1",
        "voters": {"total": 3, "reachable": 2},
        "clusters": [
            {
                "name": "aws-east",
                "region": "region-0",
                "status": "primary",
                "online": True,
                "weight": 100,
                "epoch": 1,
                "position": "1.42",
                "lag_seconds": None,
                "lag_records": None,
                "throughput": 45230.0,
                "last_seen_seconds": 0.0,
                "problem": None,
                "needs_full_copy": False,
            },
            {
                "name": "gcp-west",
                "region": "region-1",
                "status": "replica",
                "online": True,
                "weight": 99,
                "epoch": 1,
                "position": "1.42",
                "lag_seconds": 0.082,
                "lag_records": 0,
                "throughput": 12450.0,
                "last_seen_seconds": 0.4,
                "problem": None,
                "needs_full_copy": False,
            },
        ],
    }


def test_without_any_knowledge() -> None:
    made = document({}, None)
    assert (made["epoch"], made["primary"]) == (None, None)
    assert [each["status"] for each in made["clusters"]] == ["unknown", "unknown"]
    assert cluster(Observed(None, False, None))["problem"] == "never seen"


@pytest.mark.parametrize("holder", [HOLDER, msgspec.structs.replace(HOLDER, cluster="gcp-west"), None])
def test_an_offline_cluster_shows_no_lag_and_no_throughput(holder: RoleRecord | None) -> None:
    offline = cluster(Observed(REPORT, False, 75.2), holder=holder)
    assert offline["status"] == "offline"
    assert not offline["online"]
    assert (offline["lag_seconds"], offline["lag_records"], offline["throughput"]) == (None, None, 0.0)
    assert offline["problem"] == "no report for 75 s"
    assert offline["position"] == "1.42"


@pytest.mark.parametrize("state", ["copying", "refused"])
def test_a_state_that_does_not_serve_wins_over_the_role(state: str) -> None:
    report = msgspec.structs.replace(REPORT, state=state, problem="why")
    for holder in (HOLDER, msgspec.structs.replace(HOLDER, cluster="gcp-west")):
        shown = cluster(Observed(report, True, 0.1), holder=holder)
        assert (shown["status"], shown["problem"]) == (state, "why")


@pytest.mark.parametrize(
    ("oldest", "needs"),
    [(None, False), (Position(1, 42), False), (Position(1, 43), True), (Position(2, 1), True)],
)
def test_who_lacks_more_than_the_primary_keeps(oldest: Position | None, needs: bool) -> None:
    """Also by the last word of a primary that is gone: that is when somebody is promoted."""
    primary = msgspec.structs.replace(REPORT, cluster="aws-east", oldest=oldest)
    for online, alone in ((True, None), (False, "no report for 75 s")):
        seen = {"aws-east": Observed(primary, online, 75.2), "gcp-west": Observed(REPORT, online, 75.2)}
        first, second = document(seen)["clusters"]
        assert second["needs_full_copy"] is needs
        assert second["problem"] == ("; ".join(filter(None, (alone, BEHIND))) if needs else alone)
        assert not first["needs_full_copy"]
    assert not any(each["needs_full_copy"] for each in document(seen, None)["clusters"])
