# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools behind the test fleet, without Docker: what they refuse, choose and count."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes import script

import containers
import fleet
import get_docker
import image
import scenario
from console import ROOT, Failed
from containers import Subnet

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
docker0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
br-1	00001EAC	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing in it, for somebody without rights."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(get_docker, "SYSTEM_PATH", str(tmp_path))
    monkeypatch.setattr(get_docker, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def test_without_rights_it_says_what_root_would_install(nothing_installed: Path) -> None:
    with pytest.raises(Failed, match="needs dockerd, docker, mmdebstrap, ssh, iptables") as failure:
        get_docker.ensure()
    assert "apt-get install docker.io iptables mmdebstrap openssh-client" in failure.value.next_step


def test_without_rights_it_starts_no_daemon(nothing_installed: Path) -> None:
    for program in get_docker.PACKAGES:
        script(nothing_installed / program, "exit 1")
    with pytest.raises(Failed, match="only root can start one"):
        get_docker.ensure()


def test_a_daemon_that_answers_is_taken_wherever_its_program_is(nothing_installed: Path) -> None:
    for program in ("docker", "mmdebstrap", "ssh", "iptables"):
        script(nothing_installed / program, "echo 27.1")
    assert get_docker.ensure() == "27.1"


def test_a_number_of_another_process_does_not_keep_the_daemon_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stale").write_text(f"{os.getpid()}\n", encoding="utf-8")
    (tmp_path / "gone").write_text("no number", encoding="utf-8")
    files = {"dockerd": str(tmp_path / "stale"), "containerd": str(tmp_path / "gone")}
    monkeypatch.setattr(get_docker, "PID_FILES", files)
    get_docker.remove_stale_pid_files()
    assert not (tmp_path / "stale").exists()


def test_the_image_is_made_from_the_distributions_own_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "http://deb.example/debian/\tbookworm\tmain\tDebian\t/usr/share/keyrings/archive.gpg",
        "http://deb.example/debian/\tbookworm-updates\tmain\tDebian\t$(SIGNED_BY)",
        "https://else.example/\tnodistro\tmain\t. nodistro\t",
    ]
    script(tmp_path / "apt-get", "cat <<'END'\n" + "\n".join(lines) + "\nEND")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert image.sources() == [
        "deb [signed-by=/usr/share/keyrings/archive.gpg] http://deb.example/debian/ bookworm main",
        "deb http://deb.example/debian/ bookworm-updates main",
    ]


def test_the_image_has_another_name_when_anything_in_it_differs() -> None:
    assert image.digest(["deb a b c"]) == image.digest(["deb a b c"]) != image.digest(["deb a b d"])
    assert {"systemd", "openssh-server", "etcd-server"} <= set(image.packages())


