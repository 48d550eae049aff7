# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the source says to a follower, message by message, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from support.envelopes import envelope, write
from support.memory_store import MemoryStore
from support.pipe import FixedRole, PipeEnd, pipe
from support.virtual_time import run_virtual

from grey.data.fence import DeadlinePassed
from grey.data.history import History, Provenance
from grey.record import Position, Stamp
from grey.record.envelope import decode, encode
from grey.record.position import ORIGIN
from grey.replicate import wire
from grey.replicate.channel import ChannelClosed
from grey.replicate.source import Source
from grey.replicate.stream import MOST_UNCONFIRMED, SILENCE_SECONDS
from grey.store.interface import Write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

INTERVAL = 0.1
_T = TypeVar("_T")


class Fixture:
    """A source of the cluster aws, and the follower's end of a stream that it serves."""

    def __init__(self, batch_size: int = 10, promotable: list[str] | None = None) -> None:
        self.store = MemoryStore()
        self.role = FixedRole("aws")
        self.source = Source(
            self.store, History(self.store), self.role, cluster="aws", batch_size=batch_size,
            interval_seconds=INTERVAL, promotable=promotable, monotonic=self.time,
        )  # fmt: skip

    @staticmethod
    def time() -> float:
        return asyncio.get_running_loop().time()

    async def open(
        self,
        after: Position = ORIGIN,
        cluster: str = "gcp",
        version: int = 1,
        last: Provenance | None = None,
    ) -> PipeEnd:
        """Say Hello; return the follower's end."""
        mine, its = pipe()
        self.task = asyncio.create_task(self.source.serve(its, cluster))
        await mine.send(wire.encode(wire.Hello(version, cluster, after, last)))
        return mine


async def get(end: PipeEnd) -> wire.FromSource:
    return wire.decode_from_source(await end.receive())


async def say(end: PipeEnd, message: wire.FromFollower) -> None:
    await end.send(wire.encode(message))


def shipped(message: wire.FromSource) -> list[list[int]]:
    assert isinstance(message, wire.Records)
    return [[decode(data).position.sequence for data in part] for part in message.transactions]


def virtual(test: Callable[[], Awaitable[_T]]) -> Callable[[], None]:
    """Run an asynchronous test in virtual time."""

    def run() -> None:
        async def main() -> Coroutine[Any, Any, _T] | _T:
            return await test()

        run_virtual(main())

    run.__name__ = test.__name__
    return run


@virtual
async def test_a_stream_begins_with_welcome_and_ships_whole_transactions() -> None:
    it = Fixture(batch_size=4)
    one, two, three = envelope(1, b"a"), envelope(2, b"b", None), envelope(3, b"c")
    await write(it.store, two, one)
    await write(it.store, three)
    await write(it.store, envelope(4, b"x"), envelope(5, b"y"), envelope(6, b"z"))
    end = await it.open()
    assert await get(end) == wire.Welcome(1, "aws", 1, Position(1, 6))
    assert await get(end) == wire.Records([[encode(one), encode(two)], [encode(three)]], Position(1, 3))
    assert shipped(await get(end)) == [[4, 5, 6]]
    assert (it.source.records_shipped, it.source.batches_shipped, it.source.streams) == (6, 2, 1)
    await end.close()
    await it.task
    assert it.source.streams == 0


@virtual
async def test_a_stream_goes_on_after_the_position_asked_for() -> None:
    it = Fixture()
    await write(it.store, envelope(1, b"a"), envelope(2, b"b"), envelope(3, b"c"))
    await write(it.store, envelope(4, b"a"))
    end = await it.open(Position(1, 2))
    await get(end)
    assert shipped(await get(end)) == [[3], [4]]
    await end.close()


@virtual
async def test_removed_tombstones_are_no_records() -> None:
    it = Fixture()
    await write(it.store, envelope(1, b"a", None))
    await it.store.commit([], [Write(b"k/a", None)])
    await write(it.store, envelope(2, b"b"))
    end = await it.open()
    await get(end)
    assert shipped(await get(end)) == [[1], [2]]
    await end.close()


