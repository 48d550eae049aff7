# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from grey.data import keyspace
from grey.data.identity import Identity, WrongIdentity, new_identity, read_identity, write_identity
from grey.store.interface import StoreDamaged, Write

if TYPE_CHECKING:
    from grey.store.interface import Store


async def test_written_once(store: Store) -> None:
    assert await read_identity(store) is None
    identity = new_identity("global-grey", "aws-east", "aws-east-1")
    await write_identity(store, identity)
    await write_identity(store, identity)
    assert await read_identity(store) == identity
    assert (await store.status()).revision == 1


async def test_each_store_has_its_own_data_id() -> None:
    one, other = (new_identity("f", "c", "n") for _ in range(2))
    assert one.data_id != other.data_id


async def test_another_identity_is_refused(store: Store) -> None:
    await write_identity(store, Identity("f", "aws-east", "n", "1"))
    with pytest.raises(WrongIdentity, match=r"data of f/aws-east/n \(data 1\), not of f/gcp-west/n"):
        await write_identity(store, Identity("f", "gcp-west", "n", "1"))
    assert await read_identity(store) == Identity("f", "aws-east", "n", "1")


async def test_damage_is_named(store: Store) -> None:
    await store.commit([], [Write(keyspace.IDENTITY, b"{")])
    with pytest.raises(StoreDamaged, match="identity in the store cannot be read"):
        await read_identity(store)
