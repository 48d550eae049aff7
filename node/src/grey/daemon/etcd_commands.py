# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two etcd groups as commands see them: ``greyd engine`` and ``greyd federation-store``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from grey.federation import member_process
from grey.federation.store_group import StoreGroup
from grey.link.etcd import Member
from grey.link.etcd_group import GroupMember
from grey.store import etcd_bootstrap, etcd_engine
from grey.store.etcd_engine_group import EngineGroup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from grey.config.engine import DataStore, EngineMember
    from grey.config.etcd_member import EtcdMember
    from grey.config.federation_store import FederationStoreAccess, StoreMember
    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.link.etcd_group import Group
    from grey.store.etcd_data import MemberData
    from grey.store.etcd_process import CheckResult


class Absent(Exception):
    """The node's file lacks what the command needs; the message names the key."""


class Members(msgspec.Struct, frozen=True):
    """What ``members`` prints. ``heartbeat`` is that of the member here, None where none runs."""

    members: tuple[GroupMember, ...]
    healthy: bool
    heartbeat: str | None


class Etcd(Protocol):
    """One of the two."""

    def command(self) -> list[str]:
        """Make everything ready; return the command line to become. Raises Absent, MemberRefused."""
        ...

    async def check(self, wait_seconds: float) -> CheckResult:
        """Ask until it is healthy or time is over. Raises MemberRefused."""
        ...

    def member(self) -> MemberData:
        """Return the member beside this node. Raises Absent."""
        ...

    def heartbeat(self) -> str | None:
        """Return how often the member beside this node wants to hear of its leader; None without one."""
        ...

    def group(self) -> AbstractAsyncContextManager[Group]:
        """Return the connection to the group, for as long as the context lasts. Raises Absent."""
        ...


class Engine:
    """The etcd under the cluster's data."""

    def __init__(self, config: NodeFile, federation: Federation) -> None:
        """Raises Absent."""
        if config.store.engine != "etcd":
            raise Absent(f"node.store.engine must be etcd here, but is {config.store.engine}")
        self._store: DataStore = config.store
        self._peer_name = federation.identity(config.cluster)

    def command(self) -> list[str]:
        """Make everything ready; return the command line to become."""
        return etcd_engine.prepare(self._store, self._member(), self._peer_name)

    async def check(self, wait_seconds: float) -> CheckResult:
        """Ask until it is healthy or time is over."""
        return await etcd_engine.check_health(self._store, wait_seconds=wait_seconds)

    def member(self) -> MemberData:
        """Return the member beside this node."""
        return etcd_engine.member_data(self._member())

    def heartbeat(self) -> str | None:
        """Return the heartbeat of the member beside this node."""
        return _heartbeat(self._store.member)

    @asynccontextmanager
    async def group(self) -> AsyncIterator[Group]:
        """Return the connection to the group."""
        asked = EngineGroup(Member(self._store.endpoint or "", self._store.tls), self._member().tls)
        try:
            yield asked
        finally:
            await asked.close()

    def _member(self) -> EngineMember:
        if self._store.member is None:
            raise Absent("node.store.member is needed here, but it is absent")
        return self._store.member


class FederationStore:
    """The voter's member of the federation store."""

    def __init__(self, access: FederationStoreAccess | None, federation: Federation) -> None:
        """Raises Absent."""
        if access is None:
            raise Absent("node.federation_store is needed here, but it is absent")
        self._access: FederationStoreAccess = access
        self._federation = federation

    def command(self) -> list[str]:
        """Make everything ready; return the command line to become."""
        return member_process.prepare(self._member(), member_process.peer_name(self._federation))

    async def check(self, wait_seconds: float) -> CheckResult:
        """Ask until it is healthy or time is over."""
        access = self._access
        return await member_process.check_health(
            self._federation.name,
            access.endpoints,
            access.tls,
            member=access.member,
            wait_seconds=wait_seconds,
        )

    def member(self) -> MemberData:
        """Return the member beside this node."""
        return member_process.member_data(self._member())

    def heartbeat(self) -> str | None:
        """Return the heartbeat of the member beside this node."""
        return _heartbeat(self._access.member)

    @asynccontextmanager
    async def group(self) -> AsyncIterator[Group]:
        """Return the connection to the group."""
        asked = StoreGroup(self._access.endpoints, self._access.tls)
        try:
            yield asked
        finally:
            await asked.close()

    def _member(self) -> StoreMember:
        if self._access.member is None:
            raise Absent("node.federation_store.member is needed here, but it is absent")
        return self._access.member


def _heartbeat(member: EtcdMember | None) -> str | None:
    return None if member is None else f"{etcd_bootstrap.heartbeat_milliseconds(member)}ms"