@virtual
async def test_batches_leave_once_an_interval_unless_full() -> None:
    it = Fixture(batch_size=3)
    end = await it.open()
    await get(end)
    sent: list[tuple[float, list[list[int]]]] = []

    async def listen() -> None:
        while True:
            message = await get(end)
            sent.append((round(it.time(), 3), shipped(message)))
            assert isinstance(message, wire.Records)
            await say(end, wire.Confirm(message.head))

    listener = asyncio.create_task(listen())
    await asyncio.sleep(1.0)
    for sequence in range(1, 4):
        await write(it.store, envelope(sequence))
        await asyncio.sleep(0.03)
    await asyncio.sleep(0.91)
    for sequence in range(4, 12):
        await write(it.store, envelope(sequence, b"%d" % sequence))
    await asyncio.sleep(1.0)
    assert sent == [
        (1.0, [[1]]),
        (1.1, [[2], [3]]),
        (2.0, [[4]]),
        (2.0, [[5], [6], [7]]),
        (2.0, [[8], [9], [10]]),
        (2.1, [[11]]),
    ]
    listener.cancel()
    await end.close()


@virtual
async def test_a_slow_follower_gets_a_few_batches_only() -> None:
    it = Fixture(batch_size=1)
    for sequence in range(1, 20):
        await write(it.store, envelope(sequence))
    end = await it.open()
    await asyncio.sleep(5)
    assert end.inbox.qsize() == 1 + MOST_UNCONFIRMED
    await get(end)
    for sequence in range(1, 1 + MOST_UNCONFIRMED):
        assert shipped(await get(end)) == [[sequence]]
    await say(end, wire.Confirm(Position(1, 2)))
    await asyncio.sleep(5)
    assert end.inbox.qsize() == 2
    assert it.source.confirmed() == Position(1, 2)
    await end.close()


@virtual
async def test_an_answer_names_a_head_that_holds_what_was_written_before_the_probe() -> None:
    it = Fixture(batch_size=1)
    end = await it.open()
    await get(end)
    for sequence in range(1, 8):
        await write(it.store, envelope(sequence))
    await say(end, wire.Probe(1))
    await say(end, wire.Probe(2))
    last = Position(0, 0)
    while isinstance(message := await get(end), wire.Records):
        last = Position(1, shipped(message)[-1][-1])
    assert message == wire.Answer(2, Position(1, 7), True, last)
    await end.close()


@virtual
async def test_no_answer_without_a_fence() -> None:
    it = Fixture()
    end = await it.open()
    await get(end)
    it.role.refusal = DeadlinePassed()
    await say(end, wire.Probe(1))
    refused = await get(end)
    assert isinstance(refused, wire.Refused)
    assert refused.code == "not_primary"
    assert refused.message == (
        "aws does not serve replicas now: the primary role could not be confirmed before its deadline"
    )
    await it.task


@virtual
async def test_no_answer_when_the_fence_falls_while_the_head_is_read() -> None:
    it = Fixture()
    end = await it.open()
    await get(end)
    plain = it.store.get

    async def slow(*arguments: Any, **options: Any) -> Any:
        it.role.refusal = DeadlinePassed()
        return await plain(*arguments, **options)

    it.store.get = slow  # type: ignore[method-assign]
    await say(end, wire.Probe(1))
    refused = await get(end)
    assert isinstance(refused, wire.Refused)
    assert refused.code == "not_primary"


@virtual
async def test_an_idle_stream_ends_when_the_role_moves_or_the_epoch_grows() -> None:
    for holder, epoch in (("gcp", 2), ("aws", 2)):
        it = Fixture()
        end = await it.open()
        await get(end)
        it.role.record = FixedRole("aws", holder, epoch).record
        refused = await get(end)
        assert isinstance(refused, wire.Refused)
        assert refused.code == "not_primary"
        await it.task


