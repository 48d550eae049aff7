# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation store on etcd, over mutual TLS with the store's own CA (design, section 1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from aetcd import rpc  # type: ignore[import-untyped]

from grey.config.model import Endpoint, TlsFiles
from grey.data.keyspace import prefix_end
from grey.federation.etcd_member import NEEDS_LEADER, Member, MemberFault, Stubs, own_certificate_fault
from grey.federation.interface import FederationStoreError, Versioned

T = TypeVar("T")


class MemberHealth(msgspec.Struct, frozen=True):
    """One member of the store. ``name`` is None when no member could say it; ``leader``: it is the leader."""

    endpoint: str
    name: str | None
    reachable: bool
    leader: bool
    has_leader: bool
    database_bytes: int | None
    alarms: tuple[str, ...]
    problem: str | None


class StoreHealth(msgspec.Struct, frozen=True):
    """All members; ``majority``: more than half of them answer and follow the same leader."""

    majority: bool
    members: tuple[MemberHealth, ...]

    @property
    def reachable(self) -> int:
        """How many members answer."""
        return sum(member.reachable for member in self.members)


class EtcdFederationStore:
    """Implements ``grey.federation.interface.FederationStore``.

    Asks the member that answered last, and when it takes long the others too, so that a frozen member delays
    a call once. All methods raise FederationStoreError, which says what each member answered.
    """

    def __init__(
        self,
        federation: str,
        endpoints: Sequence[Endpoint | str],
        tls: TlsFiles,
        *,
        timeout_seconds: float,
    ) -> None:
        """``endpoints`` are the members' client addresses, ``host:port``. No connection is made yet."""
        if not endpoints:
            raise ValueError("the federation store needs at least one endpoint")
        self._root = f"/grey/{federation}/"
        self._tls = tls
        self._timeout = timeout_seconds
        self._members = [Member(str(endpoint), tls) for endpoint in endpoints]
        self._patience = min(0.5, timeout_seconds / (2 * len(self._members)))
        self._first = 0

    async def get(self, key: str) -> Versioned | None:
        """Return the record (linearizable), None when there is none."""

        async def call(stubs: Stubs, seconds: float) -> Any:
            request = rpc.RangeRequest(key=self._path(key))
            return await stubs.kv.Range(request, timeout=seconds, metadata=NEEDS_LEADER)

        found = await self._read(f"get {key!r}", call)
        return next((_versioned(pair) for pair in found.kvs), None)

    async def list(self, prefix: str) -> dict[str, Versioned]:
        """Return all records below a prefix (linearizable), by their keys relative to the federation."""
        start = self._path(prefix)

        async def call(stubs: Stubs, seconds: float) -> Any:
            request = rpc.RangeRequest(key=start, range_end=prefix_end(start))
            return await stubs.kv.Range(request, timeout=seconds, metadata=NEEDS_LEADER)

        found = await self._read(f"list {prefix!r}", call)
        return {pair.key[len(self._root) :].decode(): _versioned(pair) for pair in found.kvs}

    async def swap(self, key: str, value: bytes, *, expected: int | None) -> bool:
        """Write the record if its version is ``expected`` (None: if there is none); say whether it was written."""
        path = self._path(key)
        if expected is None:
            compare = rpc.Compare(
                key=path, target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=0
            )
        else:
            compare = rpc.Compare(
                key=path, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=expected
            )
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=path, value=value))

        async def call(stubs: Stubs, seconds: float) -> bool:
            request = rpc.TxnRequest(compare=[compare], success=[put])
            answer = await stubs.kv.Txn(request, timeout=seconds, metadata=NEEDS_LEADER)
            return bool(answer.succeeded)

        return await self._swap(f"swap {key!r}", call)

    async def put(self, key: str, value: bytes) -> None:
        """Write the record, whatever was there."""

        async def call(stubs: Stubs, seconds: float) -> Any:
            request = rpc.PutRequest(key=self._path(key), value=value)
            return await stubs.kv.Put(request, timeout=seconds, metadata=NEEDS_LEADER)

        await self._read(f"put {key!r}", call)
