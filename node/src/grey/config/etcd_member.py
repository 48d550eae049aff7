# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the node's file says of an etcd beside greyd, whichever group it is a member of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from grey.config import units, values
from grey.config.errors import BadValue
from grey.config.model import Endpoint, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grey.config.errors import Fault
    from grey.config.yamlfile import Document, KeyPath

LEAST_QUOTA_BYTES = 64 * 1024**2
"""Below this, the space that etcd sets aside for itself counts."""

HEARTBEAT_MILLISECONDS = 100
LEAST_HEARTBEAT_MILLISECONDS = 10
MOST_HEARTBEAT_MILLISECONDS = 5000
"""etcd elects after ten times as long, and takes 50 s at most."""


class EtcdMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member beside greyd. Paths are absolute.

    ``peer`` is an address and port: where it listens for the other members, and what it tells them.
    ``bootstrap_file`` says how the group begins (``grey.store.etcd_bootstrap``). ``tls`` is of the group's
    own CA. ``heartbeat_milliseconds`` is None when the node's file leaves it to how the group began.
    """

    name: str
    etcd: str
    data_dir: str
    marker_file: str
    bootstrap_file: str
    peer: Endpoint
    tls: TlsFiles
    heartbeat_milliseconds: int | None = None


def read(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a checked section in the types of EtcdMember."""
    fields = plain | {"peer": values.endpoint(plain["peer"]), "tls": TlsFiles(**plain["tls"])}
    heartbeat = fields.pop("heartbeat", None)
    if heartbeat is not None:
        fields["heartbeat_milliseconds"] = milliseconds(heartbeat)
    return fields


def faults(member: dict[str, Any], here: KeyPath, document: Document) -> Iterator[Fault]:
    """Return what is wrong in a section that the schema has passed; ``here`` is where it stands."""
    yield from address_faults(member, "peer", here, document)
    heartbeat = member.get("heartbeat")
    if (
        heartbeat is not None
        and not LEAST_HEARTBEAT_MILLISECONDS <= milliseconds(heartbeat) <= MOST_HEARTBEAT_MILLISECONDS
    ):
        yield document.fault(
            (*here, "heartbeat"),
            f"expected {LEAST_HEARTBEAT_MILLISECONDS}ms to {MOST_HEARTBEAT_MILLISECONDS // 1000}s, "
            f"found {heartbeat}",
            "write about the longest round trip between two members; an election starts after ten times it",
        )


def address_faults(member: dict[str, Any], key: str, here: KeyPath, document: Document) -> Iterator[Fault]:
    """Return a fault when the endpoint at ``key`` has a name: etcd listens on addresses."""
    found = values.endpoint(member[key])
    try:
        values.address(found.host)
    except BadValue:
        who = "the other members reach" if key == "peer" else "greyds reach"
        yield document.fault(
            (*here, key),
            f"expected an IP address and a port, found the name {found.host}",
            f"write the address of this host on which {who} it",
        )


def quota_faults(section: dict[str, Any], here: KeyPath, document: Document) -> Iterator[Fault]:
    """Return a fault when the quota of a section is too small."""
    if "quota" in section and units.size(section["quota"]) < LEAST_QUOTA_BYTES:
        yield document.fault((*here, "quota"), f"expected at least 64Mi, found {section['quota']}", "")


def milliseconds(duration: str) -> int:
    """Return a duration (``100ms``) as a number of milliseconds. Raises BadValue."""
    return round(units.duration(duration) * 1000)
