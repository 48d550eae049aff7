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
    Question,
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


def between_clusters(federation: Federation, ports: tuple[int, ...]) -> list[Question]:
    """Return questions from a host of every cluster to a host of every other one, at each port."""
    found = []
    for source, cluster in itertools.product(federation.clusters, federation.clusters):
        for port in ports:
            there = [host for host in targets(federation, port) if host.startswith(cluster)]
            if source != cluster and there:
                found.append((federation.fleet.cluster(source)[0], there[0], port))
    return found


def let_in(said: dict[Question, str]) -> dict[Question, str]:
    """Return the questions that were answered; with TLS 1.3 a server refuses after the handshake."""
    return {question: answer for question, answer in said.items() if answer.startswith("answered")}


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
    said = let_in(federation.probe(between_clusters(federation, PROTECTED), "plain"))
    # Go's TLS server says in clear what it thinks of a client that speaks in clear.
    assert all(" 400 " in answer for answer in said.values()), said


def test_no_certificate_is_refused(federation: Federation) -> None:
    assert not let_in(federation.probe(between_clusters(federation, PROTECTED), "tls"))


def test_a_strangers_certificate_is_refused(federation: Federation, strangers: tuple[str, str]) -> None:
    assert not let_in(federation.probe(between_clusters(federation, PROTECTED), "tls", *strangers))


def test_an_edges_certificate_joins_nobodys_raft(federation: Federation) -> None:
    """Refused by every peer and client port of every etcd; the control plane is where it belongs."""
    (edge,) = federation.fleet.cluster("edge-chicago")
    ports = (STORE_CLIENT, STORE_PEER, ENGINE_PEER)
    asked = [(edge, target, port) for port in ports for target in targets(federation, port) if target != edge]
    assert len(asked) == 10  # two other members of the federation store, six of engines
    assert not let_in(federation.probe(asked, "tls", *CERTIFICATE))
    welcome = [(edge, host, CONTROL) for host in federation.fleet if host != edge]
    assert let_in(federation.probe(welcome, "tls", *CERTIFICATE)).keys() == set(welcome)


def test_a_clusters_certificate_is_refused_by_the_engine_of_another(federation: Federation) -> None:
    files = ("/etc/grey/engine/cert.pem", "/etc/grey/engine/key.pem")
    west, neighbour, _ = federation.fleet.cluster("gcp-west")
    asked = [(west, target, ENGINE_PEER) for target in (*federation.fleet.cluster("aws-east"), neighbour)]
    # It is a good one in its own group.
    assert list(let_in(federation.probe(asked, "tls", *files))) == [(west, neighbour, ENGINE_PEER)]


def test_metrics_and_health_are_all_that_is_open(federation: Federation) -> None:
    asked = between_clusters(federation, (METRICS,))
    assert let_in(federation.probe(asked, "plain")).keys() == set(asked)


def test_no_private_key_was_printed_or_left_on_the_controller(federation: Federation) -> None:
    """Of the hosts' keys, that is: the authorities' and the operator's belong there."""
    kept = {path.name for path in federation.controller.rglob("*") if path.is_file()}
    assert not [name for name in kept if "federation-key" in name]
    journals = federation.fleet.everywhere("journalctl --no-pager | grep -c 'BEGIN.*PRIVATE KE[Y]' || true")
    assert set(journals.values()) == {"0"}
