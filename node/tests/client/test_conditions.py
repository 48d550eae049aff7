# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditional writes and times to live."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING

import pytest
from support.fake_api import drop

from grey.client import (
    AsyncClient,
    BadRequest,
    ConditionFailed,
    Delete,
    OutcomeUnknown,
    Put,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_api import FakeFederation


@pytest.fixture
async def client(fake: FakeFederation) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.endpoints, prefer="gcp-west", primary="aws-east") as client:
        yield client


async def test_conditions(fake: FakeFederation, client: AsyncClient) -> None:
    first = await client.put("k", b"1", if_absent=True)
    with pytest.raises(ConditionFailed, match="because condition_failed") as failed:
        await client.put("k", b"2", if_absent=True)
    assert (failed.value.position, failed.value.cluster) == (first.position, "aws-east")
    second = await client.put("k", b"2", if_position=first.position)
    with pytest.raises(ConditionFailed) as failed:
        await client.delete("k", if_position="1.1")
    assert failed.value.position == second.position
    with pytest.raises(ConditionFailed) as failed:
        await client.batch([Put("other", b""), Delete("none", if_position="1.1")])
    assert (failed.value.key, failed.value.position) == (b"none", None)
    assert b"other" not in fake.data
    await client.batch([Put("other", b"", if_absent=True), Delete("k", if_position=second.position)])
    assert list(fake.data) == [b"other"]


async def test_a_condition_that_fails_after_a_doubt_leaves_the_doubt(
    fake: FakeFederation, client: AsyncClient
) -> None:
    """The first request may yet be carried out, when the condition holds again."""
    fake.put(b"k", b"there")
    fake["aws-east"].script.append(drop)
    with pytest.raises(OutcomeUnknown, match="aws-east refused a repetition: because condition_failed"):
        await client.put("k", b"", if_absent=True)


async def test_a_conditional_write_whose_answer_was_lost_succeeds(
    fake: FakeFederation, client: AsyncClient
) -> None:
    fake["aws-east"].drops_answers = 1
    done = await client.put("k", b"1", if_absent=True)
    assert (done.replayed, fake.sequence) == (True, 1)


async def test_a_time_to_live(fake: FakeFederation, client: AsyncClient) -> None:
    for ttl in (30, 1.0001, datetime.timedelta(minutes=2), 3650 * 86400):
        await client.put("k", b"", ttl=ttl)
    assert [seen.path.partition("?")[2] for seen in fake.log] == [
        "ttl=30s",
        "ttl=1.001s",
        "ttl=120s",
        "ttl=315360000s",
    ]
    await client.put("k", b"", ttl=60)
    at = datetime.datetime(2030, 1, 1, 0, 1, tzinfo=datetime.UTC)
    found = await client.get("k")
    assert found is not None
    assert found.expires == at
    assert [item.expires async for item in client.list()] == [at]
    await client.batch([Put("k", b"", ttl=1)])
    assert json.loads(fake.log[-1].body)["operations"][0]["ttl"] == "1s"
    for wrong in (0, 0.999, -1, 3651 * 86400, float("nan"), datetime.timedelta(0)):
        with pytest.raises(BadRequest, match="a ttl is 1 second to 10 years, not"):
            await client.put("k", b"", ttl=wrong)
