# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every question of the data store to its engine: bounded in time, counted, and what its failure means."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from grey.link import etcd_alarm
from grey.link.etcd import NEEDS_LEADER, Member, rpc
from grey.link.etcd_peers import Peers
from grey.link.tls import TlsFiles
from grey.store import etcd_wire
from grey.store.interface import CommitUncertain, EngineUnreachable, StoreDamaged, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from grey.link.etcd import Stubs
    from grey.link.etcd_fault import MemberFault

T = TypeVar("T")

COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE = "etcdserver: mvcc: required revision is a future revision"
NO_SPACE = "etcdserver: mvcc: database space exceeded"
_CORRUPT = "etcdserver: corrupt cluster"
_TOO_LARGE = ("etcdserver: request is too large", "etcdserver: too many operations in txn request")

_NEXT_STEP = "look at the engine on this host: greyd engine --check-health"


class EtcdAccess(msgspec.Struct, frozen=True):
    """How the engine is reached: ``unix:/PATH`` without ``tls``, or ``host:port`` with it."""

    endpoint: str
    tls: TlsFiles | None = None
    quota_bytes: int | None = None


class Calls:
    """The questions that are under way to one member of the engine.

    ``newest`` is the newest revision that any answer has named.
    """

    def __init__(self, access: EtcdAccess, timeout_seconds: float) -> None:
        self.endpoint = access.endpoint
        self.timeout_seconds = timeout_seconds
        self.newest = 0
        self._member = Member(access.endpoint, access.tls)
        self._peers = Peers(access.endpoint, access.tls)
        self._running = 0
        self._ended = asyncio.Event()
        self._closed = False

    def check_open(self) -> None:
        """Raise StoreError when the store is closed."""
        if self._closed:
            raise StoreError(f"the store at {self.endpoint} is closed")

    async def close(self) -> None:
        """Take no more questions, wait for the answers of those that run, close the connection."""
        self._closed = True
        while self._running:
            self._ended.clear()
            await self._ended.wait()
        await self._member.close()

    async def range(self, request: Any, deadline: float | None = None) -> Any:
        """Ask for keys. Raises MemberFault."""
        metadata = None if request.serializable else NEEDS_LEADER
        return await self._ask(
            lambda stubs, seconds: stubs.kv.Range(request, timeout=seconds, metadata=metadata), deadline
        )

    async def transaction(self, request: Any, *, serializable: bool, deadline: float | None = None) -> Any:
        """Carry out a transaction. Raises MemberFault."""
        metadata = None if serializable else NEEDS_LEADER
        return await self._ask(
            lambda stubs, seconds: stubs.kv.Txn(request, timeout=seconds, metadata=metadata), deadline
        )

    async def compact(self, revision: int) -> None:
        """Compact up to a revision of the store. Raises MemberFault."""
        request = rpc.CompactionRequest(revision=etcd_wire.to_etcd(revision))
        await self._ask(
            lambda stubs, seconds: stubs.kv.Compact(request, timeout=seconds, metadata=NEEDS_LEADER)
        )

    async def status(self) -> Any:
        """Ask the member how it is. Raises MemberFault."""
        return await self._ask(
            lambda stubs, seconds: stubs.maintenance.Status(rpc.StatusRequest(), timeout=seconds)
        )

    async def members(self) -> int:
        """Ask the member how many members there are. Raises MemberFault."""
        answer = await self._ask(
            lambda stubs, seconds: stubs.cluster.MemberList(rpc.MemberListRequest(), timeout=seconds)
        )
        return len(answer.members)

    async def connected_peers(self) -> int:
        """Return with how many others the member is connected; it tells that among its metrics only.

        Raises MemberFault.
        """
        with self._counted():
            return await self._peers.connected(self.timeout_seconds)

    async def defragment(self, seconds: float) -> None:
        """Let the member give back what compaction freed; it answers nothing else meanwhile."""
        await self._ask(
            lambda stubs, seconds: stubs.maintenance.Defragment(rpc.DefragmentRequest(), timeout=seconds),
            asyncio.get_running_loop().time() + seconds,
        )

    async def lift_space_alarm(self, member_id: int) -> None:
        """Lift the space alarm of one member. Raises MemberFault."""
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, memberID=member_id, alarm=rpc.NOSPACE)
        await self._ask(
            lambda stubs, seconds: stubs.maintenance.Alarm(request, timeout=seconds, metadata=NEEDS_LEADER)
        )

    async def stubs(self) -> Stubs:
        """Return the stubs of a connection that stands. Raises MemberFault."""

        async def call(stubs: Stubs, _: float) -> Stubs:
            return stubs

        return await self._member.ask(call, timeout_seconds=self.timeout_seconds)

    def deadline(self) -> float:
        """Return when a question that begins now has to be answered, on the loop's clock."""
        return asyncio.get_running_loop().time() + self.timeout_seconds

    async def _ask(
        self, call: Callable[[Stubs, float], Awaitable[Any]], deadline: float | None = None
    ) -> Any:
        seconds = self.timeout_seconds
        if deadline is not None:
            seconds = max(0.001, deadline - asyncio.get_running_loop().time())
        with self._counted():
            answer = await self._member.ask(call, timeout_seconds=seconds)
        self.newest = max(self.newest, etcd_wire.from_etcd(answer.header.revision))
        return answer

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.check_open()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._ended.set()


def is_too_large(fault: MemberFault) -> bool:
    """Say whether a question failed since its answer was too large."""
    return "larger than max" in fault.said


def unanswered(fault: MemberFault, endpoint: str, what: str) -> StoreError:
    """Return the error of a read that failed."""
    if fault.said == _CORRUPT:
        return _corrupt(endpoint)
    return EngineUnreachable(f"the engine at {endpoint} could not {what}: {fault}. {_NEXT_STEP}")


def uncommitted(fault: MemberFault, endpoint: str) -> StoreError:
    """Return the error of a transaction that failed, except for want of space."""
    if fault.said == _CORRUPT:
        return _corrupt(endpoint)
    if fault.said in _TOO_LARGE:
        return StoreError(
            f"the engine at {endpoint} takes smaller transactions than greyd writes ({fault.said}): "
            "start it with greyd engine, which sets its limits"
        )
    if fault.carried_out is None:
        return CommitUncertain(f"the engine at {endpoint} did not say whether it committed: {fault}")
    return EngineUnreachable(
        f"the engine at {endpoint} took no transaction, nothing was written: {fault}. {_NEXT_STEP}"
    )


def _corrupt(endpoint: str) -> StoreDamaged:
    return StoreDamaged(
        f"the engine at {endpoint} has raised its alarm CORRUPT and takes no writes: "
        f"{etcd_alarm.next_step(etcd_alarm.CORRUPT)}"
    )
