# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a federation file that a schema cannot say.

Each rule is a function of the federation as it was read and of the document that it was read from; it
yields what is wrong. ``broken`` asks them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Sequence

from grey.config.errors import Fault, quoted
from grey.config.model import Cluster, Federation, Witness
from grey.config.tls_paths import distinct_paths
from grey.config.values import MTLS_ALWAYS
from grey.config.voters import ENOUGH_VOTERS, MAX_VOTERS
from grey.config.yamlfile import Document, KeyPath, dotted
from grey.link.names import NamePatterns

METRICS_PORT = 9090
"""Where every node serves metrics and health."""
CONTROL_PORT = 8443
"""Where the control plane answers, unless the file says otherwise."""
API_PORT = 8080
"""The example for a cluster's endpoint."""

Rule = Callable[[Federation, Document], Iterator[Fault]]

_CLUSTERS = ("federation", "clusters")
_WITNESSES = ("federation", "witnesses")
_FAILOVER = ("federation", "failover")


def broken(federation: Federation, document: Document) -> list[Fault]:
    """Return everything in which a federation breaks the rules."""
    return [fault for rule in RULES for fault in rule(federation, document)]


def group(cluster: str) -> str:
    """Return the inventory group of a cluster's hosts."""
    return "cluster_" + re.sub(r"[^A-Za-z0-9]", "_", cluster)


def replicas(clusters: Sequence[Cluster]) -> int:
    """Return how many clusters receive what another one writes: all but the (lead) primary."""
    return max(0, len(clusters) - 1)


def doubled_replication(document: Document) -> Iterator[Fault]:
    """A key of ``replication`` stands at the top level or in the federation, not in both."""
    for key in document.data.get("replication", {}):
        other = ("federation", "replication", key)
        if document.has(*other):
            message = f"the same key is in {dotted(other)}, line {document.line(other)}"
            yield document.fault(("replication", key), message, "keep one of the two")


def one_primary(federation: Federation, document: Document) -> Iterator[Fault]:
    """Active-passive and hub-spoke have exactly one primary, active-active has at least one."""
    primaries = [index for index, cluster in enumerate(federation.clusters) if cluster.role == "primary"]
    if not primaries:
        hint = "give the cluster that takes the writes role: primary"
        yield document.fault(_CLUSTERS, "expected a primary, found only replicas", hint)
    if federation.topology == "active-active":
        return
    for index in primaries[1:]:
        first = federation.clusters[primaries[0]].name
        message = f"expected one primary in {federation.topology}, found another one: {first} is the primary"
        yield document.fault((*_CLUSTERS, index, "role"), message, "write role: replica")


def unique_names(federation: Federation, document: Document) -> Iterator[Fault]:
    """Names are unique, also as inventory groups (which know no - or .), witnesses included."""
    seen: dict[str, str] = {}
    for path, member in _members(federation):
        other = seen.get(group(member.name))
        if other is None:
            seen[group(member.name)] = member.name
            continue
        why = "" if other == member.name else f": the inventory group of {other} would be the same"
        yield document.fault((*path, "name"), f"the name {member.name} is taken{why}", "choose another name")


def distinct_hosts(federation: Federation, document: Document) -> Iterator[Fault]:
    """No two members share a host: every node listens on the same control and metrics ports."""
    seen: dict[str, Cluster | Witness] = {}
    control = federation.control_plane.endpoint.port
    for path, member in _members(federation):
        host = member.endpoint.host
        other = seen.get(host)
        if other is None:
            seen[host] = member
            continue
        if other.endpoint == member.endpoint:
            message = f"the endpoint {member.endpoint} is that of {other.name}"
        elif isinstance(member, Witness):
            message = f"the host {host} is that of {other.name}: the witness would fail with it"
        else:
            message = f"the host {host} is that of {other.name}: both would listen on port {control}"
        yield document.fault((*path, "endpoint"), message, "give each its own host")


def reachable_hosts(federation: Federation, document: Document) -> Iterator[Fault]:
    """With more than one cluster no endpoint is at localhost, which is another host on every host."""
    endpoints = [
        (("federation", "control_plane"), federation.control_plane.endpoint),
        *((path, member.endpoint) for path, member in _members(federation)),
    ]
    for path, endpoint in endpoints:
        if len(federation.clusters) > 1 and endpoint.host.rpartition(".")[2] == "localhost":
            message = f"expected a host that all clusters reach, found {endpoint.host}"
            hint = "write its name or address; an inventory's grey_names says which address a name has"
            yield document.fault((*path, "endpoint"), message, hint)


