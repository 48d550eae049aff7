# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio

import pytest
from support.memory_federation_store import MemoryFederationStore

from grey.federation.records import DamagedRecord
from grey.federation.registry import DataReplaced, Registry


async def test_data_is_registered_once_and_compared_ever_after() -> None:
    store = MemoryFederationStore()
    registry = Registry(store)
    await registry.register("a", "a-1", "data-1")
    revision = store.revision
    await registry.register("a", "a-1", "data-1")
    assert store.revision == revision
    with pytest.raises(DataReplaced, match=r"must be data-1 .*holds data-2.*replaced"):
        await registry.register("a", "a-1", "data-2")
    await registry.register("b", "b-1", "data-2")


async def test_forgotten_data_may_be_replaced() -> None:
    store = MemoryFederationStore()
    registry = Registry(store)
    assert not await registry.forget("a")
    await registry.register("a", "a-1", "data-1")
    assert await registry.forget("a")
    assert not await registry.forget("a")
    await registry.register("a", "a-1", "data-2")
    with pytest.raises(DataReplaced):
        await registry.register("a", "a-1", "data-1")


async def test_of_two_that_register_at_the_same_time_one_is_refused() -> None:
    store = MemoryFederationStore()

    async def pause(what: str) -> None:
        await asyncio.sleep(0)

    store.after = pause
    registry = Registry(store)
    outcomes = await asyncio.gather(
        *(registry.register("a", "a-1", f"data-{n}") for n in range(3)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in outcomes) == ["DataReplaced", "DataReplaced", "NoneType"]


async def test_a_damaged_registration_is_not_overwritten() -> None:
    store = MemoryFederationStore()
    store._write("clusters/a", b"[]")
    with pytest.raises(DamagedRecord, match="clusters/a"):
        await Registry(store).register("a", "a-1", "data-1")
    assert store.records["clusters/a"].value == b"[]"
