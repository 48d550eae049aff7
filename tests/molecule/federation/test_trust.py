# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the hosts nothing goes in clear, and nobody is let in by a certificate of another's."""

from __future__ import annotations

import itertools

import pytest

from deployed import (
    API,
    CERTIFICATE,
    CONTROL,
    ENGINE_PEER,
    METRICS,
    STORE_CLIENT,
    STORE_PEER,
    Federation,
)
from hosts import Fleet

PROTECTED = (API, CONTROL, STORE_CLIENT, STORE_PEER, ENGINE_PEER)
OTHERS = "/tmp/others"  # a certificate of somebody else's authority, on the host that tries


def targets(federation: Federation, port: int) -> list[str]:
    """Return the hosts that have a port."""
    group = {STORE_CLIENT: "federation-store", STORE_PEER: "federation-store", ENGINE_PEER: "engine"}.get(
        port
    )
    return [host for host in federation.fleet if group is None or group in federation.groups(host)]


def pairs(federation: Federation, ports: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """Return who asks whom: a host of every cluster, a host of every other one, each port."""
    found = []
    for source, cluster in itertools.product(federation.clusters, federation.clusters):
        for port in ports:
            there = [host for host in targets(federation, port) if host.startswith(cluster)]
            if source != cluster and there:
                found.append((federation.fleet.cluster(source)[0], there[0], port))
    return found


@pytest.fixture(scope="module")
def strangers(fleet: Fleet) -> tuple[str, str]:
    """Put a certificate on every host that names a cluster of ours, made by a stranger's authority."""
    files = (f"{OTHERS}/cert.pem", f"{OTHERS}/key.pem")
    name = "aws-east.grey.internal"
    fleet.everywhere(
        f"mkdir -p {OTHERS} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        f" -subj /CN={name} -addext subjectAltName=DNS:{name} -keyout {files[1]} -out {files[0]} 2>/dev/null"
    )
    return files


def test_plain_http_is_refused_between_clusters(federation: Federation) -> None:
    for source, target, port in pairs(federation, PROTECTED):
        said = federation.probe(source, target, port, "plain")
        assert "200" not in said and ("refused" in said or said == "closed" or " 400 " in said), (
            target,
            port,
            said,
        )


def test_no_certificate_is_refused(federation: Federation) -> None:
    for source, target, port in pairs(federation, PROTECTED):
        assert federation.probe(source, target, port, "tls").startswith("refused"), (target, port)


def test_a_strangers_certificate_is_refused(federation: Federation, strangers: tuple[str, str]) -> None:
    for source, target, port in pairs(federation, PROTECTED):
        assert federation.probe(source, target, port, "tls", *strangers).startswith("refused"), (target, port)


def test_an_edges_certificate_joins_nobodys_raft(federation: Federation) -> None:
    """Refused by every peer and client port of every etcd; the control plane is where it belongs."""
    (edge,) = federation.fleet.cluster("edge-chicago")
    for port in (STORE_CLIENT, STORE_PEER, ENGINE_PEER):
        for target in targets(federation, port):
            if target != edge:
                said = federation.probe(edge, target, port, "tls", *CERTIFICATE)
                assert said.startswith("refused"), (target, port, said)
    said = federation.probe(edge, federation.fleet.cluster("aws-east")[0], CONTROL, "tls", *CERTIFICATE)
    assert said.startswith("answered HTTP/1.1"), said


def test_a_clusters_certificate_is_refused_by_the_engine_of_another(federation: Federation) -> None:
    files = ("/etc/grey/engine/cert.pem", "/etc/grey/engine/key.pem")
    west = federation.fleet.cluster("gcp-west")[0]
    for target in federation.fleet.cluster("aws-east"):
        assert federation.probe(west, target, ENGINE_PEER, "tls", *files).startswith("refused")
    # It is a good one in its own group.
    own = federation.fleet.cluster("gcp-west")[1]
    assert federation.probe(west, own, ENGINE_PEER, "tls", *files).startswith("answered")


def test_metrics_and_health_are_all_that_is_open(federation: Federation) -> None:
    for source, target, port in pairs(federation, (METRICS,)):
        assert federation.probe(source, target, port, "plain").startswith("answered HTTP/1.1")


def test_no_private_key_was_printed_or_left_on_the_controller(federation: Federation) -> None:
    """Of the hosts' keys, that is: the authorities' and the operator's belong there."""
    kept = {path.name for path in federation.controller.rglob("*") if path.is_file()}
    assert not [name for name in kept if "federation-key" in name]
    journals = federation.fleet.everywhere("journalctl --no-pager | grep -c 'PRIVATE KEY' || true")
    assert set(journals.values()) == {"0"}
