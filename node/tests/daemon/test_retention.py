# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a primary keeps for a replica that is away, also when it was restarted itself meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.memory_federation_store import MemoryFederationStore
from support.model_federation import federation
from support.serving import FakeRole

from grey.daemon.retention import lowest_needed
from grey.data import keyspace
from grey.data.history import History
from grey.data.housekeeping import Housekeeping
from grey.federation import records
from grey.federation.interface import MemberReport
from grey.federation.members import Members
from grey.record.position import ORIGIN, Position
from grey.replicate.source import Source
from grey.store.interface import Compacted, Write
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

PROMOTABLE = ("aws-east", "gcp-west")
AWAY = Position(1, 50)


def report(cluster: str, position: Position) -> MemberReport:
    return MemberReport(cluster, f"{cluster}-1", 1, 1, position, None, None, 0.0, "serving", 1.0)


async def test_a_restarted_primary_keeps_what_an_absent_replica_needs(tmp_path: Path) -> None:
    """No follower has connected to the new process when its housekeeping makes its first round."""
    shared = MemoryFederationStore()
    for cluster, position in (("gcp-west", AWAY), ("edge-chicago", Position(1, 2))):
        await shared.put(records.member_key(cluster), records.encode(report(cluster, position)))
    store = await SqliteStore.create(tmp_path / "data.sqlite")
    for sequence in range(1, 301):
        await store.commit([], [Write(keyspace.POSITION, b"1.%d" % sequence)])
    history = History(store)
    source = Source(store, history, FakeRole(), cluster="aws-east", batch_size=100, interval_seconds=0.1)
    members = Members(federation(), "aws-east", shared, report=lambda: report("aws-east", Position(1, 300)))
    housekeeping = Housekeeping(
        store,
        history,
        confirmed=lambda: lowest_needed(
            "primary", promotable=PROMOTABLE, streams=source.confirmed(), reported=members.reported()
        ),
        keep_revisions=20,
        keep_seconds=0,
    )
    assert await housekeeping.compact() is None  # before the reports were read
    await members.step()
    await housekeeping.compact()
    assert await history.revision_of(AWAY) == 50
    with pytest.raises(Compacted):  # an edge can never be promoted: it holds nothing back
        await history.revision_of(Position(1, 2))
    await store.close()


def test_what_is_needed() -> None:
    reported = {"gcp-west": Position(1, 50), "edge-chicago": Position(1, 2)}
    wanted = {"promotable": PROMOTABLE, "streams": None, "reported": reported}
    assert lowest_needed("primary", **wanted) == Position(1, 50)
    assert lowest_needed("primary", **{**wanted, "streams": Position(1, 40)}) == Position(1, 40)
    assert lowest_needed("primary", **{**wanted, "streams": Position(1, 60)}) == Position(1, 50)
    assert lowest_needed("primary", **{**wanted, "reported": {}}) is None
    assert lowest_needed("primary", **{**wanted, "reported": None}) == ORIGIN
    assert lowest_needed("unknown", **wanted) == ORIGIN
    assert lowest_needed("replica", **{**wanted, "streams": Position(1, 1)}) is None
