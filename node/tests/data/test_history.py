# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.memory_store import MemoryStore
from support.virtual_time import run_virtual

from grey.data import keyspace
from grey.data.errors import Diverged, HigherEpoch
from grey.data.history import PATIENCE_SECONDS, History, first_transaction
from grey.record import Envelope, Position, Stamp
from grey.record.envelope import encode
from grey.record.position import ORIGIN
from grey.store.interface import Compacted, EngineUnreachable, StoreDamaged, StoreStatus, Write

if TYPE_CHECKING:
    from typing import Any

    from grey.store.interface import Item, Store


async def store_records(store: Store, *positions: Position) -> int:
    """Write records of different keys with these positions in one transaction, as a follower does."""
    writes = [
        Write(
            keyspace.data_key(b"key-%d" % position.sequence),
            encode(Envelope(b"key-%d" % position.sequence, b"v", position, Stamp(1, 0), "a")),
        )
        for position in positions
    ]
    writes.append(Write(keyspace.POSITION, str(positions[-1]).encode()))
    return await store.commit([], writes)


async def unrelated(store: Store) -> int:
    return await store.commit([], [Write(b"r/other", str((await store.status()).revision).encode())])


def run(epoch: int, first: int, last: int) -> list[Position]:
    return [Position(epoch, sequence) for sequence in range(first, last + 1)]


async def test_an_empty_store(store: Store) -> None:
    history = History(store)
    assert await history.epoch() is None
    assert await history.position() == ORIGIN
    assert await history.revision_of(ORIGIN) == 0
    with pytest.raises(Diverged) as caught:
        await history.revision_of(Position(1, 5))
    assert (caught.value.asked, caught.value.held) == (Position(1, 5), ORIGIN)


async def test_epochs_only_grow(store: Store) -> None:
    history = History(store)
    await history.claim(3)
    await history.claim(3)
    assert await history.epoch() == 3
    assert (await store.status()).revision == 1
    with pytest.raises(HigherEpoch, match="epoch 2 cannot be claimed: this store is in epoch 3 already"):
        await history.claim(2)
    await history.claim(10)
    assert await history.epoch() == 10
    assert await store.get(keyspace.EPOCH) is not None


async def test_concurrent_claims_end_at_the_highest(store: Store) -> None:
    history = History(store)
    outcomes = await asyncio.gather(*(history.claim(epoch) for epoch in range(1, 20)), return_exceptions=True)
    assert await history.epoch() == 19
    assert outcomes[-1] is None
    assert all(outcome is None or isinstance(outcome, HigherEpoch) for outcome in outcomes)


@pytest.mark.parametrize(
    ("key", "value"), [(keyspace.EPOCH, b"one"), (keyspace.POSITION, b"1"), (keyspace.POSITION, b"")]
)
async def test_damaged_marks_are_named(store: Store, key: bytes, value: bytes) -> None:
    await store.commit([], [Write(key, value)])
    history = History(store)
    with pytest.raises(StoreDamaged, match="restore a backup"):
        await (history.epoch() if key == keyspace.EPOCH else history.position())


async def test_the_revision_of_every_position(store: Store) -> None:
    """Transactions of one to four records, with others between them, over three epochs."""
    history = History(store)
    expected = {ORIGIN: 0}
    sequence = 0
    for epoch in (1, 2, 5):
        await history.claim(epoch)
        expected[max(expected)] = (await store.status()).revision
        for size in (1, 4, 2, 3):
            await unrelated(store)
            before = (await store.status()).revision
            expected[max(expected)] = before
            records = run(epoch, sequence + 1, sequence + size)
            revision = await store_records(store, *records)
            expected |= dict.fromkeys(records[:-1], before) | {records[-1]: revision}
            sequence += size
    expected[max(expected)] = await unrelated(store)
    for position, revision in expected.items():
        assert await history.revision_of(position) == revision, position


