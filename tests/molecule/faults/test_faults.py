# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of a cluster dies, whichever: the cluster goes on, nobody is promoted, nothing is lost."""

from __future__ import annotations

import pytest

from deployed import Federation
from hosts import Fleet, wait_for


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_cluster_goes_on_without_any_one_of_its_hosts(
    fleet: Fleet, federation: Federation, number: int
) -> None:
    """The renewer of the primary's role is among them, and the cluster's only voter (its first host)."""
    host = fleet.cluster("aws-east")[number]
    epoch = federation.status()["epoch"]
    with federation.under_load(f"without/{number}/") as writer:
        fleet.docker("kill", "--signal", "KILL", host)
        try:
            writer.await_more(100)
        finally:
            fleet.docker("start", host)
            fleet.await_ssh(host)
        federation.await_whole()
        writer.await_more()
    print(f"{host}: {len(writer.acknowledged)} writes, longest pause {writer.longest_pause:.1f} s")
    assert not writer.failed
    status = federation.status()
    assert (status["primary"], status["epoch"]) == ("aws-east", epoch)
    for cluster in federation.clusters:
        wait_for(
            lambda cluster=cluster: set(writer.acknowledged) <= federation.keys(cluster, writer.prefix),
            f"{len(writer.acknowledged)} acknowledged writes on {cluster}",
        )


@pytest.mark.parametrize("unit", ["greyd", "grey-engine", "grey-federation-store"])
def test_systemd_brings_back_what_was_killed(fleet: Fleet, federation: Federation, unit: str) -> None:
    host = fleet.cluster("gcp-west")[0]
    before = fleet[host].check_output(f"systemctl show -P MainPID {unit}")
    fleet[host].check_output(f"systemctl kill --signal KILL {unit}")
    wait_for(
        lambda: fleet[host].check_output(f"systemctl show -P MainPID {unit}") not in ("0", before),
        f"another {unit}",
    )
    federation.await_whole()
    assert fleet[host].check_output(f"systemctl is-active {unit}") == "active"


def test_a_restarted_host_comes_back_by_itself(fleet: Fleet, federation: Federation) -> None:
    (edge,) = fleet.cluster("edge-chicago")
    fleet.docker("restart", "--time", "60", edge)
    fleet.await_ssh(edge)
    federation.await_whole()
    assert fleet[edge].check_output("systemctl is-system-running --wait") == "running"
