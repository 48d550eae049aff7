# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a primary keeps for a replica that is away, also when it was restarted itself meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import pytest
from support.memory_federation_store import MemoryFederationStore
from support.model_federation import federation
from support.serving import FakeRole

from grey.daemon.retention import KeptHistory, lowest_needed
from grey.data import keyspace
from grey.data.history import History
from grey.data.housekeeping import Housekeeping
from grey.federation import records
from grey.federation.full_copy import who_needs_full_copy
from grey.federation.interface import FederationStoreError, MemberReport, RoleRecord
from grey.federation.members import Members
from grey.record.position import ORIGIN, Position
from grey.replicate.source import Source
from grey.store.interface import Compacted, StoreStatus, Write
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from grey.store.interface import Store

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


class Fragile(MemoryFederationStore):
    """Takes no report while it is down."""

    down = False

    async def put(self, key: str, value: bytes) -> None:
        if self.down:
            raise FederationStoreError("down")
        await super().put(key, value)


async def test_who_is_passed_by_is_marked_before_and_until_it_has_caught_up(tmp_path: Path) -> None:
    shared = Fragile()
    await shared.put(records.member_key("gcp-west"), records.encode(report("gcp-west", AWAY)))
    store = await SqliteStore.create(tmp_path / "data.sqlite")
    for sequence in range(1, 301):
        await store.commit([], [Write(keyspace.POSITION, b"1.%d" % sequence)])
    history = History(store)

    def own() -> MemberReport:
        return msgspec.structs.replace(report("aws-east", Position(1, 300)), oldest=kept.oldest)

    members = Members(federation(), "aws-east", shared, report=own)
    kept = KeptHistory(history, members.publish)
    housekeeping = Housekeeping(
        store,
        history,
        confirmed=lambda: lowest_needed(
            "primary", promotable=PROMOTABLE, streams=None, reported=members.reported()
        ),
        announce=kept.announce,
        keep_revisions=20,
        keep_at_most=200,
        keep_seconds=0,
    )

    async def marked() -> bool:
        """As a third cluster sees it, when aws-east is gone."""
        other = Members(federation(), "edge-chicago", shared, report=lambda: report("edge-chicago", ORIGIN))
        await other.step()
        return who_needs_full_copy(RoleRecord("aws-east", 1, 1, "aws-east-1"), other.observed())["gcp-west"]

    async def look() -> None:
        await kept.look(await store.status())
        await members.step()

    await look()
    assert kept.oldest == ORIGIN
    assert not await marked()
    shared.down = True
    assert await housekeeping.compact() is None  # nobody would know
    shared.down = False
    assert await housekeeping.compact() == 100
    assert await marked()
    with pytest.raises(Compacted):
        await history.revision_of(AWAY)
    again = KeptHistory(history, members.publish)  # as in a new process
    await again.look(await store.status())
    assert again.oldest == kept.oldest == Position(1, 100)
    copied = msgspec.structs.replace(report("gcp-west", Position(1, 299)), counter=2)
    await shared.put(records.member_key("gcp-west"), records.encode(copied))
    assert not await marked()
    await members.step()
    assert await housekeeping.compact() == 280  # held back by nobody: nothing is announced
    await look()
    assert kept.oldest == Position(1, 280)
    await store.close()


async def test_a_full_engine_goes_before_the_word(tmp_path: Path) -> None:
    """Compaction is what it waits for; the word follows as soon as it is heard."""
    store: Store = await SqliteStore.create(tmp_path / "data.sqlite")
    for sequence in range(1, 301):
        await store.commit([], [Write(keyspace.POSITION, b"1.%d" % sequence)])

    async def unheard(_: Position) -> bool:
        return False

    class Full:
        async def status(self) -> StoreStatus:
            return msgspec.structs.replace(await store.status(), used_bytes=90, limit_bytes=100)

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

    housekeeping = Housekeeping(
        cast("Store", Full()), History(store), confirmed=lambda: AWAY, announce=unheard, keep_revisions=20
    )
    assert await housekeeping.compact() == 300
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
