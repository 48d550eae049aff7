# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation store's member beside greyd: how it is started, and whether it is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.federation.etcd_store import EtcdFederationStore
from grey.store import etcd_process
from grey.store.etcd_process import MemberData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.config.model import Endpoint, TlsFiles
    from grey.config.node import StoreMember
    from grey.store.etcd_process import CheckResult


def member_data(member: StoreMember) -> MemberData:
    """Return where the member's data is."""
    return MemberData(
        name=member.name,
        data_dir=member.data_dir,
        marker_file=member.marker_file,
        store="the federation store",
        key="federation_store.member",
    )


def prepare(member: StoreMember) -> list[str]:
    """Check the member's data against its marker; return the command line to become. Raises MemberRefused."""
    etcd_process.prepare(member_data(member))
    return [member.etcd, "--config-file", member.config_file]


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