def distinct_ports(federation: Federation, document: Document) -> Iterator[Fault]:
    """On one host the key-value API, the control plane and the metrics have three different ports."""
    control = federation.control_plane.endpoint.port
    others = [cluster.name for cluster in federation.clusters if cluster.endpoint.port == control]
    taken = {METRICS_PORT: "the metrics", control: "the control plane"}
    # The clusters differ from the control plane by one change there, unless that has its usual port.
    if control == METRICS_PORT or (others and control != CONTROL_PORT):
        what = "serves the metrics of every node" if control == METRICS_PORT else f"is that of {others[0]}"
        if control != METRICS_PORT and others[1:]:
            what += f" and {len(others) - 1} more"
        free = _free_port(CONTROL_PORT, {METRICS_PORT, *(one.endpoint.port for one in federation.clusters)})
        path = ("federation", "control_plane", "endpoint")
        yield document.fault(path, f"port {control} {what}", f"use {free}")
        taken = {METRICS_PORT: "the metrics"}
    for index, cluster in enumerate(federation.clusters):
        if what := taken.get(cluster.endpoint.port, ""):
            message = f"port {cluster.endpoint.port} serves {what} of every node"
            hint = f"use another port, for example {_free_port(API_PORT, {METRICS_PORT, control})}"
            yield document.fault((*_CLUSTERS, index, "endpoint"), message, hint)


def _free_port(first: int, taken: Container[int]) -> int:
    return next(port for port in range(first, 65536) if port not in taken)


def has_domain(federation: Federation, document: Document) -> Iterator[Fault]:
    """The domain is given, or the control plane's host has one."""
    host = federation.control_plane.endpoint.host
    if document.has("federation", "domain"):
        return
    if not federation.domain or ":" in host or host.rpartition(".")[2].isdigit():
        message = f"the key is missing, and the control plane's host {host} has no domain to take"
        yield document.fault(("federation", "domain"), message, "add it, for example domain: grey.internal")


def mutual_tls(federation: Federation, document: Document) -> Iterator[Fault]:  # noqa: ARG001
    """Neither mTLS nor the check of the peer can be switched off."""
    security = document.data.get("security", {})
    for block, key in (("mtls", "enabled"), ("cluster_auth", "verify_peer")):
        if security.get(block, {}).get(key) is False:
            message = f"expected true, found false: {MTLS_ALWAYS}"
            yield document.fault(("security", block, key), message, "remove the key or write true")


def admitted(federation: Federation, document: Document) -> Iterator[Fault]:
    """The control plane admits every cluster of the file."""
    path = ("security", "cluster_auth", "allowed_clusters")
    patterns = NamePatterns(federation.security.allowed_clusters)
    for cluster in federation.clusters:
        identity = federation.identity(cluster.name)
        if not patterns.match(identity):
            yield document.fault(path, f"the cluster {cluster.name} is not admitted", f"add CN={identity}")


def primary_writes(federation: Federation, document: Document) -> Iterator[Fault]:
    """A primary is not read-only."""
    for index, cluster in enumerate(federation.clusters):
        if cluster.role == "primary" and cluster.read_only:
            message = f"the primary {cluster.name} cannot be read-only"
            yield document.fault((*_CLUSTERS, index, "capabilities"), message, "remove read-only")


def successor(federation: Federation, document: Document) -> Iterator[Fault]:
    """Automatic failover has somebody to promote."""
    lead = next((cluster for cluster in federation.clusters if cluster.role == "primary"), None)
    others = [cluster for cluster in federation.clusters if cluster is not lead and not cluster.read_only]
    if federation.failover.auto_failover and not others:
        message = "expected a replica that can be promoted, found none without read-only"
        hint = "add one, or write auto_failover: false"
        yield document.fault((*_FAILOVER, "auto_failover"), message, hint)


def voter_count(federation: Federation, document: Document) -> Iterator[Fault]:
    """There are 1 to 7 voters, and with automatic failover enough to lose one."""
    clusters = [cluster.name for cluster in federation.clusters if cluster.voter]
    count = len(clusters) + len(federation.witnesses)
    if not clusters:
        yield document.fault(_CLUSTERS, "expected a cluster that votes, found none", "remove voter: false")
    elif count > MAX_VOTERS:
        message = f"expected at most {MAX_VOTERS} voters, found {count}"
        yield document.fault(_CLUSTERS, message, "write voter: false for some, or name fewer witnesses")
    elif federation.failover.auto_failover and count < ENOUGH_VOTERS:
        message = f"expected at least {ENOUGH_VOTERS} voters, so that a majority survives one; found {count}"
        hint = "add a third cluster or a witness, or write auto_failover: false"
        yield document.fault((*_FAILOVER, "auto_failover"), message, hint)


