# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of deploy.yml after the first: no change, the truth, and one host in trouble stops nobody."""

from __future__ import annotations

import pytest

from deployed import Federation
from hosts import Fleet, wait_for
from recap import changes, recap

PLAYBOOK = ("ansible-playbook", "playbooks/deploy.yml")
STATE = (
    "find /etc/grey /opt/grey /etc/systemd/system -type f -exec sha256sum {} + -o -type l -printf '%p %l\\n'"
    " | sort;"
    "systemctl show -p MainPID,ActiveEnterTimestampMonotonic greyd 'grey-*'"
)


def test_check_mode_says_that_there_is_nothing_to_do(fleet: Fleet) -> None:
    before = fleet.everywhere(STATE)
    assert changes(fleet.ansible(*PLAYBOOK, "--check", "--diff").stdout) == 0
    assert fleet.everywhere(STATE) == before


@pytest.mark.parametrize("host", ["gcp-west-2", "edge-chicago-1"])
def test_limit_to_a_host_changes_nothing_elsewhere(fleet: Fleet, host: str) -> None:
    """Membership comes from the inventory, never from the hosts of the play."""
    before = fleet.everywhere(STATE)
    said = fleet.ansible(*PLAYBOOK, "--limit", f"{host},localhost").stdout
    assert changes(said) == 0
    assert set(recap(said)) <= {host, "localhost"}
    assert fleet.everywhere(STATE) == before


def test_drift_is_repaired_on_its_host_only(fleet: Fleet, federation: Federation) -> None:
    host = "gcp-west-3"
    others = [name for name in fleet if name != host]
    before = fleet.everywhere(STATE, others)
    fleet[host].check_output("systemctl stop greyd; echo '# drift' >> /etc/grey/federation.yaml")
    foreseen = fleet.ansible(*PLAYBOOK, "--check", "--diff").stdout
    assert {name for name, counts in recap(foreseen).items() if counts["changed"]} == {host}
    assert "# drift" in foreseen
    said = fleet.ansible(*PLAYBOOK).stdout
    assert {name for name, counts in recap(said).items() if counts["changed"]} == {host}
    assert fleet[host].check_output("systemctl is-active greyd") == "active"
    assert fleet.everywhere(STATE, others) == before
    federation.await_whole()


def test_an_unreachable_host_stops_nobody_and_is_named(fleet: Fleet, federation: Federation) -> None:
    """Only in its own cluster nothing is restarted: that could take away the host that is left."""
    lost, held, drifted = "aws-east-3", "aws-east-2", "gcp-west-1"
    drop_in = "/etc/systemd/system/greyd.service.d/other.conf"
    fleet.docker("pause", lost)
    try:
        fleet[drifted].check_output("echo '# drift' >> /etc/grey/federation.yaml")
        fleet[held].check_output(
            f"mkdir -p $(dirname {drop_in}) && printf '[Service]\\nEnvironment=A=b\\n' > {drop_in}"
        )
        before = fleet[held].check_output("systemctl show -P MainPID greyd")
        done = fleet.ansible(*PLAYBOOK, check=False, ANSIBLE_TIMEOUT="5")
        counts = recap(done.stdout)
        assert done.returncode != 0 and counts[lost]["unreachable"] == 1
        assert counts[drifted]["changed"] > 0
        assert [host for host, one in counts.items() if one["failed"]] == [held], done.stdout[-4000:]
        said = " ".join(done.stdout.split())
        assert f"{held}: wanted to restart greyd, found that this run lost {lost} of aws-east" in said
        assert fleet[held].check_output("systemctl show -P MainPID greyd") == before
        assert "# drift" not in fleet[drifted].check_output("cat /etc/grey/federation.yaml")
    finally:
        fleet[held].check_output(f"rm -rf $(dirname {drop_in}) && systemctl daemon-reload")
        fleet.docker("unpause", lost)
        fleet.await_ssh(lost)
    wait_for(lambda: federation.roles()["aws-east"] == "primary", "aws-east to be the primary")
    federation.await_whole()
