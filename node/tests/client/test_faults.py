# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The asynchronous client when clusters refuse, fail, are slow or are gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.fake_api import FakeFederation, answer, drop, error, freeze, raw

from grey.client import (
    AsyncClient,
    BadAnswer,
    BadRequest,
    Consistency,
    DiskFull,
    Fenced,
    Forbidden,
    GreyError,
    NodeFault,
    NotPrimary,
    OutcomeUnknown,
    Overloaded,
    Primary,
    Put,
    RequestIdReused,
    TooStale,
    Unavailable,
    ValueTooLarge,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

ALL = ["aws-east", "gcp-west", "edge-chicago"]


@pytest.fixture
async def client(fake: FakeFederation) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.endpoints, primary="aws-east", attempt_seconds=2.0) as client:
        yield client


async def test_follows_the_primary_and_remembers_it(fake: FakeFederation, client: AsyncClient) -> None:
    fake.primary = "edge-chicago"
    await client.put("k", b"1")
    await client.put("k", b"2")
    assert (await client.get("k", consistency=Consistency.STRONG)).cluster == "edge-chicago"
    assert client.primary == "edge-chicago"
    assert fake.asked == ["aws-east", "edge-chicago", "edge-chicago", "edge-chicago"]
    assert fake.log[0].request_id == fake.log[1].request_id != fake.log[2].request_id


async def test_a_dead_primary_is_found_again_where_it_went(fake: FakeFederation, client: AsyncClient) -> None:
    await client.put("k", b"1")
    fake.stop("aws-east")
    fake.primary = "edge-chicago"
    await client.put("k", b"2")
    await client.put("k", b"3")
    assert fake.asked == ["aws-east", "gcp-west", "edge-chicago", "edge-chicago"]


async def test_waits_for_a_primary_to_be_there(fake: FakeFederation, client: AsyncClient) -> None:
    fake.primary = None

    async def promote(request: web.BaseRequest) -> web.Response | None:
        fake.primary = "gcp-west"
        return error(421, "not_primary", primary=None)

    fake["edge-chicago"].script.append(promote)
    await client.put("k", b"1")
    assert fake.asked == [*ALL, "aws-east", "gcp-west"]


async def test_clusters_that_point_at_each_other_do_not_keep_it_spinning(
    fake: FakeFederation, client: AsyncClient
) -> None:
    for name, other in (("aws-east", "gcp-west"), ("gcp-west", "aws-east"), ("edge-chicago", "aws-east")):
        where = {"cluster": other, "endpoint": fake[other].endpoint}
        fake[name].script.extend([answer(421, "not_primary", primary=where)] * 100)
    with pytest.raises(NotPrimary, match="because not_primary; do not_primary") as failed:
        await client.put("k", b"", timeout_seconds=2)
    assert failed.value.primary in [Primary(name, fake[name].endpoint) for name in ALL]
    assert failed.value.attempts[0].cluster == "aws-east"
    assert len(fake.log) <= 30


async def test_a_write_that_was_dropped_is_repeated_with_its_id(
    fake: FakeFederation, client: AsyncClient
) -> None:
    fake["aws-east"].script.append(drop)
    done = await client.put("k", b"1")
    assert not done.replayed
    assert fake.asked == ["aws-east", "gcp-west", "edge-chicago", "aws-east"]
    assert len({seen.request_id for seen in fake.log}) == 1
    assert fake.sequence == 1


@pytest.mark.parametrize("kind", ["put", "delete", "batch"])
async def test_a_write_whose_answer_was_lost_happens_once(
    fake: FakeFederation, client: AsyncClient, kind: str
) -> None:
    fake.put(b"k", b"0")
    fake["aws-east"].drops_answers = 1
    if kind == "put":
        assert (await client.put("k", b"1")).replayed
    elif kind == "delete":
        gone = await client.delete("k")
        assert (gone.replayed, gone.existed) == (True, True)
    else:
        await client.batch([Put("k", b"1")])
    assert fake.sequence == 2


async def test_a_lost_answer_and_then_nobody_there_is_unknown(fake: FakeFederation) -> None:
    """The HTTP library must not repeat a request behind our back: its second error would hide the first."""
    async with AsyncClient(fake.endpoints[:1]) as client:

        async def last_words(request: web.BaseRequest) -> web.Response | None:
            for runner in fake._runners["aws-east"]:
                for site in list(runner.sites):
                    await site.stop()
            return await drop(request)

        fake["aws-east"].script.append(last_words)
        with pytest.raises(OutcomeUnknown) as failed:
            await client.put("k", b"", request_id="once", timeout_seconds=2)
    assert len(fake.log) == 1
    assert failed.value.request_id == "once"
    assert failed.value.hint == "repeat it within ten minutes with the request id once, or read the key"
    assert "aws-east (127.0.0.1:" in failed.value.message
    assert failed.value.message.endswith("connection refused")
    assert failed.value.attempts[0].outcome == "the connection broke: Server disconnected"


