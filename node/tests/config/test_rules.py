# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, ISC004 - messages stand in one piece, so that they can be searched for
"""Every rule between keys, with the exact words, and the edge on which it still holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from grey.config import rules, yamlfile
from grey.config.support import unsupported

if TYPE_CHECKING:
    from .conftest import Edited

SCALAR = "    conflict_resolution: last-write-wins  # lww | primary-wins | custom\n"
GCP_ROLE = "region: us-west1\n      role: replica"
WITNESS = '  witnesses: [{{name: {name}, endpoint: "{endpoint}"}}]\n  # Member clusters\n'


def witness(name: str = "w-1", endpoint: str = "w.example.com:2379") -> tuple[str, str]:
    return ("  # Member clusters\n", WITNESS.format(name=name, endpoint=endpoint))


def test_two_primaries(edited: Edited) -> None:
    assert edited((GCP_ROLE, "region: us-west1\n      role: primary")).faults() == [
        "f.yaml:24: federation.clusters[1].role: expected one primary in active-passive, found another one: "
        "aws-east is the primary; write role: replica"
    ]


def test_two_primaries_in_the_other_topologies(edited: Edited) -> None:
    two = edited((GCP_ROLE, "region: us-west1\n      role: primary"))
    hub = two(
        ("  name: global-grey\n", "  name: global-grey\n  topology: hub-spoke\n"),
        ("auto_failover: true", "auto_failover: false"),
    )
    assert hub.faults() == [
        "f.yaml:25: federation.clusters[1].role: expected one primary in hub-spoke, found another one: "
        "aws-east is the primary; write role: replica"
    ]
    assert (
        two(("  name: global-grey\n", "  name: global-grey\n  topology: active-active\n")).read().topology
        == "active-active"
    )


def test_no_primary(edited: Edited) -> None:
    assert edited(("role: primary", "role: replica")).faults() == [
        "f.yaml:14: federation.clusters: expected a primary, found only replicas; "
        "give the cluster that takes the writes role: primary"
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("name: gcp-west", "name: aws-east"),
            "f.yaml:21: federation.clusters[1].name: the name aws-east is taken; choose another name",
        ),
        (
            witness(name="gcp-west"),
            "f.yaml:13: federation.witnesses[0].name: the name gcp-west is taken; choose another name",
        ),
    ],
)
def test_unique_names(edited: Edited, change: tuple[str, str], expected: str) -> None:
    assert edited(change).faults() == [expected]


def test_names_of_one_inventory_group(edited: Edited, verbatim: str) -> None:
    """The form of names keeps them apart already; the rule does not lean on it."""
    federation = edited.read()
    renamed = {"aws-east": "a-b", "gcp-west": "a.b", "edge-chicago": "a_b"}
    changed = federation.__class__(
        **{
            **{name: getattr(federation, name) for name in federation.__struct_fields__},
            "clusters": tuple(
                cluster.__class__(
                    **{
                        **{name: getattr(cluster, name) for name in cluster.__struct_fields__},
                        "name": renamed[cluster.name],
                    }
                )
                for cluster in federation.clusters
            ),
        }
    )
    found = rules.unique_names(changed, yamlfile.parse("f.yaml", verbatim.encode()))
    assert [str(fault) for fault in found] == [
        "f.yaml:21: federation.clusters[1].name: the name a.b is taken: the inventory group of a-b would be the same; choose another name",
        "f.yaml:27: federation.clusters[2].name: the name a_b is taken: the inventory group of a-b would be the same; choose another name",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("grey-west.example.com:8080", "GREY-EAST.example.com:8080"),
            "f.yaml:22: federation.clusters[1].endpoint: the endpoint grey-east.example.com:8080 is that of aws-east; "
            "give each its own host",
        ),
        (
            ("grey-west.example.com:8080", "grey-east.example.com:8081"),
            "f.yaml:22: federation.clusters[1].endpoint: the host grey-east.example.com is that of aws-east: "
            "both would listen on port 8443; give each its own host",
        ),
        (
            witness(endpoint="grey-west.example.com:2379"),
            "f.yaml:13: federation.witnesses[0].endpoint: the host grey-west.example.com is that of gcp-west: "
            "the witness would fail with it; give each its own host",
        ),
        (
            ("grey-west.example.com:8080", "grey-west.example.com:8443"),
            "f.yaml:22: federation.clusters[1].endpoint: port 8443 serves the control plane of every node; "
            "use another port, for example 8080",
        ),
        (
            ("grey-west.example.com:8080", "grey-west.example.com:9090"),
            "f.yaml:22: federation.clusters[1].endpoint: port 9090 serves the metrics of every node; "
            "use another port, for example 8080",
        ),
        (
            ("federation.grey.internal:8443", "federation.grey.internal:9090"),
            "f.yaml:7: federation.control_plane.endpoint: port 9090 serves the metrics of every node; use 8443",
        ),
        (
            ("federation.grey.internal:8443", "federation.grey.internal:8080"),
            "f.yaml:7: federation.control_plane.endpoint: port 8080 is that of aws-east and 2 more; use 8443",
        ),
    ],
)
def test_hosts_and_ports(edited: Edited, change: tuple[str, str], expected: str) -> None:
    assert edited(change).faults() == [expected]


def test_localhost_is_another_host_on_every_host(edited: Edited) -> None:
    words = "expected a host that all clusters reach, found {}; write its name or address; an inventory's grey_names says which address a name has"
    changed = edited(
        ("grey-west.example.com", "localhost"),
        ("grey-chi.edge.internal", "Chi.LOCALHOST"),
        ("endpoint: federation.grey.internal", "endpoint: localhost"),
        ("  name: global-grey\n", "  name: global-grey\n  domain: grey.internal\n"),
    )
    assert changed.faults() == [
        f"f.yaml:8: federation.control_plane.endpoint: {words.format('localhost')}",
        f"f.yaml:23: federation.clusters[1].endpoint: {words.format('localhost')}",
        f"f.yaml:29: federation.clusters[2].endpoint: {words.format('chi.localhost')}",
    ]


def test_one_cluster_alone_may_be_at_localhost(edited: Edited) -> None:
    one = re.sub(r"    - name: (gcp-west|edge-chicago)\n(      .*\n|\s*\n)+", "", edited.text)
    alone = type(edited)(one)(
        ("grey-east.example.com", "localhost"),
        ("auto_failover: true", "auto_failover: false"),
        ("min_insync_replicas: 1", "min_insync_replicas: 0"),
    )
    assert alone.read().clusters[0].endpoint.host == "localhost"


def test_loopback_addresses_may_stand_for_hosts_of_one_machine(edited: Edited) -> None:
    read = edited(
        ("grey-east.example.com", "127.0.0.1"),
        ("grey-west.example.com", "127.0.0.2"),
        ("grey-chi.edge.internal:8080", "'[::1]:8080'"),
    ).read()
    assert [cluster.endpoint.host for cluster in read.clusters] == ["127.0.0.1", "127.0.0.2", "::1"]


def test_no_port_is_recommended_that_would_be_refused(edited: Edited) -> None:
    control, west = "federation.grey.internal:8443", "grey-west.example.com:8080"
    assert edited(
        (control, control.replace("8443", "8080")), (west, west.replace("8080", "8443"))
    ).faults() == [
        "f.yaml:7: federation.control_plane.endpoint: port 8080 is that of aws-east and 1 more; use 8444"
    ]
    alone = edited((":8080", ":8081"), (control, control.replace("8443", "8080")))
    assert alone(("grey-west.example.com:8081", "grey-west.example.com:9090")).faults() == [
        "f.yaml:22: federation.clusters[1].endpoint: port 9090 serves the metrics of every node; "
        "use another port, for example 8081"
    ]


@pytest.mark.parametrize("host", ["10.0.0.1", "[2001:db8::1]", "federation"])
def test_a_control_plane_without_a_domain(edited: Edited, host: str) -> None:
    changed = edited(("federation.grey.internal:8443", f"'{host}:8443'"))
    assert changed.faults() == [
        "f.yaml:2: federation.domain: the key is missing, and the control plane's host "
        f"{host.strip('[]')} has no domain to take; add it, for example domain: grey.internal"
    ]
    assert changed(("  name: global-grey\n", "  name: global-grey\n  domain: a.b\n")).read().domain == "a.b"


def test_mtls_cannot_be_switched_off(edited: Edited) -> None:
    assert edited(
        add="security:\n  mtls:\n    enabled: false\n  cluster_auth: {verify_peer: false}\n"
    ).faults() == [
        "f.yaml:51: security.mtls.enabled: expected true, found false: traffic between clusters is always mTLS; "
        "remove the key or write true",
        "f.yaml:52: security.cluster_auth.verify_peer: expected true, found false: "
        "traffic between clusters is always mTLS; remove the key or write true",
    ]


def test_plain_http_between_clusters(edited: Edited) -> None:
    assert edited(("endpoint: grey-west", "endpoint: http://grey-west")).faults() == [
        "f.yaml:22: federation.clusters[1].endpoint: plain http is refused: traffic between clusters is always mTLS; "
        'write "grey-west.example.com:8080" without http://'
    ]


def test_a_cluster_that_is_not_admitted(edited: Edited, security: str) -> None:
    security = security.replace("CN=edge-*.grey", "CN=*.edge.grey").replace("CN=aws-east.", "CN=AWS-*.")
    assert edited(add=security).faults() == [
        "f.yaml:57: security.cluster_auth.allowed_clusters: the cluster edge-chicago is not admitted; "
        "add CN=edge-chicago.grey.internal"
    ]


def test_a_read_only_primary(edited: Edited) -> None:
    assert edited(("weight: 100  # Traffic weight", "capabilities: [read-only]")).faults() == [
        "f.yaml:19: federation.clusters[0].capabilities: the primary aws-east cannot be read-only; remove read-only"
    ]


def test_automatic_failover_without_a_successor(edited: Edited) -> None:
    changed = edited(("weight: 50", "capabilities: [read-only]"))
    assert changed.faults() == [
        "f.yaml:45: federation.failover.auto_failover: expected a replica that can be promoted, "
        "found none without read-only; add one, or write auto_failover: false"
    ]
    assert not changed(("auto_failover: true", "auto_failover: false")).read().failover.auto_failover


def without_edge(edited: Edited) -> Edited:
    match = re.search(r"    - name: edge-chicago\n(      .*\n)+", edited.text)
    assert match
    return edited((match[0], ""))


def test_two_voters_need_a_witness_for_automatic_failover(edited: Edited) -> None:
    two = without_edge(edited)
    assert two.faults() == [
        "f.yaml:37: federation.failover.auto_failover: expected at least 3 voters, so that a majority survives one; "
        "found 2; add a third cluster or a witness, or write auto_failover: false"
    ]
    assert len(two(witness()).read().witnesses) == 1
    assert two(("auto_failover: true", "auto_failover: false")).read().clusters[1].voter


def test_too_many_and_too_few_voters(edited: Edited) -> None:
    more = "".join(
        f"    - {{name: c{i}, endpoint: 'c{i}.example.com:8080', role: replica, voter: true}}\n"
        for i in range(6)
    )
    many = edited(
        ("    - name: gcp-west", more + "    - name: gcp-west"),
        ("      weight: 50\n", "      weight: 50\n      voter: true\n"),
        ("      weight: 25\n", "      voter: true\n"),
    )
    assert many.faults() == [
        "f.yaml:14: federation.clusters: expected at most 7 voters, found 8; "
        "write voter: false for some, or name fewer witnesses"
    ]
    none = edited(
        ("      weight: 50\n", "      voter: false\n"),
        ("      weight: 25\n", "      voter: false\n"),
        ("weight: 100  # Traffic weight", "voter: false"),
    )
    assert none.faults() == [
        "f.yaml:14: federation.clusters: expected a cluster that votes, found none; remove voter: false"
    ]


def test_four_voters_are_allowed(edited: Edited) -> None:
    more = "    - {name: c4, endpoint: 'c4.example.com:8080', role: replica, voter: true}\n    - name: edge-chicago"
    read = edited(("    - name: edge-chicago", more), ("      weight: 25\n", "      voter: true\n")).read()
    assert [cluster.voter for cluster in read.clusters] == [True] * 4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            [("min_insync_replicas: 1", "min_insync_replicas: 3")],
            "f.yaml:48: federation.failover.min_insync_replicas: expected at most 2 (the number of replicas), found 3; "
            "lower it or add a replica",
        ),
        (
            [("min_insync_replicas: 1", "min_insync_replicas: 0"), ("mode: async  ", "mode: semi-sync")],
            "f.yaml:48: federation.failover.min_insync_replicas: expected at least 1 in mode semi-sync, found 0; "
            "write 1, or mode: async",
        ),
    ],
)
def test_reachable_min_insync_replicas(edited: Edited, changes: list[tuple[str, str]], expected: str) -> None:
    assert edited(*changes).faults() == [expected]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_reachable_min_insync_replicas(edited: Edited, number: int) -> None:
    read = edited(("min_insync_replicas: 1", f"min_insync_replicas: {number}")).read()
    assert read.failover.min_insync_replicas == number


@pytest.mark.parametrize(
    ("change", "add", "expected"),
    [
        (
            ("detection_time: 30s", "detection_time: 999ms"),
            "",
            'f.yaml:46: federation.failover.detection_time: expected 1s to 1h, found "999ms"',
        ),
        (
            ("detection_time: 30s", "detection_time: 2h"),
            "",
            'f.yaml:46: federation.failover.detection_time: expected 1s to 1h, found "2h"',
        ),
        (
            ("promotion_timeout: 60s", "promotion_timeout: 0s"),
            "",
            'f.yaml:47: federation.failover.promotion_timeout: expected 1s to 1h, found "0s"',
        ),
        (
            ("interval: 100ms", "interval: 0.5ms"),
            "",
            'f.yaml:40: federation.replication.interval: expected 1ms to 1m, found "0.5ms"',
        ),
        (("    interval: 100ms\n", ""), "replication: {interval: 61s}", None),
        (
            ("  name: global-grey", "  name: global-grey\n  max_clock_offset: 2m"),
            "",
            'f.yaml:4: federation.max_clock_offset: expected 1ms to 1m, found "2m"',
        ),
        (
            ("weight: 50", "weight: 50"),
            "security: {mtls: {cert_rotation_interval: 59s}}",
            'f.yaml:49: security.mtls.cert_rotation_interval: expected 1m to 365d, found "59s"',
        ),
        (
            ("detection_time: 30s", "detection_time: 30s\n    max_lag: 99ms"),
            "",
            'f.yaml:47: federation.failover.max_lag: expected at least replication.interval, found "99ms"; or no replica is ever close enough for a failover',
        ),
        (
            ("interval: 100ms", "interval: 31s"),
            "",
            'f.yaml:40: federation.replication.interval: expected at most failover.detection_time, found "31s"; or no replica is ever close enough for a failover',
        ),
    ],
)
def test_sane_durations(edited: Edited, change: tuple[str, str], add: str, expected: str | None) -> None:
    found = edited(change, add=add).faults()
    if expected is None:
        expected = 'f.yaml:48: replication.interval: expected 1ms to 1m, found "61s"'
        assert found[0] == expected
    else:
        assert found == [expected]


def test_durations_on_the_edge(edited: Edited) -> None:
    read = edited(("detection_time: 30s", "detection_time: 1s"), ("interval: 100ms", "interval: 1s")).read()
    assert read.failover.max_lag_seconds == read.replication.interval_seconds == 1.0


def test_the_same_replication_key_twice(edited: Edited, resolution: str) -> None:
    assert edited(add=resolution).faults() == [
        "f.yaml:51: replication.conflict_resolution: the same key is in federation.replication.conflict_resolution, line 41; "
        "keep one of the two"
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("handler: /opt/grey/conflict-resolver.wasm", "crdt_type: g-counter"),
            [
                "f.yaml:61: replication.conflict_resolution.rules[2].handler: the key is missing: custom needs it; "
                "add it, for example handler: /opt/grey/conflict-resolver.wasm",
                "f.yaml:63: replication.conflict_resolution.rules[2].crdt_type: the strategy custom takes no crdt_type; "
                "remove it, or write strategy: crdt-merge",
            ],
        ),
        (
            ("        crdt_type: g-counter\n", ""),
            [
                "f.yaml:57: replication.conflict_resolution.rules[1].crdt_type: the key is missing: crdt-merge needs it; "
                "add it: crdt_type: g-counter"
            ],
        ),
        (
            ("default: last-write-wins", "default: crdt-merge"),
            [
                "f.yaml:51: replication.conflict_resolution.default: crdt-merge needs a crdt_type, which a rule has; "
                'write rules: with pattern: "*", strategy: crdt-merge and crdt_type'
            ],
        ),
    ],
)
def test_conflict_rules(
    edited: Edited, resolution: str, change: tuple[str, str], expected: list[str]
) -> None:
    changed = edited((SCALAR, ""), add=resolution)(change)
    assert changed.faults() == expected


def test_custom_as_one_word(edited: Edited) -> None:
    assert edited(("conflict_resolution: last-write-wins", "conflict_resolution: custom")).faults() == [
        "f.yaml:41: federation.replication.conflict_resolution: custom needs a handler, which a rule has; "
        'write rules: with pattern: "*", strategy: custom and handler'
    ]


def test_all_broken_rules_are_reported_in_order(edited: Edited) -> None:
    found = edited(
        ("detection_time: 30s", "detection_time: 0s"),
        ("name: gcp-west", "name: aws-east"),
        ("min_insync_replicas: 1", "min_insync_replicas: 9"),
    ).faults()
    assert [fault.split(": ")[1] for fault in found] == [
        "federation.clusters[1].name",
        "federation.replication.interval",
        "federation.failover.detection_time",
        "federation.failover.min_insync_replicas",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            [("mode: async", "mode: sync")],
            ["f.yaml:38: federation.replication.mode: mode sync is not available in this version; use async"],
        ),
        (
            [("mode: async", "mode: semi-sync")],
            [
                "f.yaml:38: federation.replication.mode: mode semi-sync is not available in this version; use async"
            ],
        ),
        (
            [("  name: global-grey", "  name: global-grey\n  topology: active-active")],
            [
                "f.yaml:4: federation.topology: topology active-active is not available in this version; use active-passive"
            ],
        ),
        ([("weight: 50", "weight: 51")], []),
    ],
)
def test_what_this_version_cannot_carry_out(
    edited: Edited, changes: list[tuple[str, str]], expected: list[str]
) -> None:
    changed = edited(*changes)
    read = changed.read()
    document = yamlfile.parse("f.yaml", changed.text.encode())
    assert [str(fault) for fault in unsupported(read, document)] == expected
    assert [str(fault) for fault in unsupported(read)] == [fault.split(": ", 1)[1] for fault in expected]


def test_witnesses_are_available(edited: Edited) -> None:
    assert unsupported(edited(witness()).read()) == []


def test_conflict_resolution_is_harmless_with_one_primary(edited: Edited, resolution: str) -> None:
    assert unsupported(edited((SCALAR, ""), add=resolution).read()) == []
