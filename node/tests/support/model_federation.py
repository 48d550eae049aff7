# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A checked federation for tests, without a file."""

from __future__ import annotations

from grey.config.model import (
    Cluster,
    ConflictResolution,
    ControlPlane,
    Endpoint,
    Failover,
    Federation,
    Replication,
    Security,
    TlsFiles,
)


def federation(
    *names: str, detection_time_seconds: float = 30.0, primary: str | None = None, voters: int | None = None
) -> Federation:
    """Return an active-passive federation of clusters with these names; the first is the primary."""
    names = names or ("aws-east", "gcp-west", "edge-chicago")
    return Federation(
        name="global-grey",
        domain="grey.internal",
        topology="active-passive",
        control_plane=ControlPlane(
            Endpoint("federation.grey.internal", 8443), TlsFiles("/etc/grey/c", "/etc/grey/k", "/etc/grey/a")
        ),
        clusters=tuple(
            Cluster(
                name=name,
                endpoint=Endpoint(f"{name}.example.com", 8080),
                region=f"region-{number}",
                role="primary" if name == (primary or names[0]) else "replica",
                weight=100 - number,
                capabilities=(),
                voter=voters is None or number < voters,
            )
            for number, name in enumerate(names)
        ),
        replication=Replication("async", 1000, 0.1, ConflictResolution("last-write-wins", ())),
        failover=Failover(True, detection_time_seconds, 60.0, 1, detection_time_seconds),
        security=Security(86400.0, tuple(f"{name}.grey.internal" for name in names), "mutual"),
        max_clock_offset_seconds=0.5,
    )