async def test_an_unknown_outcome_is_asked_again(fake: FakeFederation, client: AsyncClient) -> None:
    fake["aws-east"].script.append(answer(504, "outcome_unknown"))
    assert await client.put("k", b"1")
    assert fake.sequence == 1
    fake["aws-east"].script.extend([answer(504, "outcome_unknown")] * 100)
    with pytest.raises(OutcomeUnknown, match=r"put k may or may not have happened: not done within 2 s: "):
        await client.put("k", b"2", timeout_seconds=2)


async def test_nobody_there(fake: FakeFederation, client: AsyncClient) -> None:
    for name in ALL:
        fake.stop(name)
    with pytest.raises(Unavailable) as failed:
        await client.put("k", b"", timeout_seconds=2)
    where = ", ".join(f"{name} ({fake[name].endpoint}): connection refused" for name in ALL)
    assert failed.value.message == f"put k: not done within 2 s: {where}"
    with pytest.raises(Unavailable):
        await client.get("k", timeout_seconds=2)


async def test_a_dead_primary_that_others_still_name(fake: FakeFederation, client: AsyncClient) -> None:
    fake.stop("aws-east")
    with pytest.raises(
        Unavailable, match=r"aws-east .* connection refused.* gcp-west .* not_primary: because"
    ):
        await client.put("k", b"", timeout_seconds=2)


async def test_reads_go_to_the_first_that_works_and_leave_the_dead_alone(
    fake: FakeFederation, client: AsyncClient
) -> None:
    fake.put(b"k", b"1")
    fake["gcp-west"].script.append(answer(503, "unavailable"))
    fake.stop("aws-east")
    assert (await client.get("k")).cluster == "edge-chicago"
    assert (await client.get("k")).cluster == "gcp-west"
    assert fake.asked == ["gcp-west", "edge-chicago", "gcp-west"]


async def test_a_slow_cluster_is_left_for_another(fake: FakeFederation) -> None:
    fake.put(b"k", b"1")
    fake["aws-east"].script.append(freeze)
    async with AsyncClient(fake.endpoints, attempt_seconds=2) as client:
        assert (await client.get("k")).cluster == "gcp-west"


async def test_a_slow_write_is_unknown_when_the_time_is_over(fake: FakeFederation) -> None:
    fake["aws-east"].script.append(freeze)
    async with AsyncClient(fake.endpoints[:1], timeout_seconds=2) as client:
        with pytest.raises(OutcomeUnknown, match=r"no answer within 2 s"):
            await client.delete("k")


async def test_fenced_passes(fake: FakeFederation, client: AsyncClient) -> None:
    fake["aws-east"].script.append(answer(503, "fenced"))
    await client.put("k", b"1")
    assert fake.asked == ["aws-east", "gcp-west", "edge-chicago", "aws-east"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(503, "fenced", Fenced), (503, "unavailable", Unavailable), (503, "overloaded", Overloaded)],
)
async def test_what_does_not_pass_in_time_is_raised_as_it_is(
    fake: FakeFederation, client: AsyncClient, status: int, code: str, kind: type[GreyError]
) -> None:
    fake["aws-east"].script.extend([answer(status, code)] * 100)
    with pytest.raises(kind) as failed:
        await client.put("k", b"", timeout_seconds=2)
    assert (failed.value.message, failed.value.hint) == (f"because {code}", f"do {code}")
    assert failed.value.attempts
    assert fake.sequence == 0


async def test_an_overloaded_primary_is_given_the_time_it_asks_for(
    fake: FakeFederation, client: AsyncClient
) -> None:
    fake["aws-east"].script.append(answer(503, "overloaded", {"Retry-After": "1"}))
    loop = asyncio.get_running_loop()
    start = loop.time()
    await client.put("k", b"1")
    assert 1.0 < loop.time() - start < 10
    assert fake.asked == ["aws-east", "aws-east"]


