# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the primary's cluster die, leave and join while it is written to (tests/scale has more)."""

from __future__ import annotations

from pathlib import Path

import inventories
from deployed import Federation
from hosts import Fleet, wait_for
from recap import changes, recap

SCALE = ("ansible-playbook", "playbooks/scale.yml")
CONFIRM = ("-e", "confirm=global-grey")


def touched(output: str) -> set[str]:
    """Return the hosts that a run changed something on."""
    return {host for host, counts in recap(output).items() if counts["changed"]}


def voters(federation: Federation, host: str, group: str = "engine") -> set[str]:
    """Return the voting members of a group that answer."""
    members = federation.members(host, group)["members"]
    return {one["name"] for one in members if one["reachable"] and not one["learner"]}


def test_a_host_that_is_lost_is_replaced_by_a_new_one(fleet: Fleet, federation: Federation) -> None:
    first, second, lost = fleet.cluster("aws-east")
    epoch = federation.status()["epoch"]
    with federation.under_load("replaced/") as writer:
        fleet.made_anew(lost)
        said = fleet.ansible(*SCALE, "-e", f"replace={lost}", *CONFIRM).stdout
        writer.await_more()
    assert not writer.failed
    assert touched(said) <= {first, second, lost}
    assert voters(federation, lost) == {first, second, lost}
    assert federation.status()["epoch"] == epoch
    federation.await_whole()
    wait_for(
        lambda: set(writer.acknowledged) <= federation.keys("aws-east", writer.prefix), "all that was written"
    )


def test_the_first_host_leaves_and_joins_again_as_the_last(
    fleet: Fleet, federation: Federation, tmp_path: Path
) -> None:
    first, second, third = fleet.cluster("aws-east")
    epoch = federation.status()["epoch"]
    with federation.under_load("joined/") as writer:
        fleet.ansible(*SCALE, "-e", f"remove={first}", *CONFIRM)
        assert fleet[first].run("ls -d /etc/grey /var/lib/grey /opt/grey").stdout == ""
        assert voters(federation, second) == {second, third}
        stores = {second, fleet.cluster("gcp-west")[0], *fleet.cluster("edge-chicago")}
        assert voters(federation, second, "federation-store") == stores
        # As its operator writes it then, for good: the host may come back, but not as the first one.
        edited = inventories.copied(fleet, tmp_path / "inventory", aws_east=(second, third, first))
        fleet.inventory = ["-i", str(edited), "-e", inventories.variables(fleet)]
        joined = fleet.ansible(*SCALE).stdout
        writer.await_more()
    assert not writer.failed
    assert touched(joined) <= {first, second, third}, "no other cluster"
    assert voters(federation, first) == {first, second, third}
    status = federation.status()
    assert (status["primary"], status["epoch"]) == ("aws-east", epoch)
    assert changes(fleet.ansible("ansible-playbook", "playbooks/deploy.yml").stdout) == 0
    for cluster in federation.clusters:
        wait_for(
            lambda cluster=cluster: set(writer.acknowledged) <= federation.keys(cluster, writer.prefix),
            f"{len(writer.acknowledged)} acknowledged writes on {cluster}",
        )
