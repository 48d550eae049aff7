# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the answers of a watch, whatever pieces they come in."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from support.engine_cluster import engine_cluster

from grey.link.etcd import grpc, rpc
from grey.link.etcd_fault import MemberFault
from grey.store import etcd_watch
from grey.store.etcd_watch import Tail, Transaction, follow
from grey.store.interface import Change, Compacted, Write

Event = tuple[bytes, bytes | None, int]


def answer(*events: Event, newest: int, fragment: bool = False) -> Any:
    """An answer of etcd; revisions are the store's."""
    return rpc.WatchResponse(
        header=rpc.ResponseHeader(revision=newest + 1),
        fragment=fragment,
        events=[
            rpc.Event(
                type=rpc.Event.PUT if value is not None else rpc.Event.DELETE,
                kv=rpc.KeyValue(key=key, value=value, mod_revision=revision + 1),
            )
            for key, value, revision in events
        ],
    )


class Scripted:
    """An engine whose watch says what a test chose, and that has compacted up to ``compacted``."""

    def __init__(self, *answers: Any, compacted_up_to: int = 0) -> None:
        self.answers = [rpc.WatchResponse(created=True), *answers]
        self.compacted_up_to = compacted_up_to
        self.asked: list[Any] = []
        self.cancelled = False
        self.watch = self

    # The connection
    async def stubs(self) -> Any:
        return self

    async def status(self) -> Any:
        return rpc.StatusResponse(header=rpc.ResponseHeader(revision=8))

    # The stubs and the stream
    def Watch(self) -> Any:  # noqa: N802 - gRPC's name
        return self

    async def write(self, request: Any) -> None:
        self.asked.append(request)

    async def read(self) -> Any:
        return self.answers.pop(0) if self.answers else grpc.aio.EOF

    def cancel(self) -> None:
        self.cancelled = True

    # The upkeep
    async def is_kept(self, revision: int) -> bool:
        return revision >= self.compacted_up_to

    async def compacted(self) -> int:
        return self.compacted_up_to


async def heard(engine: Any, after: int) -> list[list[Transaction]]:
    """Return what a watch reports until it ends."""
    found: list[list[Transaction]] = []
    with pytest.raises(MemberFault, match="ended the stream"):
        async with aclosing(follow(engine, engine, after)) as stream:
            async for transactions in stream:
                found.append(transactions)  # noqa: PERF401 - what came before the end counts
    assert engine.cancelled
    return found


def put(revision: int, *keys: bytes) -> Transaction:
    return Transaction(revision, [Change(key, b"v", revision) for key in keys])


async def test_one_answer_holds_many_revisions_and_the_one_before() -> None:
    engine = Scripted(
        answer((b"/a", b"v", 3), (b"/a", b"v", 4), (b"/b", b"v", 4), (b"/a", None, 5), newest=5)
    )
    assert await heard(engine, 3) == [[put(4, b"a", b"b"), Transaction(5, [Change(b"a", None, 5)])]]
    assert engine.asked[0].create_request.start_revision == 4


async def test_fragments_are_put_together() -> None:
    """A revision that is cut in the middle, in two and in three, is one transaction."""
    engine = Scripted(
        answer((b"/a", b"v", 1), (b"/b", b"v", 1), (b"/a", b"v", 2), newest=3, fragment=True),
        answer((b"/b", b"v", 2), newest=3, fragment=True),
        answer((b"/c", b"v", 2), (b"/a", b"v", 3), newest=3, fragment=True),
        answer((b"/b", b"v", 3), newest=3),
        answer((b"/a", b"v", 4), newest=4),
    )
    assert await heard(engine, 0) == [
        [put(1, b"a", b"b")],
        [put(2, b"a", b"b", b"c")],
        [put(3, b"a", b"b")],
        [put(4, b"a")],
    ]


async def test_keys_of_others_count_as_a_revision() -> None:
    engine = Scripted(answer((b"a", b"v", 1), newest=1), answer((b"/a", b"v", 2), newest=2))
    assert await heard(engine, 0) == [[Transaction(1, [])], [put(2, b"a")]]


