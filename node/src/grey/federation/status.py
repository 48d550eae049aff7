# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status document of the control plane, exactly as docs/reference/api.md has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from grey.federation.full_copy import who_needs_full_copy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grey.config.model import Cluster, Federation
    from grey.federation.interface import RoleRecord
    from grey.federation.members import Observed

BEHIND = (
    "it was away or behind for longer than the primary keeps history: it takes a full copy when it is back, "
    "and is not to be promoted before"
)

Status: TypeAlias = Literal["primary", "replica", "copying", "refused", "offline", "unknown"]


class Voters(msgspec.Struct, frozen=True):
    """How many members the federation store has, and how many of them answer."""

    total: int
    reachable: int


class ClusterStatus(msgspec.Struct, frozen=True):
    """One cluster. ``position`` is ``EPOCH.SEQUENCE``; ``throughput`` is operations per second.

    ``needs_full_copy``: the primary no longer keeps all that the cluster lacks.
    """

    name: str
    region: str
    status: Status
    online: bool
    weight: int
    epoch: int | None
    position: str | None
    lag_seconds: float | None
    lag_records: int | None
    throughput: float
    last_seen_seconds: float | None
    problem: str | None
    needs_full_copy: bool = False


class StatusDocument(msgspec.Struct, frozen=True):
    """The whole federation as one node sees it."""

    federation: str
    epoch: int | None
    primary: str | None
    answered_by: str
    voters: Voters
    clusters: list[ClusterStatus]


def status_document(
    federation: Federation,
    *,
    answered_by: str,
    holder: RoleRecord | None,
    observed: Mapping[str, Observed],
    voters: Voters,
) -> StatusDocument:
    """Put together what is known. ``observed`` is ``Members.observed()``, ``answered_by`` a node's name."""
    behind = who_needs_full_copy(holder, observed)
    return StatusDocument(
        federation=federation.name,
        epoch=holder.epoch if holder else None,
        primary=holder.cluster if holder else None,
        answered_by=answered_by,
        voters=voters,
        clusters=[
            _cluster(each, holder, observed.get(each.name), needs_full_copy=behind.get(each.name, False))
            for each in federation.clusters
        ],
    )


def _cluster(
    cluster: Cluster, holder: RoleRecord | None, seen: Observed | None, *, needs_full_copy: bool
) -> ClusterStatus:
    report = seen.report if seen else None
    if seen is None or report is None:
        return ClusterStatus(
            name=cluster.name,
            region=cluster.region,
            status="unknown",
            online=False,
            weight=cluster.weight,
            epoch=None,
            position=None,
            lag_seconds=None,
            lag_records=None,
            throughput=0.0,
            last_seen_seconds=None,
            problem="never seen",
        )
    primary = holder is not None and holder.cluster == cluster.name
    problem = report.problem
    if not seen.online:
        problem = f"no report for {seen.last_seen_seconds or 0.0:.0f} s"
    if needs_full_copy:
        problem = "; ".join(part for part in (problem, BEHIND) if part)
    behind = seen.online and not primary
    status: Status
    if not seen.online:
        status = "offline"
    elif report.state != "serving":
        status = report.state
    else:
        status = "primary" if primary else "replica"
    return ClusterStatus(
        name=cluster.name,
        region=cluster.region,
        status=status,
        online=seen.online,
        weight=cluster.weight,
        epoch=report.epoch,
        position=str(report.position),
        lag_seconds=report.lag_seconds if behind else None,
        lag_records=report.lag_records if behind else None,
        throughput=report.throughput if seen.online else 0.0,
        last_seen_seconds=seen.last_seen_seconds,
        problem=problem,
        needs_full_copy=needs_full_copy,
    )
