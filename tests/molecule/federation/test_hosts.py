# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment leaves on the hosts: units, users, ports, modes; keys and engines are nobody else's."""

from __future__ import annotations

import re

import pytest

from deployed import API, CONTROL, ENGINE_PEER, METRICS, STORE_CLIENT, STORE_PEER, Federation
from hosts import Fleet

UNITS = {
    "greyd": "greyd.service",
    "engine": "grey-engine.service",
    "federation-store": "grey-federation-store.service",
}
HARDENED = {
    "User": "grey",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
}
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


def units(federation: Federation, host: str) -> set[str]:
    """Return the units that a host should run."""
    return {UNITS["greyd"], *(UNITS[group] for group in federation.groups(host))}


def test_units_run_and_start_at_boot(fleet: Fleet, federation: Federation) -> None:
    listed = fleet.everywhere("systemctl list-units --all --plain --no-legend 'grey*.service'")
    for host, lines in listed.items():
        # greyd's unit names the others, which systemd then lists as not found where a host has none.
        listed_here = [line.split() for line in lines.splitlines() if "not-found" not in line]
        found = {words[0]: " ".join(words[1:4]) for words in listed_here}
        assert found == dict.fromkeys(units(federation, host), "loaded active running"), host
        for unit in found:
            assert fleet[host].check_output(f"systemctl is-enabled {unit}") == "enabled"
            assert fleet[host].check_output(f"systemctl show -P NRestarts {unit}") == "0"
    assert set(fleet.everywhere("systemctl is-system-running").values()) == {"running"}


def test_nothing_runs_with_rights(fleet: Fleet, federation: Federation) -> None:
    said = fleet.everywhere("ps -eo user:20=,args= | grep -E '/opt/grey|bin/etcd' | grep -v grep")
    for host, lines in said.items():
        assert {line.split()[0] for line in lines.splitlines()} == {"grey"}, lines
        for unit in units(federation, host):
            shown = fleet[host].check_output(f"systemctl show {unit} -p {','.join(HARDENED)}")
            assert dict(line.split("=", 1) for line in shown.splitlines()) == HARDENED, unit
    account = fleet[next(iter(fleet))].user("grey")
    assert account.exists and account.shell.endswith("nologin") and account.uid < 1000


def test_only_the_documented_ports_are_open(fleet: Fleet, federation: Federation) -> None:
    ports = {"engine": {ENGINE_PEER}, "federation-store": {STORE_CLIENT, STORE_PEER}}
    for host, lines in fleet.everywhere("ss -tlnH | grep -v 127.0.0.11").items():
        found = {line.split()[3] for line in lines.splitlines()}
        wanted = {API, CONTROL, METRICS}.union(*(ports[group] for group in federation.groups(host)))
        assert found - {"0.0.0.0:22", "[::]:22"} == {f"{fleet.address(host)}:{port}" for port in wanted}, host


def test_keys_and_data_are_the_users_own(fleet: Fleet) -> None:
    keys = fleet.everywhere("find /etc/grey -name '*key.pem' -printf '%m %u %g\\n'")
    assert all(set(lines.splitlines()) == {"600 grey grey"} for lines in keys.values()), keys
    others = (
        "find /etc/grey /var/lib/grey /opt/grey -perm /o+w ! -type l;"
        " find /var/lib/grey -mindepth 1 -perm /o+r ! -type l"
    )
    assert set(fleet.everywhere(others).values()) == {""}
    foreign = "find /etc/grey /var/lib/grey ! -user grey"
    assert set(fleet.everywhere(foreign).values()) == {""}
    # What runs is not what the running programs could change.
    assert set(fleet.everywhere("find /opt/grey -user grey").values()) == {""}


@pytest.mark.parametrize("user", ["nobody", "admin"])
def test_an_engine_serves_no_other_user(fleet: Fleet, federation: Federation, user: str) -> None:
    """All of a cluster's data goes over that socket, without TLS."""
    for host in fleet:
        if "engine" not in federation.groups(host):
            continue
        sockets = fleet[host].check_output("find /run/grey/engine -type s").split()
        assert sockets and fleet[host].check_output("stat -c '%a %U' /run/grey/engine") == "700 grey"
        for socket in sockets:
            tried = fleet[host].run(f"sudo -u {user} python3 -c '{CONNECT}' {socket}")
            assert "PermissionError" in tried.stderr, tried
            assert fleet[host].run(f"sudo -u grey python3 -c '{CONNECT}' {socket}").rc == 0


def test_members_are_healthy_and_as_many_as_the_inventory_says(fleet: Fleet, federation: Federation) -> None:
    for host in fleet:
        for group in federation.groups(host):
            said = federation.members(host, group)
            voters = [one for one in federation.clusters if group == "federation-store"]
            wanted = {fleet.cluster(one)[0] for one in voters} or set(fleet.cluster(host.rpartition("-")[0]))
            assert said["healthy"] and {member["name"] for member in said["members"]} == wanted
            assert all(one["reachable"] and not one["learner"] for one in said["members"])
            assert sum(one["leader"] for one in said["members"]) == 1


def test_logs_are_in_the_journal_and_hold_no_error(fleet: Fleet, federation: Federation) -> None:
    for host in fleet:
        for unit in units(federation, host):
            said = fleet[host].check_output(f"journalctl --no-pager -o cat -u {unit}")
            assert said
            if unit == UNITS["greyd"]:
                assert not re.search(r'level":? ?"?(error|critical)', said, re.IGNORECASE), said[-4000:]
                assert "Traceback" not in said


def test_the_doctor_finds_nothing(fleet: Fleet) -> None:
    said = fleet.everywhere("/opt/grey/current/bin/grey-ctl doctor; true")
    assert not [lines for lines in said.values() if "problem:" in lines.lower()], said
