# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation store as a cluster without a vote reaches it: through the control plane of the voters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import msgspec

from grey.federation import records
from grey.federation.attempts import Attempts
from grey.federation.interface import FederationStoreError, MemberReport, RoleRecord, Versioned
from grey.link.etcd_fault import MemberFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_MEMBERS = msgspec.json.Decoder(dict[str, MemberReport])


class SwapRefused(FederationStoreError):
    """Only voters change the shared records; nothing was written."""


class Reply(msgspec.Struct, frozen=True):
    """What a control plane answered."""

    status: int
    body: bytes


class TransportError(Exception):
    """No answer came from a control plane; the message says why."""


class ControlTransport(Protocol):
    """One request to the control plane of a cluster, over mutual TLS."""

    async def __call__(
        self,
        cluster: str,
        method: Literal["GET", "PUT"],
        path: str,
        body: bytes | None,
        *,
        timeout_seconds: float,
    ) -> Reply:
        """Return the reply of any node of ``cluster``, also a refusal; raises TransportError."""
        ...


class RemoteFederationStore:
    """Implements ``grey.federation.interface.FederationStore`` for reading and for the own report.

    Versions are made of the counters in the records and are good for comparing only.
    """

    def __init__(self, voters: Sequence[str], transport: ControlTransport, *, timeout_seconds: float) -> None:
        """``voters`` are cluster names; the one that answered last is asked first."""
        if not voters:
            raise ValueError("a cluster without a vote needs at least one voter to ask")
        self._voters = [Voter(name) for name in voters]
        self._transport = transport
        self._timeout = timeout_seconds
        self._first = 0

    async def get(self, key: str) -> Versioned | None:
        """Return the record ``role``, or a member's report."""
        if key != records.ROLE:
            return (await self.list(key)).get(key)
        reply = await self._ask("GET", "/v1/federation/role", None, (200, 404))
        if reply.status == 404:
            return None
        record = _decoded(records.decode_role, reply.body)
        return Versioned(records.encode(record), _version(record))

    async def list(self, prefix: str) -> dict[str, Versioned]:
        """Return the members' reports whose keys begin with ``prefix``."""
        if not prefix.startswith(records.MEMBERS):
            raise FederationStoreError(
                f"a cluster without a vote cannot read {prefix!r} of the federation store"
            )
        reply = await self._ask("GET", "/v1/federation/members", None, (200,))
        found = {
            records.member_key(name): report for name, report in _decoded(_MEMBERS.decode, reply.body).items()
        }
        return {
            key: Versioned(records.encode(report), report.counter)
            for key, report in found.items()
            if key.startswith(prefix)
        }

    async def swap(self, key: str, value: bytes, *, expected: int | None) -> bool:  # noqa: ARG002
        """Raise SwapRefused."""
        raise SwapRefused(
            f"{key!r} cannot be changed from here: this cluster has no vote in the federation store. "
            "Make the change on a voter"
        )

    async def put(self, key: str, value: bytes) -> None:
        """Send a member's report to a voter."""
        name = key.removeprefix(records.MEMBERS)
        if name == key:
            raise SwapRefused(
                f"{key!r} cannot be changed from here: this cluster has no vote in the federation store"
            )
        await self._ask("PUT", f"/v1/federation/members/{name}", value, (200, 204))

    async def close(self) -> None:
        """Nothing to release: the transport belongs to the caller."""

    async def _ask(
        self, method: Literal["GET", "PUT"], path: str, body: bytes | None, good: tuple[int, ...]
    ) -> Reply:
        async def call(voter: Voter, seconds: float) -> Reply:
            try:
                reply = await self._transport(voter.endpoint, method, path, body, timeout_seconds=seconds)
            except TransportError as fault:
                raise MemberFault(str(fault), carried_out=None) from fault
            if reply.status not in good:
                said = reply.body[:200].decode(errors="replace")
                raise MemberFault(f"answered {reply.status} {said}", carried_out=None)
            return reply

        patience = min(1.0, self._timeout / (2 * len(self._voters)))
        async with Attempts(
            self._voters, call, first=self._first, timeout=self._timeout, patience=patience
        ) as attempts:
            answer = await attempts.answer()
            if answer is None:
                asked = "; ".join(
                    f"{each.endpoint}: {attempts.faults.get(each.endpoint, 'not asked')}"
                    for each in self._voters
                )
                raise FederationStoreError(
                    f"no voter answered {method} {path} within {self._timeout:.1f} s: {asked}. "
                    "Look at greyd and the control plane (8443) of these clusters"
                )
            self._first = answer.index
            return answer.value


class Voter(msgspec.Struct, frozen=True):
    """A voting cluster; for ``Attempts`` its name stands for the endpoint."""

    endpoint: str


def _version(record: RoleRecord) -> int:
    return (record.epoch << 64) + record.counter


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except (msgspec.DecodeError, records.DamagedRecord) as fault:
        raise FederationStoreError(f"a voter's answer cannot be read: {fault}") from fault