def test_routes_are_read_without_the_default_one(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(ROUTES, encoding="utf-8")
    assert containers.routes(tmp_path / "route") == [Subnet("172.17.0.0/16"), Subnet("172.30.0.0/24")]
    assert containers.routes(tmp_path / "absent") == []


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Networks that are made, of a Docker that has none."""
    networks: list[tuple[str, str]] = []
    monkeypatch.setattr(fleet, "HOME", tmp_path)
    monkeypatch.setattr(fleet.get_docker, "ensure", lambda: "27.1")
    monkeypatch.setattr(fleet, "labelled", lambda *_: [])
    monkeypatch.setattr(fleet, "make_network", lambda name, subnet, _: networks.append((name, str(subnet))))
    return networks


def test_a_fleet_takes_the_first_block_that_is_free(made, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fleet, "taken", lambda: [Subnet("172.30.3.0/24"), Subnet("172.30.16.0/24")])
    assert fleet.reserve("f") == {"changed": ["grey-2-interconnect"], "block": 2}
    assert made == [("grey-2-interconnect", "172.30.32.0/24")]
    assert (tmp_path / "f" / "block").read_text(encoding="utf-8") == "2\n"


def test_a_fleet_keeps_the_block_that_it_has(made, monkeypatch) -> None:
    labels = {containers.CHECKOUT: str(ROOT), containers.BLOCK: "5"}
    monkeypatch.setattr(fleet, "labelled", lambda *_: [{"Labels": labels}])
    assert fleet.reserve("f") == {"changed": [], "block": 5} and not made


def test_when_all_blocks_are_taken_it_says_so(made, monkeypatch) -> None:
    monkeypatch.setattr(fleet, "taken", lambda: [Subnet("172.16.0.0/12")])
    with pytest.raises(Failed, match="no block of 16 free networks"):
        fleet.reserve("f")


def test_a_network_that_overlaps_another_is_refused(made, monkeypatch) -> None:
    monkeypatch.setattr(fleet, "taken", lambda: [Subnet("172.30.1.0/25")])
    with pytest.raises(Failed, match=r"network west: 172\.30\.1\.0/24 overlaps 172\.30\.1\.0/25"):
        fleet.make_networks({"west": Subnet("172.30.1.0/24")}, 0, "f")
    assert not made


def test_what_a_living_checkout_made_is_not_ours() -> None:
    def described(checkout: str) -> dict[str, Any]:
        return {"Config": {"Labels": {containers.CHECKOUT: checkout}}}

    assert containers.is_ours(described(str(ROOT)))
    assert containers.is_ours(described("/gone/with/its/session"))
    assert not containers.is_ours(described("/"))
    assert not containers.is_ours(described(str(ROOT.parent)))


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("10 passed in 57.07s", {"passed": 10}),
        ("2 failed, 8 passed, 1 error in 228.32s (0:03:48)", {"passed": 8, "failed": 3}),
        ("federation   : actions=8  successful=7  disabled=0  skipped=0  missing=0  failed=1", {"passed": 7}),
        ("aws-east-1   : ok=2  changed=0  unreachable=0  failed=0  skipped=0", {}),
        ("TASK [wait until 3 passed]", {}),
    ],
)
def test_closing_lines_are_counted(line: str, counts: dict[str, int]) -> None:
    assert dict(scenario.count(line)) == counts


def test_scenarios_that_share_their_hosts_are_tested_on_one_fleet() -> None:
    assert scenario.fleets(["lifecycle", "federation"]) == {"federation": ["federation", "lifecycle"]}
    assert scenario.fleets(["lifecycle"]) == {"federation": ["lifecycle"]}
    assert scenario.steps(["federation", "lifecycle"], "test") == [
        ("federation", ["test", "--destroy", "never"]),
        ("lifecycle", ["verify"]),
        ("federation", ["destroy"]),
    ]  # fmt: skip
    assert scenario.steps(["lifecycle"], "test") == [("lifecycle", ["test"])]
    assert scenario.steps(["federation", "lifecycle"], "verify") == [
        ("federation", ["verify"]), ("lifecycle", ["verify"]),
    ]  # fmt: skip


def test_a_fleet_is_removed_when_a_scenario_on_it_failed(tmp_path: Path, monkeypatch) -> None:
    ran: list[str] = []

    def run_one(name: str, home: str, words: list[str]) -> tuple[int, Counter[str]]:
        ran.append(f"{name} {words[0]} on {home}")
        return (1, Counter(failed=2)) if name == "federation" else (0, Counter(passed=1))

    monkeypatch.setattr(fleet, "HOME", tmp_path)
    monkeypatch.setattr(fleet, "remove_leftovers", lambda: None)
    monkeypatch.setattr(fleet, "containers", lambda _: ["grey-0-a"])
    monkeypatch.setattr(fleet, "down", lambda home: ran.append(f"down {home}"))
    monkeypatch.setattr(scenario.fleet_logs, "collect", lambda names, _: ran.append(f"logs of {names}"))
    monkeypatch.setattr(scenario, "run_one", run_one)
    assert scenario.run_on("federation", ["federation", "lifecycle"], "test") == Counter(failed=2)
    assert ran == [
        "down federation", "federation test on federation", "logs of ['grey-0-a']", "down federation",
    ]  # fmt: skip
