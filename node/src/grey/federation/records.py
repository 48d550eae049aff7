# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the federation's records stand in its store, and how they are written (JSON).

================== =====================================================================
``role``           who is the primary (RoleRecord)
``members/NAME``   what the cluster says of itself about once a second (MemberReport)
``clusters/NAME``  whose data the cluster holds (ClusterRecord)
================== =====================================================================
"""

from __future__ import annotations

import msgspec

from grey.federation.interface import MemberReport, RoleRecord

ROLE = "role"
MEMBERS = "members/"
CLUSTERS = "clusters/"


class ClusterRecord(msgspec.Struct, frozen=True):
    """The data of a cluster: its id, and the node that registered it. ``data_id`` None: it was forgotten."""

    data_id: str | None
    node: str


class DamagedRecord(Exception):
    """A record of the federation store cannot be read; the message names the key and the fault."""

    def __init__(self, key: str, fault: Exception) -> None:
        super().__init__(f"the record {key!r} in the federation store cannot be read: {fault}")


_encoder = msgspec.json.Encoder()
_role = msgspec.json.Decoder(RoleRecord)
_report = msgspec.json.Decoder(MemberReport)
_cluster = msgspec.json.Decoder(ClusterRecord)


def store_root(federation: str) -> str:
    """Return what the keys of all records of a federation begin with in its etcd."""
    return f"/grey/{federation}/"


def member_key(cluster: str) -> str:
    """Return where a cluster's report stands."""
    return MEMBERS + cluster


def cluster_key(cluster: str) -> str:
    """Return where a cluster's data is registered."""
    return CLUSTERS + cluster


def encode(record: msgspec.Struct) -> bytes:
    """Return the stored form of a record."""
    return _encoder.encode(record)


def decode_role(data: bytes) -> RoleRecord:
    """Read a role record; raises DamagedRecord."""
    try:
        return _role.decode(data)
    except msgspec.DecodeError as fault:
        raise DamagedRecord(ROLE, fault) from fault


def decode_report(key: str, data: bytes) -> MemberReport:
    """Read the report that stands at ``key``; raises DamagedRecord."""
    try:
        return _report.decode(data)
    except msgspec.DecodeError as fault:
        raise DamagedRecord(key, fault) from fault


def decode_cluster(cluster: str, data: bytes) -> ClusterRecord:
    """Read the registration of a cluster; raises DamagedRecord."""
    try:
        return _cluster.decode(data)
    except msgspec.DecodeError as fault:
        raise DamagedRecord(cluster_key(cluster), fault) from fault