@virtual
async def test_a_replica_refuses_at_once() -> None:
    it = Fixture()
    it.role.record = FixedRole("aws", "gcp").record
    end = await it.open()
    assert await get(end) == wire.Refused(
        "not_primary", "aws does not serve replicas now: the primary is gcp"
    )
    with pytest.raises(wire.SourceRefused, match="the primary is gcp"):
        await it.source.snapshot_page(None)


@virtual
async def test_another_version_is_refused() -> None:
    it = Fixture()
    end = await it.open(version=9)
    refused = await get(end)
    assert isinstance(refused, wire.Refused)
    assert (refused.code, it.source.confirmed()) == ("version", None)
    assert "aws speaks version 1 of the replication protocol, gcp speaks 9" in refused.message


@virtual
async def test_a_compacted_position_is_refused_and_holds_compaction_back() -> None:
    it = Fixture()
    for sequence in range(1, 6):
        await write(it.store, envelope(sequence))
    await it.store.compact(4)
    end = await it.open(Position(1, 2))
    refused = await get(end)
    assert isinstance(refused, wire.Refused)
    assert refused.code == "compacted"
    assert it.source.confirmed() == Position(1, 2)


@virtual
async def test_a_diverged_position_is_refused_and_holds_nothing_back() -> None:
    it = Fixture()
    await write(it.store, envelope(1))
    await write(it.store, envelope(2, epoch=2))
    it.role.record = FixedRole("aws", "aws", 2).record
    for position in (Position(1, 2), Position(2, 3)):
        end = await it.open(position)
        refused = await get(end)
        assert isinstance(refused, wire.Refused)
        assert refused.code == "diverged"
        assert f"gcp stands at {position}" in refused.message
    assert it.source.confirmed() is None


FORKS = (Provenance(Stamp(1_000_000_000, 9), "aws"), Provenance(Stamp(1_000_000_000, 3), "gcp"))
"""Another stamp, and another origin, than those of record 3."""


@virtual
async def test_another_record_at_the_same_position_is_divergence() -> None:
    """Wherever the record stands in its transaction, and whatever was committed after it."""
    for transactions in (
        ([1, 2], [3], [4]),
        ([1, 2, 3], [4]),
        ([1, 2], [3, 4]),
        ([1], [2, 3, 4]),
        ([1, 2, 3],),
    ):
        it = Fixture()
        for sequences in transactions:
            await write(it.store, *(envelope(sequence, b"%d" % sequence) for sequence in sequences))
        await it.store.commit([], [Write(b"r/other", b"x")])
        at = Position(1, 3)
        for last in FORKS:
            end = await it.open(at, last=last)
            assert await get(end) == wire.Refused(
                "diverged",
                f"gcp stands at 1.3, where its record was written by {last.origin} at {last.stamp}, that of "
                "aws by aws at 1000000000.3: the history forked within epoch 1",
            )
            await it.task
        assert it.source.confirmed() is None
        end = await it.open(at, last=Provenance(envelope(3).stamp, "aws"))
        assert isinstance(await get(end), wire.Welcome)
        await end.close()


@virtual
async def test_what_is_no_longer_kept_proves_nothing() -> None:
    it = Fixture()
    for sequence in range(1, 5):
        await write(it.store, envelope(sequence, b"%d" % sequence))
    end = await it.open(Position(1, 3), last=None)
    assert isinstance(await get(end), wire.Welcome)
    await end.close()
    await it.store.compact(3)
    end = await it.open(Position(1, 3), last=FORKS[0])
    assert isinstance(await get(end), wire.Welcome)
    await end.close()


@virtual
async def test_a_fork_is_told_by_the_primary_only() -> None:
    it = Fixture()
    for sequence in range(1, 4):
        await write(it.store, envelope(sequence))
    plain = it.store.watch

    def demoted(*arguments: Any, **options: Any) -> Any:
        it.role.record = FixedRole("aws", "gcp", 2).record
        return plain(*arguments, **options)

    it.store.watch = demoted  # type: ignore[method-assign]
    refused = await get(await it.open(Position(1, 3), last=FORKS[0]))
    assert isinstance(refused, wire.Refused)
    assert refused.code == "not_primary"


