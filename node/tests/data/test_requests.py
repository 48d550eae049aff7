# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools

import pytest

from grey.data import keyspace
from grey.data.requests import Operation, RequestEntry, decode_entry, digest, encode_entry, entry_writes
from grey.record import Envelope, Position, RequestRef, Stamp
from grey.store.interface import StoreDamaged

STAMP = Stamp(1_700_000_000_123_456, 2)


def record(sequence: int, request: RequestRef | None, stamp: Stamp = STAMP) -> Envelope:
    return Envelope(b"k%d" % sequence, b"v", Position(3, sequence), stamp, "a", request)


def test_one_entry_for_each_request() -> None:
    batch = [record(11 + index, RequestRef("batch", index, 3, b"d")) for index in range(3)]
    single = record(14, RequestRef("single", 0, 1, b"e"))
    writes = entry_writes([record(10, None), *batch, single])
    assert [write.key for write in writes] == [b"r/batch", b"r/single"]
    found = [decode_entry(write.value or b"") for write in writes]
    assert found == [
        RequestEntry(Position(3, 11), 3, STAMP, b"d", 1_700_000_000),
        RequestEntry(Position(3, 14), 1, STAMP, b"e", 1_700_000_000),
    ]
    assert found[0].position(2) == Position(3, 13)


def test_any_part_of_a_request_makes_the_same_entry() -> None:
    batch = [record(11 + index, RequestRef("batch", index, 3, b"d")) for index in range(3)]
    whole = entry_writes(batch)
    assert all(entry_writes([part]) == whole for part in batch)


def test_an_id_that_was_used_again_has_its_newest_entry() -> None:
    writes = entry_writes(
        [record(1, RequestRef("id", 0, 1, b"old")), record(9, RequestRef("id", 0, 1, b"new"))]
    )
    assert [decode_entry(write.value or b"").digest for write in writes] == [b"new"]


def test_damage_is_named() -> None:
    entry = encode_entry(RequestEntry(Position(1, 1), 1, STAMP, b"", 0))
    with pytest.raises(StoreDamaged, match="entry of a request id"):
        decode_entry(entry[:-1])


def test_different_requests_have_different_digests() -> None:
    requests = [
        ([Operation(b"k", b"v")], False),
        ([Operation(b"k", b"v")], True),
        ([Operation(b"k", None)], False),
        ([Operation(b"k", b"")], False),
        ([Operation(b"kv", b"")], False),
        ([Operation(b"", b"kv")], False),
        ([Operation(b"k", b"v"), Operation(b"l", b"w")], True),
        ([Operation(b"l", b"w"), Operation(b"k", b"v")], True),
        ([Operation(b"k", b"v1,1:lw")], True),
    ]
    digests = [digest(operations, batch=batch) for operations, batch in requests]
    assert all(one != other for one, other in itertools.combinations(digests, 2))
    assert digest([Operation(b"k", b"v")], batch=False) == digests[0]


def test_request_ids_are_ascii() -> None:
    assert keyspace.request_key("a.b-c_1") == b"r/a.b-c_1"