def reachable_replicas(federation: Federation, document: Document) -> Iterator[Fault]:
    """``min_insync_replicas`` can be met, and means something in semi-sync."""
    path = (*_FAILOVER, "min_insync_replicas")
    wanted = federation.failover.min_insync_replicas
    there = replicas(federation.clusters)
    if wanted > there:
        message = f"expected at most {there} (the number of replicas), found {wanted}"
        yield document.fault(path, message, "lower it or add a replica")
    if wanted < 1 and federation.replication.mode == "semi-sync":
        message = f"expected at least 1 in mode semi-sync, found {wanted}"
        yield document.fault(path, message, "write 1, or mode: async")


def sane_durations(federation: Federation, document: Document) -> Iterator[Fault]:
    """Durations are neither too short to work nor so long that a unit must be wrong."""
    failover = federation.failover
    interval = _replication(document, "interval")
    for path, seconds, low, high in (
        (interval, federation.replication.interval_seconds, "1ms", "1m"),
        ((*_FAILOVER, "detection_time"), failover.detection_time_seconds, "1s", "1h"),
        ((*_FAILOVER, "promotion_timeout"), failover.promotion_timeout_seconds, "1s", "1h"),
        (("federation", "max_clock_offset"), federation.max_clock_offset_seconds, "1ms", "1m"),
        (
            ("security", "mtls", "cert_rotation_interval"),
            federation.security.cert_rotation_interval_seconds,
            "1m",
            "365d",
        ),
    ):
        if not _LIMITS[low] <= seconds <= _LIMITS[high]:
            yield document.fault(path, f"expected {low} to {high}, found {_written(document, path)}", "")
    if federation.replication.interval_seconds > failover.max_lag_seconds:
        given = document.has(*_FAILOVER, "max_lag")
        path, bound = (
            ((*_FAILOVER, "max_lag"), "at least replication.interval")
            if given
            else (interval, "at most failover.detection_time")
        )
        message = f"expected {bound}, found {_written(document, path)}"
        yield document.fault(path, message, "or no replica is ever close enough for a failover")


_LIMITS = {"1ms": 0.001, "1s": 1.0, "1m": 60.0, "1h": 3600.0, "365d": 365 * 86400.0}


def conflict_rules(federation: Federation, document: Document) -> Iterator[Fault]:
    """Strategies have what they need and nothing else."""
    path = _replication(document, "conflict_resolution")
    resolution = federation.replication.conflict_resolution
    if resolution.default in _NEEDS:
        need = _NEEDS[resolution.default]
        where = (*path, "default") if document.has(*path, "default") else path
        hint = f'write rules: with pattern: "*", strategy: {resolution.default} and {need}'
        yield document.fault(where, f"{resolution.default} needs a {need}, which a rule has", hint)
    for index, rule in enumerate(resolution.rules):
        here = (*path, "rules", index)
        for strategy, need in _NEEDS.items():
            given = getattr(rule, need) is not None
            if rule.strategy == strategy and not given:
                yield document.fault(
                    (*here, need), f"the key is missing: {strategy} needs it", _EXAMPLES[need]
                )
            if rule.strategy != strategy and given:
                message = f"the strategy {rule.strategy} takes no {need}"
                yield document.fault((*here, need), message, f"remove it, or write strategy: {strategy}")


_NEEDS = {"crdt-merge": "crdt_type", "custom": "handler"}
_EXAMPLES = {
    "crdt_type": "add it: crdt_type: g-counter",
    "handler": "add it, for example handler: /opt/grey/conflict-resolver.wasm",
}

RULES: tuple[Rule, ...] = (
    one_primary,
    unique_names,
    distinct_hosts,
    reachable_hosts,
    distinct_ports,
    distinct_paths,
    has_domain,
    mutual_tls,
    admitted,
    primary_writes,
    successor,
    voter_count,
    reachable_replicas,
    sane_durations,
    conflict_rules,
)


def _members(federation: Federation) -> Iterator[tuple[KeyPath, Cluster | Witness]]:
    for index, cluster in enumerate(federation.clusters):
        yield (*_CLUSTERS, index), cluster
    for index, witness in enumerate(federation.witnesses):
        yield (*_WITNESSES, index), witness


def _replication(document: Document, key: str) -> KeyPath:
    top = ("replication", key)
    return top if document.has(*top) else ("federation", "replication", key)


def _written(document: Document, path: KeyPath) -> str:
    """Return a duration as the file has it; rules on defaults never fail by themselves."""
    value: object = document.data
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return quoted(value)