@pytest.mark.parametrize(
    ("told", "compacted"),
    [
        (answer((b"/a", b"v", 3), newest=9), 3),  # the removals of 3 are forgotten
        (answer((b"/a", b"v", 5), newest=5), 4),  # all of 3 and 4 is
        (answer((b"/a", b"v", 3), (b"/a", b"v", 4), newest=4), 3),
        (rpc.WatchResponse(canceled=True, compact_revision=8), 7),
    ],
    ids=["a part of the next", "the next two", "two at once", "etcd says so"],
)
async def test_what_is_compacted_away_is_missed(told: Any, compacted: int) -> None:
    engine = Scripted(answer((b"/a", b"v", 2), newest=2), told, compacted_up_to=compacted)
    seen: list[int] = []
    with pytest.raises(Compacted) as gone:
        async with aclosing(follow(engine, engine, 1)) as stream:  # type: ignore[arg-type]
            async for transactions in stream:
                seen += [transaction.revision for transaction in transactions]
    assert seen == [2]
    assert (gone.value.asked, gone.value.oldest) == (2, compacted)


async def test_a_compaction_behind_the_watch_is_none_of_its_business() -> None:
    engine = Scripted(answer((b"/a", b"v", 3), (b"/a", b"v", 4), newest=9), compacted_up_to=2)
    assert await heard(engine, 2) == [[put(3, b"a"), put(4, b"a")]]


async def test_a_watch_that_etcd_ends() -> None:
    engine = Scripted(rpc.WatchResponse(canceled=True, cancel_reason="no more"))
    with pytest.raises(MemberFault, match="no more"):
        await anext(follow(engine, engine, 0))  # type: ignore[arg-type]


def test_the_tail_holds_the_newest_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        engine: Any = Scripted()
        monkeypatch.setattr(etcd_watch, "HELD_TRANSACTIONS", 3)
        tail = Tail(engine, engine, 10)
        assert tail.since(10) == []
        assert tail.since(9) is None
        tail._take([put(revision, b"a") for revision in range(11, 16)])
        assert tail.newest == 15
        assert tail.since(11) is None
        assert tail.since(12) == [put(13, b"a"), put(14, b"a"), put(15, b"a")]
        assert tail.since(14) == [put(15, b"a")]
        assert tail.since(15) == []
        tail.forget(13)
        assert tail.since(12) is None
        assert tail.since(13) == [put(14, b"a"), put(15, b"a")]
        tail.forget(99)
        assert (tail.since(14), tail.since(15)) == (None, [])
        monkeypatch.setattr(etcd_watch, "HELD_BYTES", 100)
        tail._take([Transaction(16, [Change(b"a", bytes(200), 16)])])
        assert (tail.since(15), tail.since(16), tail.newest) == (None, [], 16)

    asyncio.run(check())


async def test_large_answers_come_in_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than etcd sends at once, out of its history, with transactions that are cut in the middle."""
    monkeypatch.setattr(etcd_watch, "HELD_BYTES", 1)
    fragments = 0

    async def counting(stream: Any) -> Any:
        nonlocal fragments
        read = await shipped(stream)
        fragments += read.fragment
        return read

    shipped = etcd_watch._read
    monkeypatch.setattr(etcd_watch, "_read", counting)
    async with engine_cluster() as cluster:
        store = await cluster.members[0].open()
        for number in range(8):
            await store.commit([], [Write(b"%d" % part, bytes([number]) * 700_000) for part in range(10)])
        revisions: list[int] = []
        async with asyncio.timeout(60), aclosing(store.watch(b"", None, after=0)) as watch:
            async for changes in watch:
                revision = changes[0].revision
                revisions.append(revision)
                assert [change.key for change in changes] == [b"%d" % part for part in range(10)]
                assert all(change.value == bytes([revision - 1]) * 700_000 for change in changes)
                if revision == 8:
                    break
        await store.close()
    assert revisions == list(range(1, 9))
    assert fragments
