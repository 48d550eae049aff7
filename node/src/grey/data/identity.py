# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose data a store holds. Written once, when the store is made, and compared at every start.

A store of one process belongs to its node; a store of several members to all nodes of its cluster.
"""

from __future__ import annotations

import uuid

# msgspec resolves annotations when the class is used, so nothing here may hide behind TYPE_CHECKING.
import msgspec

from grey.data import keyspace
from grey.data.errors import DataError
from grey.store.interface import Compare, CompareFailed, Item, Store, StoreDamaged, Write


class Identity(msgspec.Struct, frozen=True):
    """Federation, cluster and node by name; ``data_id`` is random and belongs to this one store.

    ``node`` is None in a store that several nodes share.
    """

    federation: str
    cluster: str
    node: str | None
    data_id: str


class WrongIdentity(DataError):
    """The store holds the data of somebody else."""

    def __init__(self, wanted: Identity, held: Identity) -> None:
        super().__init__(
            f"the store holds the data of {describe(held)}, not of {describe(wanted)}; "
            f"correct the node's file, or put the right data in place"
        )
        self.wanted = wanted
        self.held = held


def new_identity(federation: str, cluster: str, node: str | None) -> Identity:
    """Return an identity for a store that is about to be made; ``node`` is None for a shared one."""
    return Identity(federation, cluster, node, uuid.uuid4().hex)


def describe(identity: Identity) -> str:
    """Say it in words, for messages."""
    names = (identity.federation, identity.cluster, identity.node)
    return f"{'/'.join(name for name in names if name is not None)} (data {identity.data_id})"


async def read_identity(store: Store) -> Identity | None:
    """Return whose data this is; None in a store that was not given an identity. Raises StoreDamaged."""
    return parse_identity(await store.get(keyspace.IDENTITY))


def parse_identity(item: Item | None) -> Identity | None:
    """Read a stored identity, None when there is none. Raises StoreDamaged."""
    if item is None:
        return None
    try:
        return msgspec.json.decode(item.value, type=Identity)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"the identity in the store cannot be read: {error}; restore a backup") from error


async def write_identity(store: Store, identity: Identity) -> None:
    """Give the store its identity, once; the same again changes nothing.

    Raises WrongIdentity when it has another one, which ``held`` says.
    """
    try:
        await store.commit(
            [Compare(keyspace.IDENTITY, None)], [Write(keyspace.IDENTITY, msgspec.json.encode(identity))]
        )
    except CompareFailed:
        held = await read_identity(store)
        if held is not None and held != identity:
            raise WrongIdentity(identity, held) from None
