# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation store on etcd, over mutual TLS with the store's own CA (design, section 1)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from grey.data.keyspace import prefix_end
from grey.federation import records
from grey.federation.attempts import Attempts
from grey.federation.interface import FederationStoreError, Versioned
from grey.link.etcd import NEEDS_LEADER, Member, Stubs, own_certificate_fault, rpc
from grey.link.etcd_health import StoreHealth, ask_health

if TYPE_CHECKING:
    from grey.config.model import Endpoint, TlsFiles

T = TypeVar("T")


Call: TypeAlias = Callable[[Stubs, float], Awaitable[T]]


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
        self._root = records.store_root(federation)
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

        found = await self._any(f"get {key!r}", call)
        return next((_versioned(pair) for pair in found.kvs), None)

    async def list(self, prefix: str) -> dict[str, Versioned]:
        """Return all records below a prefix (linearizable), by their keys relative to the federation."""
        start = self._path(prefix)

        async def call(stubs: Stubs, seconds: float) -> Any:
            request = rpc.RangeRequest(key=start, range_end=prefix_end(start))
            return await stubs.kv.Range(request, timeout=seconds, metadata=NEEDS_LEADER)

        found = await self._any(f"list {prefix!r}", call)
        return {pair.key[len(self._root) :].decode(): _versioned(pair) for pair in found.kvs}

    async def swap(self, key: str, value: bytes, *, expected: int | None) -> bool:
        """Write the record if its version is ``expected`` (None: if there is none); say if it was written."""
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

        await self._any(f"put {key!r}", call)

    async def health(self) -> StoreHealth:
        """Ask every member how it is. Never raises FederationStoreError: what fails is part of the answer."""
        return await ask_health(self._members, self._timeout)

    async def close(self) -> None:
        """Release the connections."""
        for member in self._members:
            await member.close()

    def _path(self, key: str) -> bytes:
        return (self._root + key).encode()

    def _attempts(self, call: Call[T]) -> Attempts[Member, T]:
        return Attempts(
            self._members,
            lambda member, seconds: member.ask(call, timeout_seconds=seconds),
            first=self._first,
            timeout=self._timeout,
            patience=self._patience,
        )

    async def _any(self, what: str, call: Call[T]) -> T:
        """Return the first answer of any member, for calls that may be carried out more than once."""
        async with self._attempts(call) as attempts:
            answer = await attempts.answer()
            if answer is None:
                raise self._unanswered(what, attempts.faults)
            self._first = answer.index
            return answer.value

    async def _swap(self, what: str, call: Call[bool]) -> bool:
        """Swap through any member: of many attempts at most one can have written, and one "yes" is enough.

        A "no" counts only when no other attempt may have written, since that would be the reason for it.
        """
        async with self._attempts(call) as attempts:
            answer = await attempts.answer()
            refused = False
            while answer is not None:
                self._first = answer.index
                if answer.value:
                    return True
                refused = True
                answer = await attempts.answer(start_more=False)
            if refused and not attempts.uncertain and not attempts.running:
                return False
            raise self._unanswered(what, attempts.faults, unknown=True)

    def _unanswered(
        self, what: str, faults: Mapping[str, str], *, unknown: bool = False
    ) -> FederationStoreError:
        asked = "; ".join(
            f"{member.endpoint}: {faults.get(member.endpoint, 'not asked')}" for member in self._members
        )
        parts = [f"the federation store did not answer within {self._timeout:.1f} s ({what}): {asked}"]
        if unknown:
            parts.append("whether it was written is unknown")
        own = own_certificate_fault(self._tls, time.time())
        parts.append(own or "look at the store's etcd on these hosts: greyd federation-store --check-health")
        return FederationStoreError(". ".join(parts))


def _versioned(pair: Any) -> Versioned:
    return Versioned(pair.value, pair.mod_revision)
