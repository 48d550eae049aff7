# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a federation file: YAML, schema, rules, and then the model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from grey.config import rules, schema, units, values, voters, yamlfile
from grey.config.errors import ConfigError, FormError
from grey.config.model import (
    ApiLimits,
    Cluster,
    ConflictResolution,
    ConflictRule,
    ControlPlane,
    Failover,
    Federation,
    Replication,
    Security,
    Strategy,
    TlsFiles,
    Witness,
)

if TYPE_CHECKING:
    from pathlib import Path

    from grey.config.yamlfile import Document

SCHEMA = "schema.json"

_Plain = dict[str, Any]


def load(path: str | Path) -> Federation:
    """Read a federation file and check all of it. Raises ConfigError as ``read`` does.

    What the file may say but this version cannot carry out is for ``grey.config.support`` to refuse.
    """
    return read(yamlfile.load(path))


def read(document: Document) -> Federation:
    """Check a document as a federation file. Raises ConfigError with everything that is wrong.

    The rules between keys take a federation, so they are checked once the form is right: FormError says that
    they were not. With defaults in place of what cannot be read they would find faults that are none.
    """
    schema.check(document, SCHEMA)
    doubled = list(rules.doubled_replication(document))
    if doubled:
        raise FormError(doubled)
    federation = _federation(schema.filled(_one_replication(document.data), SCHEMA))
    faults = rules.broken(federation, document)
    if faults:
        raise ConfigError(faults)
    return federation


def to_plain(federation: Federation) -> _Plain:
    """Return the federation in JSON types, with what the playbooks derive from it.

    Each cluster also has ``identity`` (the DNS name in its certificates), ``control_endpoint`` and ``group``
    (its inventory group); ``digest`` is the SHA-256 of the content, whatever the file's layout and comments.
    """
    plain: _Plain = msgspec.json.decode(msgspec.json.encode(federation))
    digest = hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()
    for cluster, entry in zip(federation.clusters, plain["clusters"], strict=True):
        entry["identity"] = federation.identity(cluster.name)
        entry["control_endpoint"] = msgspec.to_builtins(federation.control_endpoint(cluster))
        entry["group"] = rules.group(cluster.name)
    return {**plain, "digest": digest}


def _one_replication(data: _Plain) -> _Plain:
    """Move a top-level ``replication`` to where it means the same."""
    inner = data["federation"]
    merged = {**inner.get("replication", {}), **data.get("replication", {})}
    rest = {key: value for key, value in data.items() if key != "replication"}
    return {**rest, "federation": {**inner, "replication": merged}}


def _federation(data: _Plain) -> Federation:
    plain = data["federation"]
    control = plain["control_plane"]
    endpoint = values.endpoint(control["endpoint"])
    domain = plain.get("domain", endpoint.host.partition(".")[2])
    topology = plain["topology"]
    witnesses = tuple(
        Witness(entry["name"], values.endpoint(entry["endpoint"])) for entry in plain["witnesses"]
    )
    candidates = [
        voters.Candidate(entry["role"] == "primary", "read-only" in entry["capabilities"], entry.get("voter"))
        for entry in plain["clusters"]
    ]
    clusters = tuple(
        _cluster(entry, voter)
        for entry, voter in zip(
            plain["clusters"], voters.choose(candidates, topology, len(witnesses)), strict=True
        )
    )
    identities = [f"{cluster.name}.{domain}" for cluster in clusters]
    return Federation(
        name=plain["name"],
        domain=domain,
        topology=topology,
        control_plane=ControlPlane(endpoint, TlsFiles(**control["tls"])),
        clusters=clusters,
        replication=_replication(plain["replication"]),
        failover=_failover(plain["failover"], replicas=rules.replicas(clusters)),
        security=_security(data["security"], identities),
        max_clock_offset_seconds=units.duration(plain["max_clock_offset"]),
        witnesses=witnesses,
        api_limits=ApiLimits(**data["api"]["limits"]),
    )


def _cluster(plain: _Plain, voter: bool) -> Cluster:
    return Cluster(
        name=plain["name"],
        endpoint=values.endpoint(plain["endpoint"]),
        region=plain.get("region") or plain["name"],
        role=plain["role"],
        weight=plain["weight"],
        capabilities=tuple(plain["capabilities"]),
        voter=voter,
    )


def _replication(plain: _Plain) -> Replication:
    resolution = plain["conflict_resolution"]
    if isinstance(resolution, str):
        resolution = {"default": resolution, "rules": []}
    return Replication(
        mode=plain["mode"],
        batch_size=plain["batch_size"],
        interval_seconds=units.duration(plain["interval"]),
        conflict_resolution=ConflictResolution(
            _strategy(resolution["default"]),
            tuple(
                ConflictRule(
                    rule["pattern"], _strategy(rule["strategy"]), rule.get("crdt_type"), rule.get("handler")
                )
                for rule in resolution["rules"]
            ),
        ),
    )


def _strategy(name: str) -> Strategy:
    full: dict[str, Strategy] = {
        "lww": "last-write-wins",
        "last-write-wins": "last-write-wins",
        "primary-wins": "primary-wins",
        "crdt-merge": "crdt-merge",
        "custom": "custom",
    }
    return full[name]


def _failover(plain: _Plain, replicas: int) -> Failover:
    return Failover(
        auto_failover=plain["auto_failover"],
        detection_time_seconds=units.duration(plain["detection_time"]),
        promotion_timeout_seconds=units.duration(plain["promotion_timeout"]),
        min_insync_replicas=plain.get("min_insync_replicas", min(1, replicas)),
        max_lag_seconds=units.duration(plain.get("max_lag") or plain["detection_time"]),
        dns_record=plain["dns"].get("record"),
    )


def _security(plain: _Plain, identities: list[str]) -> Security:
    given = plain["cluster_auth"].get("allowed_clusters")
    allowed = identities if given is None else [values.name_pattern(pattern) for pattern in given]
    return Security(
        cert_rotation_interval_seconds=units.duration(plain["mtls"]["cert_rotation_interval"]),
        allowed_clusters=tuple(allowed),
        api_tls=plain["api"]["tls"],
    )
