# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a federation file says, once it is checked and its defaults are filled in.

Units are part of the names: ``_seconds`` are floats, ``_bytes`` are integers.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Role = Literal["primary", "replica"]
Topology = Literal["active-passive", "active-active", "hub-spoke"]
Mode = Literal["sync", "async", "semi-sync"]
Strategy = Literal["last-write-wins", "primary-wins", "crdt-merge", "custom"]
ApiTls = Literal["mutual", "server", "off"]


class Endpoint(msgspec.Struct, frozen=True):
    """A host name or address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class TlsFiles(msgspec.Struct, frozen=True):
    """Absolute paths of PEM files."""

    cert_file: str
    key_file: str
    ca_file: str


class ControlPlane(msgspec.Struct, frozen=True):
    """Where the federation's control plane answers. Every node listens on this port."""

    endpoint: Endpoint
    tls: TlsFiles


class Cluster(msgspec.Struct, frozen=True):
    """A member of the federation. ``role`` counts only until there is history (design, section 5)."""

    name: str
    endpoint: Endpoint
    region: str
    role: Role
    weight: int
    capabilities: tuple[str, ...]
    voter: bool

    @property
    def read_only(self) -> bool:
        """A read-only cluster is never promoted."""
        return "read-only" in self.capabilities


class Witness(msgspec.Struct, frozen=True):
    """A voter of the federation store that holds no data; ``endpoint`` is its member's client endpoint."""

    name: str
    endpoint: Endpoint


class ConflictRule(msgspec.Struct, frozen=True):
    """How conflicts of the keys that match ``pattern`` are resolved."""

    pattern: str
    strategy: Strategy
    crdt_type: str | None = None
    handler: str | None = None


class ConflictResolution(msgspec.Struct, frozen=True):
    """The first rule that matches a key counts, then ``default``."""

    default: Strategy
    rules: tuple[ConflictRule, ...]


class Replication(msgspec.Struct, frozen=True):
    """How records get from the primary to the replicas."""

    mode: Mode
    batch_size: int
    interval_seconds: float
    conflict_resolution: ConflictResolution


class Failover(msgspec.Struct, frozen=True):
    """When and how another cluster becomes the primary.

    ``dns_record`` is the name that follows the primary, None when the edges' ``parent_cluster`` says it.
    """

    auto_failover: bool
    detection_time_seconds: float
    promotion_timeout_seconds: float
    min_insync_replicas: int
    max_lag_seconds: float
    dns_record: str | None = None


class Security(msgspec.Struct, frozen=True):
    """Who may talk to the control plane. ``allowed_clusters`` are name patterns without the ``CN=``."""

    cert_rotation_interval_seconds: float
    allowed_clusters: tuple[str, ...]
    api_tls: ApiTls


class ApiLimits(msgspec.Struct, frozen=True):
    """What one node's key-value API takes before it refuses. 0 requests per second means no limit."""

    concurrent_requests: int = 1024
    requests_per_second: int = 0
    watches: int = 256
    connections: int = 4096


class Federation(msgspec.Struct, frozen=True):
    """A whole federation file."""

    name: str
    domain: str
    topology: Topology
    control_plane: ControlPlane
    clusters: tuple[Cluster, ...]
    replication: Replication
    failover: Failover
    security: Security
    max_clock_offset_seconds: float
    witnesses: tuple[Witness, ...] = ()
    api_limits: ApiLimits = ApiLimits()

    def cluster(self, name: str) -> Cluster | None:
        """Return the cluster of this name."""
        return next((cluster for cluster in self.clusters if cluster.name == name), None)

    def identity(self, cluster: str) -> str:
        """Return the DNS name in the certificates of a cluster, for example aws-east.grey.internal."""
        return f"{cluster}.{self.domain}"

    def control_endpoint(self, cluster: Cluster) -> Endpoint:
        """Return where the nodes of one cluster answer for the control plane."""
        return Endpoint(cluster.endpoint.host, self.control_plane.endpoint.port)
