# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings: pages of one state, packed, from one cluster or several."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from support.fake_api import answer, raw

from grey.client import (
    AsyncClient,
    BadAnswer,
    Compacted,
    Item,
)
from grey.record.position import Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_api import FakeFederation


@pytest.fixture
async def client(fake: FakeFederation) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.endpoints, prefer="gcp-west", primary="aws-east") as client:
        yield client


async def test_a_listing_is_packed_and_of_one_state(fake: FakeFederation, client: AsyncClient) -> None:
    for number in range(100):
        fake.put(b"%03d" % number, b"x" * 1000)
    pages = []
    async for page in client.pages(page_size=40):
        pages.append(page)
        fake.put(b"new", b"")
        fake.put(b"050", None)
    assert {page.position for page in pages} == {Position(1, 100)}
    assert [item.key for page in pages for item in page.items] == [b"%03d" % each for each in range(100)]
    assert {seen.headers["Accept-Encoding"] for seen in fake.log} == {"gzip"}


async def test_a_listing_whose_state_is_gone(fake: FakeFederation, client: AsyncClient) -> None:
    for number in range(10):
        fake.put(b"%d" % number, b"")
    found = []
    with pytest.raises(Compacted) as failed:
        async for item in client.list(page_size=4):
            found.append(item.key)
            fake.put(b"9", None)
            fake.records.compacted = fake.sequence
    assert len(found) == 4
    page = await client.page(after=failed.value.next)
    assert [item.key for item in page.items] == [b"4", b"5", b"6", b"7", b"8"]
    assert page.position == Position(1, fake.sequence)


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b"{}" * 1000)[:-20], gzip.compress(bytes(40_000_000))],
    ids=["none", "cut", "huge"],
)
async def test_a_packed_answer_that_is_wrong(fake: FakeFederation, client: AsyncClient, body: bytes) -> None:
    fake.put(b"k", b"v")
    fake["gcp-west"].script.append(raw(200, body, {"Content-Encoding": "gzip"}))
    assert [item.key async for item in client.list()] == [b"k"]
    assert fake.asked[:2] == ["gcp-west", "aws-east"]


async def test_list_goes_over_pages_and_stays_at_a_cluster(fake: FakeFederation, client: AsyncClient) -> None:
    for number in range(7):
        fake.put(f"p/{number}".encode(), b"%d" % number)
    fake.put(b"q", b"")
    pages = [page async for page in client.pages("p/", page_size=3)]
    assert [len(page.items) for page in pages] == [3, 3, 1]
    assert [item async for item in client.list("p/", page_size=3)] == [
        Item(b"p/%d" % number, Position(1, number + 1), f"1700000000.{number + 1}", b"%d" % number)
        for number in range(7)
    ]
    assert [item.value async for item in client.list("q", values=False)] == [None]
    assert set(fake.asked) == {"gcp-west"}


async def test_list_goes_on_elsewhere(fake: FakeFederation, client: AsyncClient) -> None:
    for number in range(4):
        fake.put(b"%d" % number, b"")
    found = []
    async for item in client.list(page_size=2):
        found.append(item.key)
        if len(found) == 1:
            fake["gcp-west"].script.append(answer(503, "unavailable"))
    assert found == [b"0", b"1", b"2", b"3"]
    assert fake.asked == ["gcp-west", "gcp-west", "aws-east"]


ITEM = '"key": "a", "position": "1.1", "stamp": ""'


@pytest.mark.parametrize(
    "body",
    [
        "\xff",
        "{}",
        '{"items": [{"key": "a b", "position": "1.1", "stamp": ""}], "next": null, "position": "1.1"}',
        '{"items": [{"key": "a", "position": "1", "stamp": ""}], "next": null, "position": "1.1"}',
        f'{{"items": [{{{ITEM}, "value_base64": "?"}}], "next": null, "position": "1.1"}}',
        f'{{"items": [{{{ITEM}, "expires": "soon"}}], "next": null, "position": "1.1"}}',
        f'{{"items": [{{{ITEM}}}], "next": null, "position": "x"}}',
        f'{{"items": [{{{ITEM}}}], "next": null}}',
    ],
)
async def test_a_list_that_is_garbled(fake: FakeFederation, client: AsyncClient, body: str) -> None:
    fake["gcp-west"].script.append(raw(200, body.encode("latin-1")))
    with pytest.raises(BadAnswer):
        await client.page()