async def test_another_epoch_at_that_sequence_is_divergence(store: Store) -> None:
    history = History(store)
    await store_records(store, *run(1, 1, 3))
    await store_records(store, *run(2, 4, 6))
    for asked, held in (
        (Position(1, 4), Position(2, 4)),
        (Position(1, 5), Position(2, 5)),
        (Position(1, 6), Position(2, 6)),
        (Position(2, 3), Position(1, 3)),
        (Position(3, 2), Position(1, 2)),
        (Position(1, 7), Position(2, 6)),
        (Position(2, 7), Position(2, 6)),
        (Position(1, 0), ORIGIN),
    ):
        with pytest.raises(Diverged) as caught:
            await history.revision_of(asked)
        assert (caught.value.asked, caught.value.held) == (asked, held)


async def test_a_transaction_of_two_epochs(store: Store) -> None:
    """A follower may store the end of one epoch and the start of the next at once."""
    history = History(store)
    await store_records(store, *run(1, 1, 2))
    await store_records(store, Position(1, 3), Position(1, 4), Position(2, 5), Position(2, 6))
    assert await history.revision_of(Position(1, 3)) == 1
    assert await history.revision_of(Position(1, 4)) == 1
    assert await history.revision_of(Position(2, 5)) == 1
    assert await history.revision_of(Position(2, 6)) == 2
    with pytest.raises(Diverged):
        await history.revision_of(Position(1, 5))


async def test_compacted_history_is_said_to_be_gone(store: Store) -> None:
    history = History(store)
    for sequence in range(1, 11):
        await store_records(store, Position(1, sequence))
    await store.compact(5)
    for sequence in range(1, 5):
        with pytest.raises(Compacted):
            await history.revision_of(Position(1, sequence))
    assert [await history.revision_of(Position(1, sequence)) for sequence in range(5, 11)] == list(
        range(5, 11)
    )
    with pytest.raises(Compacted):
        await history.revision_of(ORIGIN)


async def test_what_came_with_a_full_copy_has_no_history(store: Store) -> None:
    """The copy wrote keys without positions, then the position it ended at."""
    history = History(store)
    await store.commit([], [Write(keyspace.COPYING, b"x")])
    await store.commit([], [Write(keyspace.POSITION, b"2.500"), Write(keyspace.COPYING, None)])
    await store_records(store, Position(2, 501))
    assert await history.revision_of(Position(2, 500)) == 2
    assert await history.revision_of(Position(2, 501)) == 3
    for asked in (Position(1, 300), Position(2, 499)):
        with pytest.raises(Compacted):
            await history.revision_of(asked)
    with pytest.raises(Diverged):
        await history.revision_of(Position(1, 500))


async def test_a_member_that_lags_does_not_make_a_history_shorter_than_it_is() -> None:
    """Its status is its own word until something else makes it catch up: a false fork stops a replica."""

    class Lagging(MemoryStore):
        behind: StoreStatus | None = None

        async def get(self, key: bytes, **options: Any) -> Item | None:
            if not options.get("serializable"):
                self.behind = None
            return await super().get(key, **options)

        async def status(self) -> StoreStatus:
            return self.behind or await super().status()

    store = Lagging()
    await store_records(store, *run(1, 1, 3))
    store.behind = await store.status()
    await store_records(store, *run(1, 4, 6))
    assert await History(store).revision_of(Position(1, 6)) == 2
    with pytest.raises(Diverged):
        await History(store).revision_of(Position(1, 7))


async def test_compaction_beneath_a_search_costs_nobody_a_full_copy() -> None:
    class Overtaken(MemoryStore):
        goes = 4

        async def status(self) -> StoreStatus:
            found = await super().status()
            await self.compact(min(self.goes, found.revision))
            return found

    store = Overtaken()
    for sequence in range(1, 11):
        await store_records(store, Position(1, sequence))
    assert await History(store).revision_of(Position(1, 9)) == 9
    store.goes = 8
    with pytest.raises(Compacted):
        await History(store).revision_of(Position(1, 2))


def test_an_engine_that_freezes_holds_nobody_for_ever() -> None:
    """It said that there is a transaction, and then says nothing any more."""

    async def check() -> None:
        began = asyncio.get_running_loop().time()
        with pytest.raises(EngineUnreachable, match="after revision 7"):
            await first_transaction(MemoryStore(), after=7)
        assert asyncio.get_running_loop().time() - began == PATIENCE_SECONDS

    run_virtual(check())
