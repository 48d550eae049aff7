# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The document's federation answers: written on the primary, read on the others, by any node."""

from __future__ import annotations

import json

from deployed import METRICS, Federation
from hosts import Fleet, wait_for


def test_roles_are_the_files(federation: Federation) -> None:
    assert federation.roles() == {"aws-east": "primary", "gcp-west": "replica", "edge-chicago": "replica"}
    assert federation.status()["voters"] == {"total": 3, "reachable": 3}


def test_a_write_on_the_primary_is_read_on_the_others(federation: Federation) -> None:
    federation.grey_ctl("kv", "put", "user:123", "Ada")
    for cluster in federation.clusters:
        wait_for(
            lambda cluster=cluster: (
                federation.grey_ctl("kv", "get", "user:123", "--cluster", cluster, check=False).stdout.strip()
                == "Ada"
            ),
            f"the write on {cluster}",
            15,
        )
    said = federation.grey_ctl("kv", "get", "user:123", "--consistency", "strong").stdout
    assert said.strip() == "Ada"


def test_every_node_is_ready_and_one_of_each_role_answers(fleet: Fleet) -> None:
    ask = "python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())'"
    for host in fleet:
        ready = json.loads(fleet[host].check_output(f"{ask} http://{fleet.address(host)}:{METRICS}/ready"))
        assert (ready["node"], ready["cluster"]) == (host, host.rpartition("-")[0])
        role = "primary" if host.startswith("aws-east") else "replica"
        assert ready["role"] == role and not ready["problem"]


def test_bulk_writes_are_on_every_cluster(federation: Federation) -> None:
    with federation.under_load("bulk/") as writer:
        writer.await_more(200)
    assert not writer.failed
    for cluster in federation.clusters:
        wait_for(
            lambda cluster=cluster: set(writer.acknowledged) <= federation.keys(cluster, "bulk/"),
            f"{len(writer.acknowledged)} writes on {cluster}",
        )
