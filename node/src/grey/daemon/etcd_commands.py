# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that become an etcd, or ask how it is: ``greyd engine`` and ``greyd federation-store``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from grey.federation import member_process
from grey.store import etcd_engine

if TYPE_CHECKING:
    from grey.config.federation_store import FederationStoreAccess
    from grey.config.model import Federation
    from grey.config.node import NodeFile
    from grey.store.etcd_process import CheckResult


class Absent(Exception):
    """The node's file lacks what the command needs; the message names the key."""


class Etcd(Protocol):
    """One of the two."""

    def command(self) -> list[str]:
        """Make everything ready; return the command line to become. Raises Absent, MemberRefused."""
        ...

    async def check(self, wait_seconds: float) -> CheckResult:
        """Ask until it is healthy or time is over. Raises MemberRefused."""
        ...


class Engine:
    """The etcd under the cluster's data."""

    def __init__(self, config: NodeFile, federation: Federation) -> None:
        """Raises Absent."""
        if config.store.engine != "etcd":
            raise Absent(f"node.store.engine must be etcd here, but is {config.store.engine}")
        self._store = config.store
        self._peer_name = federation.identity(config.cluster)

    def command(self) -> list[str]:
        """Make everything ready; return the command line to become."""
        if self._store.member is None:
            raise Absent("node.store.member is needed here, but it is absent")
        return etcd_engine.prepare(self._store, self._store.member, self._peer_name)

    async def check(self, wait_seconds: float) -> CheckResult:
        """Ask until it is healthy or time is over."""
        return await etcd_engine.check_health(self._store, wait_seconds=wait_seconds)


class FederationStore:
    """The voter's member of the federation store."""

    def __init__(self, config: NodeFile, federation: Federation) -> None:
        """Raises Absent."""
        if config.federation_store is None:
            raise Absent("node.federation_store is needed here, but it is absent")
        self._access: FederationStoreAccess = config.federation_store
        self._federation = federation

    def command(self) -> list[str]:
        """Make everything ready; return the command line to become."""
        if self._access.member is None:
            raise Absent("node.federation_store.member is needed here, but it is absent")
        return member_process.prepare(self._access.member, member_process.peer_name(self._federation))

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
