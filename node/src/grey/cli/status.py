# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation's status in the words and the form of the document. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.cli.table import Column, Signs, below, draw

if TYPE_CHECKING:
    from grey.client.control import ClusterStatus, FederationStatus

TITLE = "Grey Federation Status"
COLUMNS = (Column("Cluster", 13), Column("Status", 10), Column("Lag", 12), Column("Throughput", 18))


def lines(status: FederationStatus, signs: Signs, width: int | None) -> list[str]:
    """Return the status table and the line below it."""
    rows = [
        (cluster.name, _state(cluster, signs), _lag(cluster), _throughput(cluster))
        for cluster in status.clusters
    ]
    epoch = "none yet" if status.epoch is None else status.epoch
    voters = f"{status.voters.reachable} of {status.voters.total} voters reachable"
    summary = f"federation {status.federation}, epoch {epoch}, {voters}"
    return [*draw(TITLE, COLUMNS, rows, signs, width), *below(summary, width)]


def styles(signs: Signs) -> dict[str, str]:
    """Return the colours of the states on a terminal that has colours."""
    return {f"{signs.on} Primary": "green", f"{signs.on} Replica": "cyan", f"{signs.off} Offline": "red"}


def duration(seconds: float) -> str:
    """Return a duration as short as an operator needs it: 82ms, 1.5s, 2m 05s or 3h 12m."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def _state(cluster: ClusterStatus, signs: Signs) -> str:
    return f"{signs.on if cluster.online else signs.off} {cluster.status.capitalize()}"


def _lag(cluster: ClusterStatus) -> str:
    if cluster.status == "primary":
        return "-"
    if not cluster.online or cluster.lag_seconds is None:
        return "N/A"
    return duration(cluster.lag_seconds)


def _throughput(cluster: ClusterStatus) -> str:
    return f"{round(cluster.throughput or 0.0):,} ops/s"
