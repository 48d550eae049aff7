# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A walk through the keys sees one state, whatever is written meanwhile and whoever serves its pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.memory_store import MemoryStore
from support.writer_bench import Bench, outcomes

from grey.data import keyspace
from grey.data.errors import Diverged, NotYetHere
from grey.data.history import History, format_position
from grey.data.reader import Reader
from grey.data.writer import Operation
from grey.record import Position
from grey.store.interface import Compacted, Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.data.reader import Listing
    from grey.store.interface import Store


async def walk(readers: Sequence[Reader], limit: int, at: Position | None = None) -> list[Listing]:
    """Fetch all pages, each from the next reader."""
    found = [await readers[0].list(b"", limit=limit, after=None, at=at)]
    while found[-1].next is not None:
        reader = readers[len(found) % len(readers)]
        found.append(await reader.list(b"", limit=limit, after=found[-1].next, at=found[0].position))
    return found


def pairs(found: list[Listing]) -> dict[bytes, bytes | None]:
    return {each.key: each.value for page in found for each in page.envelopes}


async def test_writes_between_the_pages_do_not_show(bench: Bench) -> None:
    await outcomes(bench.writer.put(b"%02d" % n, b"old") for n in range(30))
    first = await bench.reader.list(b"", limit=10, after=None)
    assert first.position == Position(1, 30)
    await bench.writer.batch([Operation(b"%02d" % n, b"new") for n in range(0, 30, 2)])
    await bench.writer.batch([Operation(b"%02d" % n, None) for n in range(1, 30, 2)])
    await outcomes(bench.writer.put(b"%02d+" % n, b"new") for n in range(30))
    found = [first]
    while found[-1].next is not None:
        found.append(await bench.reader.list(b"", limit=7, after=found[-1].next, at=first.position))
    assert pairs(found) == {b"%02d" % n: b"old" for n in range(30)}
    assert {page.position for page in found} == {first.position}
    newest = pairs(await walk([bench.reader], 100))
    assert len(newest) == 45
    assert set(newest.values()) == {b"new"}


async def test_any_state_that_is_kept_can_be_walked(bench: Bench) -> None:
    states: dict[Position, dict[bytes, bytes | None]] = {}
    held: dict[bytes, bytes | None] = {}
    for number in range(40):
        key = b"%d" % (number % 7)
        if number % 5 == 4 and key in held:
            done = await bench.writer.delete(key)
            held.pop(key)
        else:
            done = await bench.writer.put(key, b"%d" % number)
            held[key] = b"%d" % number
        assert done.position is not None
        states[done.position] = dict(held)
    for position, state in states.items():
        found = await walk([Reader(bench.store)], 3, position)
        assert pairs(found) == state
        assert all(page.position == position for page in found)


async def copy_of(bench: Bench, store: Store, transactions: list[int]) -> Reader:
    """Return a reader of a replica that made one transaction of so many of the primary's each time."""
    records = [record for commit in bench.records() for record in commit]
    for count in transactions:
        part, records = records[:count], records[count:]
        newest = {record.key: record for record in part}
        assert len(newest) == len(part)
        writes = [Write(keyspace.data_key(each.key), bench.encoded(each)) for each in part]
        await store.commit([], [*writes, Write(keyspace.POSITION, format_position(part[-1].position))])
    return Reader(store)


async def test_another_cluster_serves_the_next_page(bench: Bench) -> None:
    """Also one whose transactions end elsewhere: the state is that of the position, record for record."""
    for number in range(12):
        await bench.writer.put(b"%02d" % number, b"%d" % number)
    for number in range(11, -1, -1):
        await bench.writer.put(b"%02d" % number, b"again")
    replica = await copy_of(bench, MemoryStore(), [5, 7, 4, 8])
    for sequence in range(1, 25):
        position = Position(1, sequence)
        wanted = pairs(await walk([bench.reader], 4, position))
        assert len(wanted) == min(sequence, 12)
        for readers in ([replica], [bench.reader, replica], [replica, bench.reader, replica]):
            assert pairs(await walk(readers, 5, position)) == wanted


async def test_states_that_cannot_be_walked(bench: Bench, store: Store) -> None:
    for number in range(5):
        await bench.writer.put(b"a", b"%d" % number)
    with pytest.raises(NotYetHere):
        await bench.reader.list(b"", limit=5, after=b"a", at=Position(1, 6))
    with pytest.raises(Diverged):
        await bench.reader.list(b"", limit=5, after=b"a", at=Position(2, 5))
    await store.compact((await store.status()).revision)
    with pytest.raises(Compacted):
        await bench.reader.list(b"", limit=5, after=b"a", at=Position(1, 3))
    assert pairs(await walk([bench.reader], 1, Position(1, 5))) == {b"a": b"4"}


async def test_a_walk_that_was_known_ends_when_its_state_goes(bench: Bench, store: Store) -> None:
    await outcomes(bench.writer.put(b"%d" % n, b"v") for n in range(5))
    first = await bench.reader.list(b"", limit=2, after=None)
    second = await bench.reader.list(b"", limit=2, after=first.next, at=first.position)
    await bench.writer.put(b"0", b"w")
    await store.compact((await store.status()).revision)
    with pytest.raises(Compacted):
        await bench.reader.list(b"", limit=2, after=second.next, at=first.position)


async def test_an_empty_range_has_a_position_too(bench: Bench) -> None:
    await bench.writer.put(b"a", b"1")
    assert (await bench.reader.list(b"x", limit=2, after=None)).position == Position(1, 1)
    assert (await bench.reader.list(b"x", limit=2, after=b"z")).position == Position(1, 1)


async def test_writes_that_are_no_records_move_no_state(bench: Bench, store: Store) -> None:
    await bench.writer.put(b"a", b"1")
    await bench.writer.put(b"b", b"1")
    for number in range(5):
        await store.commit([], [Write(keyspace.request_key("x"), b"%d" % number)])
    state = await History(store).state_at(Position(1, 2))
    assert state.revision == (await store.status()).revision
    assert pairs(await walk([bench.reader], 1)) == {b"a": b"1", b"b": b"1"}