@virtual
async def test_a_stream_that_compaction_overtakes_is_refused() -> None:
    it = Fixture(batch_size=1)
    for sequence in range(1, 12):
        await write(it.store, envelope(sequence))
    end = await it.open()
    await get(end)
    await asyncio.sleep(5)
    await it.store.compact(10)
    sequence = 0
    while isinstance(message := await get(end), wire.Records):
        sequence += 1
        assert shipped(message) == [[sequence]]
        await say(end, wire.Confirm(Position(1, sequence)))
    assert sequence < 10
    assert isinstance(message, wire.Refused)
    assert message.code == "compacted"


@virtual
async def test_only_promotable_followers_hold_compaction_back() -> None:
    it = Fixture(promotable=["gcp"])
    for sequence in range(1, 4):
        await write(it.store, envelope(sequence))
    edge = await it.open(Position(1, 1), "edge")
    await get(edge)
    assert it.source.confirmed() is None
    end = await it.open(Position(1, 2))
    await get(end)
    assert it.source.confirmed() == Position(1, 2)
    await get(end)
    await say(end, wire.Confirm(Position(1, 3)))
    await asyncio.sleep(1)
    assert it.source.confirmed() == Position(1, 3)
    await end.close()
    await it.task
    assert it.source.confirmed() == Position(1, 3)
    await edge.close()


@virtual
async def test_peers_that_break_the_protocol_are_left() -> None:
    it = Fixture()
    await write(it.store, envelope(1))
    wrong: list[wire.FromFollower] = [wire.Confirm(Position(1, 99)), wire.Hello(1, "gcp", Position(0, 0))]
    for message in wrong:
        end = await it.open()
        await get(end)
        await say(end, message)
        await it.task
    mine, its = pipe()
    await mine.send(b"nonsense")
    await it.source.serve(its, "gcp")
    await mine.send(wire.encode(wire.Hello(1, "other", Position(0, 0))))
    await it.source.serve(its, "gcp")
    assert its.peer.inbox.empty()
    assert it.source.confirmed() == Position(0, 0)


@virtual
async def test_silent_peers_are_left() -> None:
    it = Fixture()
    _, its = pipe()
    await it.source.serve(its, "gcp")
    assert it.time() == 10.0
    end = await it.open()
    await get(end)
    await it.task
    assert it.time() == pytest.approx(10.0 + SILENCE_SECONDS)


@virtual
async def test_a_peer_that_hangs_up_early() -> None:
    it = Fixture()
    mine, its = pipe()
    await mine.close()
    await it.source.serve(its, "gcp")
    with pytest.raises(ChannelClosed):
        await its.send(b"")


@virtual
async def test_pages_say_where_the_source_stood() -> None:
    it = Fixture()
    await write(it.store, envelope(1, b"a"), envelope(2, b"b"))
    page = await it.source.snapshot_page(None)
    assert (page.cluster, page.epoch, page.since, page.until) == ("aws", 1, Position(1, 2), Position(1, 2))
    assert page.items == list(it.store.items(b"k/", b"k0").items())
    with pytest.raises(wire.ProtocolError, match="wanted the token"):
        await it.source.snapshot_page(b"nonsense")


@virtual
async def test_no_page_of_an_epoch_that_ended_meanwhile() -> None:
    it = Fixture()
    task = asyncio.create_task(it.source.snapshot_page(None))
    plain = it.store.range

    async def promoted(*arguments: Any, **options: Any) -> Any:
        it.role.record = FixedRole("aws", "gcp", 2).record
        return await plain(*arguments, **options)

    it.store.range = promoted  # type: ignore[method-assign]
    with pytest.raises(wire.SourceRefused, match="the primary is gcp"):
        await task
