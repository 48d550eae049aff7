# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.serving import Serving


async def test_a_primary(node: Serving) -> None:
    for page, status in (("/health", 200), ("/ready", 200), ("/primary", 200), ("/replica", 503)):
        assert (await node.ask("GET", page)).status == status
    assert (await node.ask("GET", "/primary")).json == {
        "status": "ok",
        "cluster": "aws-east",
        "node": "aws-east-1",
        "role": "primary",
        "epoch": 1,
        "lag_seconds": None,
        "problem": None,
    }
    node.role.miss_deadline()
    fenced = await node.ask("GET", "/primary")
    assert (fenced.status, fenced.json["problem"]) == (
        503,
        "this cluster holds the primary role but could not confirm it in time",
    )
    assert (await node.ask("GET", "/ready")).status == 200


async def test_an_engine_that_takes_no_writes(node: Serving) -> None:
    node.view.writes_refused = lambda: "alarm NOSPACE"
    node.view.problems.append(node.view.writes_refused)
    for fenced in (False, True):
        if fenced:
            node.role.miss_deadline()
        primary = await node.ask("GET", "/primary")
        assert (primary.status, primary.json["problem"]) == (503, "alarm NOSPACE")
        ready = await node.ask("GET", "/ready")
        assert (ready.status, ready.json["problem"]) == (200, "alarm NOSPACE")
    node.role.become_replica()
    assert (await node.ask("GET", "/primary")).json["problem"] == "the primary is gcp-west; alarm NOSPACE"


async def test_a_replica(node: Serving) -> None:
    node.role.become_replica()
    primary = await node.ask("GET", "/primary")
    assert (primary.status, primary.json["problem"]) == (503, "the primary is gcp-west")
    replica = await node.ask("GET", "/replica?lag=250ms")
    assert (replica.status, replica.json["role"], replica.json["lag_seconds"]) == (200, "replica", 0.25)
    late = await node.ask("GET", "/replica?lag=100ms")
    assert (late.status, late.json["problem"]) == (503, "the lag is 0.250 s, at most 0.1 s was asked for")
    node.replication.lag = None
    assert (await node.ask("GET", "/replica")).status == 200
    assert (await node.ask("GET", "/replica?lag=1h")).json["problem"] == (
        "the lag is unknown, at most 3600 s was asked for"
    )


@pytest.mark.parametrize(
    ("state", "problem"),
    [("starting", "the node is starting"), ("stopping", "the node is stopping"), ("refused", "disk on fire")],
)
async def test_a_node_that_does_not_serve(node: Serving, state: str, problem: str) -> None:
    node.view.state = state  # type: ignore[assignment]
    node.view.problems.append(lambda: "disk on fire" if state == "refused" else None)
    assert (await node.ask("GET", "/health")).status == 200
    for page in ("/ready", "/primary", "/replica"):
        answer = await node.ask("GET", page)
        assert (answer.status, answer.json["status"], answer.json["problem"]) == (503, "unavailable", problem)
    answer = await node.ask("GET", "/v1/kv/a")
    # What comes while the ports close is still answered.
    assert answer.error["code"] == ("not_found" if state == "stopping" else "unavailable")


async def test_a_full_copy_is_not_ready(node: Serving) -> None:
    node.role.become_replica()
    node.replication.whole = False
    for page in ("/ready", "/replica"):
        assert (await node.ask("GET", page)).json["problem"] == "a full copy from the primary is under way"


async def test_wrong_questions(node: Serving) -> None:
    assert (await node.ask("GET", "/replica?lag=5")).status == 400
    assert (await node.ask("GET", "/health?x=1")).status == 400
    assert (await node.ask("POST", "/health")).status == 405
    assert (await node.ask("HEAD", "/health")).status == 200
