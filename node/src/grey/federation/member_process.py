# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation store's member beside greyd: how it is started, and whether it is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.federation.etcd_store import EtcdFederationStore
from grey.store import etcd_flags, etcd_process
from grey.store.etcd_data import MemberData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.config.federation_store import StoreMember
    from grey.config.model import Endpoint, Federation, TlsFiles
    from grey.store.etcd_bootstrap import Bootstrap
    from grey.store.etcd_process import CheckResult


def peer_name(federation: Federation) -> str:
    """Return the DNS name in the certificates of all members, which greyds of other hosts lack."""
    return federation.identity("federation-store")


def prepare(member: StoreMember, peer_name: str) -> list[str]:
    """Check the member's data against its marker; return the command line to become. Raises MemberRefused."""
    return command_line(member, peer_name, etcd_process.prepare(member_data(member)))


def command_line(member: StoreMember, peer_name: str, bootstrap: Bootstrap | None) -> list[str]:
    """Return the command line of the member."""
    return etcd_flags.command_line(
        member,
        client=f"https://{member.client}",
        peer_name=peer_name,
        bootstrap=bootstrap,
        more={
            "quota-backend-bytes": member.quota_bytes,
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": f"{round(member.retention_seconds * 1000)}ms",
            **etcd_flags.client_tls(member),
        },
    )


def member_data(member: StoreMember) -> MemberData:
    """Return the member as ``grey.store.etcd_process`` takes it."""
    return MemberData(
        member,
        store="the federation store",
        key="node.federation_store.member",
        command="greyd federation-store",
    )


async def check_health(
    federation: str,
    endpoints: Sequence[Endpoint | str],
    tls: TlsFiles,
    *,
    member: StoreMember | None,
    wait_seconds: float = 0.0,
    timeout_seconds: float = 3.0,
) -> CheckResult:
    """Ask all members until a majority is healthy and the local one (if any) is part of it, or time is over.

    Never raises FederationStoreError; raises MemberRefused for a marker that cannot be read or written.
    """
    store = EtcdFederationStore(federation, endpoints, tls, timeout_seconds=timeout_seconds)
    try:
        return await etcd_process.check_health(
            store.health,
            member=None if member is None else member_data(member),
            wait_seconds=wait_seconds,
        )
    finally:
        await store.close()
