# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot of an etcd: how it is fetched from a member, and what it holds.

A member sends its whole database file as it is at one moment, then 32 bytes: the SHA-256 of what came before.
That is what ``etcdctl snapshot save`` stores, so that the usual tools take the file too.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from grey.link.etcd import NEEDS_LEADER, Member, rpc
from grey.link.etcd_fault import MemberFault
from grey.store.bolt import BoltDamaged, BoltFile
from grey.store.etcd_wire import ROOT
from grey.store.interface import EngineUnreachable, StoreDamaged
from grey.store.sqlite_file import named_os

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from grey.link.etcd import Stubs
    from grey.store.etcd_calls import EtcdAccess

SUM_BYTES = 32
PATIENCE_SECONDS = 10.0
"""How long the member may take for its first answer, which a majority has to confirm."""
SILENCE_SECONDS = 30.0
"""How long it may say nothing while it sends."""

_REVISION_BYTES = 17
_TOMBSTONE = b"t"


async def fetch(member: Member, write: Callable[[bytes], None], *, majority: bool = True) -> None:
    """Hand a snapshot of a member, its sum included, to ``write``, piece by piece.

    With ``majority`` it holds everything that any member has acknowledged until now; without, what this one
    has, and it may lag. Raises EngineUnreachable, StoreDamaged when it did not come whole, and what ``write``
    raises.
    """

    async def call(stubs: Stubs, seconds: float) -> None:
        if majority:
            newest = rpc.RangeRequest(key=ROOT, limit=1, keys_only=True)
            await stubs.kv.Range(newest, timeout=seconds, metadata=NEEDS_LEADER)
        await _receive(member.endpoint, stubs.maintenance.Snapshot(rpc.SnapshotRequest()), write)

    try:
        await member.ask(call, timeout_seconds=PATIENCE_SECONDS)
    except MemberFault as fault:
        raise EngineUnreachable(
            f"the etcd at {member.endpoint} gave no snapshot: {fault}. See that it runs and has a majority"
        ) from fault


async def _receive(endpoint: str, answers: Any, write: Callable[[bytes], None]) -> None:
    digest, tail = hashlib.sha256(), b""
    try:
        async with asyncio.timeout(SILENCE_SECONDS) as limit:
            async for answer in answers:
                piece = tail + answer.blob
                tail = piece[-SUM_BYTES:]
                digest.update(piece[:-SUM_BYTES])
                write(answer.blob)
                limit.reschedule(asyncio.get_running_loop().time() + SILENCE_SECONDS)
    except TimeoutError:
        raise EngineUnreachable(
            f"the etcd at {endpoint} stopped in the middle of its snapshot and said nothing for "
            f"{SILENCE_SECONDS:g} s. See how it is, then try again"
        ) from None
    finally:
        answers.cancel()
    if digest.digest() != tail:
        raise StoreDamaged(
            f"the snapshot of the etcd at {endpoint} did not come whole: its SHA-256 must be {tail.hex()}, "
            f"but is {digest.hexdigest()}. Try again; if it stays, check memory and disk of that host"
        )


async def read_all(access: EtcdAccess, prefix: bytes, *, timeout_seconds: float) -> list[tuple[bytes, bytes]]:
    """Return the keys below a prefix, without it, and their values; for a few. Raises EngineUnreachable."""
    member = Member(access.endpoint, access.tls)
    request = rpc.RangeRequest(key=prefix, range_end=prefix[:-1] + bytes([prefix[-1] + 1]))

    async def call(stubs: Stubs, seconds: float) -> Any:
        return await stubs.kv.Range(request, timeout=seconds, metadata=NEEDS_LEADER)

    try:
        answer = await member.ask(call, timeout_seconds=timeout_seconds)
    except MemberFault as fault:
        raise _silent(access, fault) from fault
    finally:
        await member.close()
    return [(pair.key[len(prefix) :], pair.value) for pair in answer.kvs]


async def fetch_file(access: EtcdAccess, target: Path) -> None:
    """Write a snapshot to a new file. Raises EngineUnreachable, StoreDamaged, DiskFull, StoreError."""
    member = Member(access.endpoint, access.tls)
    try:
        with target.open("xb") as file:

            def write(piece: bytes) -> None:
                file.write(piece)

            await fetch(member, write)
    except OSError as error:
        raise named_os(error, target, "write the snapshot") from error
    finally:
        await member.close()


async def lift_space_alarms(access: EtcdAccess) -> None:
    """Lift what a snapshot remembers of want of space: its members are gone. Raises EngineUnreachable.

    Else no engine that is made from it would take a write, however much room there is.
    """
    member = Member(access.endpoint, access.tls)

    async def call(stubs: Stubs, seconds: float) -> None:
        every = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
        for found in (await stubs.maintenance.Alarm(every, timeout=seconds)).alarms:
            if found.alarm == rpc.NOSPACE:
                lift = rpc.AlarmRequest(
                    action=rpc.AlarmRequest.DEACTIVATE, memberID=found.memberID, alarm=found.alarm
                )
                await stubs.maintenance.Alarm(lift, timeout=seconds)

    try:
        await member.ask(call, timeout_seconds=PATIENCE_SECONDS)
    except MemberFault as fault:
        raise _silent(access, fault) from fault
    finally:
        await member.close()


def _silent(access: EtcdAccess, fault: MemberFault) -> EngineUnreachable:
    return EngineUnreachable(f"the etcd at {access.endpoint} did not answer: {fault}")


class SnapshotFile:
    """What a fetched snapshot holds: every key as it was at that moment."""

    def __init__(self, data: memoryview) -> None:
        """Raises StoreDamaged."""
        try:
            self._file = BoltFile(data)
        except BoltDamaged as error:
            raise _damaged(error) from error

    def items(self, prefix: bytes = ROOT) -> Iterator[tuple[bytes, bytes]]:
        """Give the keys below a prefix, without it, and their values, in no order. Raises StoreDamaged.

        All keys are held in memory meanwhile, but no values.
        """
        found: dict[bytes, memoryview] = {}
        record = rpc.KeyValue()
        try:
            for revision, value in self._file.bucket(b"key"):
                record.ParseFromString(value)
                if not record.key.startswith(prefix):
                    continue
                if revision[_REVISION_BYTES:] == _TOMBSTONE:
                    found.pop(record.key, None)
                else:
                    found[record.key] = value
        except (BoltDamaged, DecodeError) as error:
            raise _damaged(error) from error
        for key, value in found.items():
            record.ParseFromString(value)
            yield key[len(prefix) :], record.value


def _damaged(error: Exception) -> StoreDamaged:
    return StoreDamaged(f"the snapshot cannot be read: {error}. Take another one, of another member")