async def test_no_pause_that_would_outlast_the_deadline(fake: FakeFederation, client: AsyncClient) -> None:
    fake["aws-east"].script.append(answer(503, "overloaded", {"Retry-After": "60"}))
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(Overloaded):
        await client.put("k", b"1", timeout_seconds=30)
    assert loop.time() - start < 10


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_request", BadRequest),
        (403, "forbidden", Forbidden),
        (413, "value_too_large", ValueTooLarge),
        (422, "request_id_reused", RequestIdReused),
        (507, "disk_full", DiskFull),
        (405, "never_heard_of", BadAnswer),
    ],
)
async def test_refusals_are_final(
    fake: FakeFederation, client: AsyncClient, status: int, code: str, kind: type[GreyError]
) -> None:
    fake["aws-east"].script.append(answer(status, code, limit_bytes=7))
    with pytest.raises(kind) as failed:
        await client.put("k", b"")
    assert type(failed.value) is kind
    assert failed.value.cluster == "aws-east"
    assert failed.value.detail["limit_bytes"] == 7
    assert [str(each) for each in failed.value.attempts] == [
        f"aws-east ({fake['aws-east'].endpoint}): {code}: because {code}"
    ]
    assert len(fake.log) == 1


async def test_a_refusal_after_a_doubt_leaves_the_doubt(fake: FakeFederation, client: AsyncClient) -> None:
    fake["aws-east"].script.extend([drop, answer(507, "disk_full")])
    with pytest.raises(OutcomeUnknown, match="aws-east refused a repetition: because disk_full"):
        await client.put("k", b"")


async def test_a_fault_of_one_node_does_not_stop_a_read(fake: FakeFederation, client: AsyncClient) -> None:
    fake.put(b"k", b"1")
    fake["aws-east"].script.append(answer(500, "internal", incident="i-1"))
    fake["gcp-west"].script.append(raw(502, b"Bad Gateway"))
    assert (await client.get("k")).cluster == "edge-chicago"


async def test_a_fault_on_every_node_says_where_to_look(fake: FakeFederation, client: AsyncClient) -> None:
    fake["aws-east"].script.extend([answer(500, "internal", incident="i-1")] * 100)
    with pytest.raises(NodeFault) as failed:
        await client.get("k", cluster="aws-east", timeout_seconds=2)
    assert failed.value.incident == "i-1"
    with pytest.raises(OutcomeUnknown, match="internal: because internal"):
        await client.put("k", b"", timeout_seconds=2)


async def test_too_stale_goes_to_the_primary(fake: FakeFederation) -> None:
    fake.put(b"k", b"1")
    where = {"cluster": "aws-east", "endpoint": fake["aws-east"].endpoint}
    stale = answer(503, "too_stale", primary=where, lag_seconds=9.5)
    async with AsyncClient(fake.endpoints, prefer="edge-chicago") as client:
        fake["edge-chicago"].script.append(stale)
        found = await client.get("k", consistency=Consistency.bounded(1))
        assert found is not None
        assert found.cluster == "aws-east"
        fake["edge-chicago"].script.append(stale)
        with pytest.raises(TooStale) as failed:
            await client.get("k", consistency=Consistency.bounded(1), cluster="edge-chicago")
        assert failed.value.primary == Primary("aws-east", fake["aws-east"].endpoint)
    assert fake.asked == ["edge-chicago", "aws-east", "edge-chicago"]


async def test_a_strong_read_of_one_replica_is_refused(fake: FakeFederation, client: AsyncClient) -> None:
    with pytest.raises(NotPrimary) as failed:
        await client.get("k", consistency=Consistency.STRONG, cluster="gcp-west")
    assert failed.value.primary == Primary("aws-east", fake["aws-east"].endpoint)
    assert fake.asked == ["gcp-west"]


@pytest.mark.parametrize("primary", ["text", 5, {"cluster": "x"}, [], None])
async def test_a_garbled_primary_is_nobody(
    fake: FakeFederation, client: AsyncClient, primary: object
) -> None:
    fake["aws-east"].script.append(answer(421, "not_primary", primary=primary))
    await client.put("k", b"")
    assert fake.asked[:2] == ["aws-east", "gcp-west"]


async def test_a_cancelled_call_leaves_the_client_whole(fake: FakeFederation, client: AsyncClient) -> None:
    fake["aws-east"].script.append(freeze)
    call = asyncio.create_task(client.put("k", b"1"))
    assert await asyncio.to_thread(fake.seen, "aws-east", 20)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await client.put("k", b"2")
    assert fake.data[b"k"].value == b"2"


async def test_many_calls_at_a_time(fake: FakeFederation, client: AsyncClient) -> None:
    fake["aws-east"].script.extend([drop, answer(503, "fenced"), drop, answer(504, "outcome_unknown")] * 5)
    done = await asyncio.gather(*(client.put(b"%d" % number, b"") for number in range(100)))
    assert sorted(each.position.sequence for each in done) == list(range(1, 101))
    assert fake.sequence == 100
