# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a right file means: the document's own, its other blocks, and the defaults."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from grey.config import federation
from grey.config.model import (
    ApiLimits,
    Cluster,
    ConflictResolution,
    ConflictRule,
    ControlPlane,
    Endpoint,
    Failover,
    Federation,
    Replication,
    Security,
    TlsFiles,
    Witness,
)

if TYPE_CHECKING:
    from .conftest import Edited

DATA = Path(__file__).parent / "data"

SCALAR = "    conflict_resolution: last-write-wins  # lww | primary-wins | custom\n"
MINIMAL = """
federation:
  name: one
  control_plane: {endpoint: "cp.example.com:8443"}
  clusters: [{name: a, endpoint: "a.example.com:8080", role: primary}]
"""


def test_the_document_s_file() -> None:
    edge = ("read-only", "cache")
    assert federation.load(DATA / "federation.yaml") == Federation(
        name="global-grey",
        domain="grey.internal",
        topology="active-passive",
        control_plane=ControlPlane(
            Endpoint("federation.grey.internal", 8443),
            TlsFiles(
                "/etc/grey/federation-cert.pem", "/etc/grey/federation-key.pem", "/etc/grey/federation-ca.pem"
            ),
        ),
        clusters=(
            Cluster(
                "aws-east", Endpoint("grey-east.example.com", 8080), "us-east-1", "primary", 100, (), True
            ),
            Cluster("gcp-west", Endpoint("grey-west.example.com", 8080), "us-west1", "replica", 50, (), True),
            Cluster(
                "edge-chicago",
                Endpoint("grey-chi.edge.internal", 8080),
                "edge-chi",
                "replica",
                25,
                edge,
                True,
            ),
        ),
        replication=Replication("async", 1000, 0.1, ConflictResolution("last-write-wins", ())),
        failover=Failover(True, 30.0, 60.0, 1, 30.0, None),
        security=Security(
            86400.0,
            ("aws-east.grey.internal", "gcp-west.grey.internal", "edge-chicago.grey.internal"),
            "mutual",
        ),
        max_clock_offset_seconds=0.5,
        witnesses=(),
    )


def test_the_document_s_other_blocks(edited: Edited, security: str, resolution: str) -> None:
    read = edited((SCALAR, ""), add=f"\n{security}\n{resolution}").read()
    assert read.security.allowed_clusters == (
        "aws-east.grey.internal",
        "gcp-west.grey.internal",
        "edge-*.grey.internal",
    )
    assert read.replication == Replication(
        "async",
        1000,
        0.1,
        ConflictResolution(
            "last-write-wins",
            (
                ConflictRule("inventory/*", "primary-wins"),
                ConflictRule("counter/*", "crdt-merge", crdt_type="g-counter"),
                ConflictRule("document/*", "custom", handler="/opt/grey/conflict-resolver.wasm"),
            ),
        ),
    )


def test_replication_means_the_same_in_both_places(edited: Edited) -> None:
    inner = re.search(r"  replication:\n(    .*\n)+", edited.text)
    assert inner
    outer = re.sub(r"^  ", "", inner[0], flags=re.MULTILINE)
    assert edited((inner[0], ""), add=outer).read() == edited.read()


def test_defaults_of_the_smallest_file(edited: Edited) -> None:
    read = type(edited)(MINIMAL).read()
    assert read.domain == "example.com"
    assert read.clusters == (Cluster("a", Endpoint("a.example.com", 8080), "a", "primary", 100, (), True),)
    assert read.control_plane.tls == TlsFiles(
        "/etc/grey/federation-cert.pem", "/etc/grey/federation-key.pem", "/etc/grey/federation-ca.pem"
    )
    assert read.replication == Replication("async", 1000, 0.1, ConflictResolution("last-write-wins", ()))
    assert read.failover == Failover(False, 30.0, 60.0, 0, 30.0, None)
    assert read.security == Security(86400.0, ("a.example.com",), "mutual")


def test_every_optional_key(edited: Edited) -> None:
    read = edited(
        (
            "  name: global-grey\n",
            "  name: global-grey\n  domain: other.internal\n  max_clock_offset: 50ms\n",
        ),
        ("  # Member clusters\n", '  witnesses: [{name: w-1, endpoint: "w.example.com:2379"}]\n'),
        ("      weight: 50\n", "      weight: 0\n      voter: false\n"),
        ("    min_insync_replicas: 1", "    max_lag: 5s\n    dns: {record: grey-primary.example.com}"),
        add="security: {api: {tls: off}}",
    ).read()
    assert read.domain == "other.internal"
    assert read.identity("aws-east") == "aws-east.other.internal"
    assert read.max_clock_offset_seconds == 0.05
    assert read.witnesses == (Witness("w-1", Endpoint("w.example.com", 2379)),)
    assert [cluster.voter for cluster in read.clusters] == [True, False, True]
    assert read.failover == Failover(True, 30.0, 60.0, 1, 5.0, "grey-primary.example.com")
    assert read.security.api_tls == "off"


def test_the_limits_of_the_api(edited: Edited) -> None:
    assert edited().read().api_limits == ApiLimits(1024, 0, 256, 4096)
    read = edited(add="api: {limits: {requests_per_second: 50, watches: 8}}").read()
    assert read.api_limits == ApiLimits(1024, 50, 8, 4096)


@pytest.mark.parametrize("name", ["lww", "last-write-wins", "primary-wins"])
def test_conflict_resolution_as_one_word(edited: Edited, name: str) -> None:
    read = edited(("conflict_resolution: last-write-wins", f"conflict_resolution: {name}")).read()
    expected = "last-write-wins" if name == "lww" else name
    assert read.replication.conflict_resolution == ConflictResolution(expected, ())  # type: ignore[arg-type]


def test_plain_form_for_the_playbooks(edited: Edited) -> None:
    plain = federation.to_plain(edited.read())
    assert json.loads(json.dumps(plain)) == plain
    assert plain["clusters"][2] == {
        "name": "edge-chicago",
        "endpoint": {"host": "grey-chi.edge.internal", "port": 8080},
        "region": "edge-chi",
        "role": "replica",
        "weight": 25,
        "capabilities": ["read-only", "cache"],
        "voter": True,
        "identity": "edge-chicago.grey.internal",
        "control_endpoint": {"host": "grey-chi.edge.internal", "port": 8443},
        "group": "cluster_edge_chicago",
    }
    assert plain["control_plane"]["endpoint"] == {"host": "federation.grey.internal", "port": 8443}
    assert plain["failover"]["detection_time_seconds"] == 30.0


def test_the_digest_is_of_the_content(edited: Edited) -> None:
    def digest(one: Edited) -> str:
        return str(federation.to_plain(one.read())["digest"])

    assert re.fullmatch("[0-9a-f]{64}", digest(edited))
    same = edited(
        ("  # Federation control plane\n", ""), ("interval: 100ms", "interval: 0.1s"), add="security: {}\n"
    )
    assert digest(same) == digest(edited)
    assert digest(edited(("weight: 50", "weight: 51"))) != digest(edited)
    assert digest(edited(("detection_time: 30s", "detection_time: 31s"))) != digest(edited)
