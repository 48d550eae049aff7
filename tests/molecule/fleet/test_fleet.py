# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet itself, before anything is deployed: what the other tests take for granted."""

from __future__ import annotations

import subprocess
import time

from hosts import Fleet

HARDENING = (
    "--quiet --pipe --wait -p User=nobody -p ProtectSystem=strict -p ProtectHome=yes -p PrivateTmp=yes"
    " -p PrivateDevices=yes -p NoNewPrivileges=yes -p ProtectKernelTunables=yes -p ProtectControlGroups=yes"
    " -p RestrictSUIDSGID=yes -p ProtectProc=invisible -p SystemCallFilter=@system-service"
    " -p LimitNOFILE=65536 -p CapabilityBoundingSet="
)


def test_systemd_is_up_on_every_host(fleet: Fleet) -> None:
    """Not a unit has failed; the default etcd of the distribution's package does not run."""
    state = fleet.everywhere("systemctl is-system-running; systemctl --failed --plain --no-legend")
    assert state == dict.fromkeys(fleet, "running")
    assert set(fleet.everywhere("systemctl is-enabled etcd || true").values()) == {"masked"}
    assert set(fleet.everywhere("cat /proc/1/comm").values()) == {"systemd"}
    assert len(set(fleet.everywhere("cat /etc/machine-id").values())) == len(fleet)


def test_ansible_reaches_all_hosts(fleet: Fleet) -> None:
    """It takes 3 s on an idle machine with two cores; other lanes run beside this one."""
    started = time.monotonic()
    said = fleet.ansible("ansible", "fleet", "-m", "ansible.builtin.ping", "-b").stdout
    assert said.count("ping: pong") == len(fleet)
    assert time.monotonic() - started < 60


def test_the_administrator_is_not_root_and_no_password_lets_in(fleet: Fleet) -> None:
    name = next(iter(fleet))
    assert fleet.as_admin(name).check_output("id -un") == "admin"
    config = fleet[name].check_output("/usr/sbin/sshd -T")
    assert "permitrootlogin no" in config and "passwordauthentication no" in config


def test_no_host_shares_its_host_key(fleet: Fleet) -> None:
    """They are made at the first start, not baked into the image."""
    keys = fleet.everywhere("cat /etc/ssh/ssh_host_ed25519_key.pub")
    assert len(set(keys.values())) == len(fleet)


def test_there_is_no_way_out(fleet: Fleet) -> None:
    """Neither to the internet nor to this machine's other networks; a host hears so at once."""
    for where in ("198.51.100.1", "1.1.1.1", *default_gateways()):
        said = fleet.everywhere(f"ip route get {where} 2>&1 || true")
        assert all("unreachable" in line.lower() for line in said.values()), said
    # The question of a name ends here too: Docker's own name server would try for 20 s to ask outside.
    fleet.everywhere("! getent hosts deb.debian.org")
    assert set(fleet.everywhere("grep nameserver /etc/resolv.conf").values()) == {"nameserver 127.0.0.1"}


def test_sites_are_joined_by_the_interconnect_only(fleet: Fleet) -> None:
    firsts = {fleet.site(name): name for name in fleet}
    assert len(firsts) == len(fleet.networks) - 1
    for own, name in firsts.items():
        for other, peer in firsts.items():
            if other != own:
                site, joining = fleet.address(peer, other), fleet.address(peer)
                assert fleet[name].run(f"ping -c 1 -W 2 {joining}").rc == 0
                assert fleet[name].run(f"ping -c 1 -W 1 {site}").rc != 0
    # Not even by way of this machine, for somebody who sets a route to its end of the bridge.
    (name, own), (peer, other) = [(firsts[site], site) for site in list(firsts)[:2]]
    target, gateway = fleet.address(peer, other), fleet.networks[own].replace("0/24", "1")
    try:
        fleet[name].check_output(f"ip route add {target} via {gateway}")
        assert fleet[name].run(f"ping -c 1 -W 1 {target}").rc != 0
    finally:
        fleet[name].run(f"ip route del {target}")


def test_names_mean_what_dns_would_say(fleet: Fleet) -> None:
    for cluster, known in fleet.names.items():
        for said in fleet.everywhere(f"getent ahostsv4 {cluster}").values():
            assert {line.split()[0] for line in said.splitlines()} == set(known)


def test_names_outlive_a_restart(fleet: Fleet) -> None:
    """Docker writes /etc/hosts anew whenever a host starts, and tests kill and start hosts."""
    name = list(fleet)[-1]
    before = fleet[name].check_output("grep example.com /etc/hosts")
    fleet.docker("restart", "--time", "10", name)
    fleet.await_ssh(name)
    assert fleet[name].check_output("grep example.com /etc/hosts") == before
    assert "unreachable" in fleet[name].run("ip route get 198.51.100.1").stderr.lower()


def test_hosts_are_what_the_collection_asks_for(fleet: Fleet) -> None:
    """A Python that releases run with, an engine, a synchronised clock, room."""
    for version in fleet.everywhere("python3 -c 'import sys, venv; print(*sys.version_info[:2])'").values():
        assert tuple(map(int, version.split())) >= (3, 11)
    assert all("etcd Version: 3." in said for said in fleet.everywhere("etcd --version").values())
    assert all("Leap status     : Normal" in said for said in fleet.everywhere("chronyc tracking").values())
    now = time.time()
    assert all(abs(float(said) - now) < 5 for said in fleet.everywhere("date +%s.%N").values())
    room = fleet.everywhere("df --output=avail --block-size=M / | tail -1 | tr -d 'M '")
    assert all(int(said) > 2048 for said in room.values())


def test_hardened_units_can_run(fleet: Fleet) -> None:
    """The name spaces that systemd puts services into are allowed inside."""
    said = fleet.everywhere(f"systemd-run {HARDENING} sh -c 'id -un; touch /etc/x || echo kept'")
    assert all(lines.split() == ["nobody", "kept"] for lines in said.values()), said


def test_a_run_in_check_mode_left_nothing(fleet: Fleet) -> None:
    """One came before this, on hosts that were clean."""
    folders = "/etc/grey /opt/grey /var/lib/grey /run/grey"
    asked = f"ls -d {folders} 2>/dev/null; getent passwd grey; ls /etc/systemd/system | grep grey; true"
    found = fleet.everywhere(asked)
    assert set(found.values()) == {""}
    assert not (fleet.home / "controller").exists()


def default_gateways() -> list[str]:
    """Return the addresses by which this machine itself leaves its networks."""
    said = subprocess.run(["hostname", "-I"], check=False, capture_output=True, text=True).stdout.split()
    return [address for address in said if ":" not in address and not address.startswith("172.")]
