# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section ``node.federation_store`` of the node's file: how it is reached, the member beside greyd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from grey.config import etcd_member, units, values
from grey.config.etcd_member import EtcdMember
from grey.config.model import Endpoint, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grey.config.errors import Fault
    from grey.config.yamlfile import Document, KeyPath

QUOTA_BYTES = 256 * 1024**2
RETENTION_SECONDS = 600.0
LEAST_RETENTION_SECONDS = 1.0

_HERE: KeyPath = ("node", "federation_store")


class StoreMember(EtcdMember, frozen=True, kw_only=True):
    """The member of the federation store that runs beside greyd.

    ``client`` is where it listens for greyds; it may take ``quota_bytes`` on disk, and keeps
    ``retention_seconds`` of its history.
    """

    client: Endpoint
    quota_bytes: int = QUOTA_BYTES
    retention_seconds: float = RETENTION_SECONDS


class FederationStoreAccess(msgspec.Struct, frozen=True):
    """How this node reaches the federation store; ``member`` is None where none runs beside it."""

    endpoints: tuple[Endpoint, ...]
    tls: TlsFiles
    member: StoreMember | None


def read(plain: dict[str, Any]) -> FederationStoreAccess:
    """Return a checked section."""
    return FederationStoreAccess(
        endpoints=tuple(map(values.endpoint, plain["endpoints"])),
        tls=TlsFiles(**plain["tls"]),
        member=_member(plain["member"]) if "member" in plain else None,
    )


def faults(plain: dict[str, Any], document: Document) -> Iterator[Fault]:
    """Return what is wrong between the keys of a section that the schema has passed."""
    if "member" not in plain:
        return
    here: KeyPath = (*_HERE, "member")
    member = plain["member"]
    yield from etcd_member.address_faults(member, "client", here, document)
    yield from etcd_member.faults(member, here, document)
    yield from etcd_member.quota_faults(member, here, document)
    if "retention" in member and units.duration(member["retention"]) < LEAST_RETENTION_SECONDS:
        yield document.fault((*here, "retention"), f"expected at least 1s, found {member['retention']}", "")
    if values.endpoint(member["client"]) == values.endpoint(member["peer"]):
        yield document.fault((*here, "peer"), f"{member['peer']} is that of client", "give each its own port")


def _member(plain: dict[str, Any]) -> StoreMember:
    fields = etcd_member.read(plain) | {"client": values.endpoint(plain["client"])}
    quota, retention = fields.pop("quota", None), fields.pop("retention", None)
    if quota is not None:
        fields["quota_bytes"] = units.size(quota)
    if retention is not None:
        fields["retention_seconds"] = units.duration(retention)
    return StoreMember(**fields)
