# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import platform
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _systemctl, _systemd_unit
from ansible_collections.grey.distributed.tests.unit.harness import fails, passes, program

LISTEN = (
    "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\n"
    "print(s.getsockname()[1], flush=True)\nsys.stdin.read()\n"
)


def faults(**args: object) -> list[str]:
    answer = passes("grey_preflight", {"host": "h", "address": "127.0.0.1", **args})
    assert not answer["changed"]
    found: list[str] = answer["faults"]
    return found


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Another process that listens; its number and its port."""
    environment = {**os.environ, **getattr(request, "param", {})}
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def test_wrong_parameters() -> None:
    assert fails("grey_preflight", {}) == "missing required arguments: address, host"


def test_a_good_host_has_no_faults(tmp_path: Path) -> None:
    binary = program(tmp_path / "etcd", "print('etcd Version: 3.4.23')\n")
    answer = passes(
        "grey_preflight",
        {
            "host": "h",
            "address": "127.0.0.1",
            "sockets": ["/tmp/s"],
            "folders": [str(tmp_path / "new" / "deeper")],
            "free_bytes": 1,
            "binaries": [{"path": binary, "minimum": "3.4"}],
        },
    )
    assert answer["faults"] == []
    assert answer["versions"] == {binary: "3.4.23"}
    assert answer["architecture"] == platform.machine()
    assert answer["markers"] == {}


def test_a_busy_port_names_its_holder(listener: tuple[int, int]) -> None:
    pid, port = listener
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    assert faults(ports=[{"port": port, "purpose": "metrics"}]) == [
        (
            f"h: port {port} (metrics): wanted it free on 127.0.0.1, found process {pid} ({name}) "
            "listening on "
            f"127.0.0.1:{port}; stop it (kill {pid}) and run again"
        )
    ]


@pytest.mark.parametrize("listener", [{"GREY_INSTANCE": "/other"}], indirect=True)
def test_another_deployment_on_the_port_is_named(listener: tuple[int, int]) -> None:
    _pid, port = listener
    [fault] = faults(root="/mine", ports=[{"port": port, "purpose": "metrics"}])
    assert "of the Grey deployment under /other" in fault
    assert fault.endswith("tear that deployment down and run again")


@pytest.mark.parametrize("listener", [{"GREY_INSTANCE": "/mine"}], indirect=True)
def test_the_own_processes_may_hold_their_ports(listener: tuple[int, int]) -> None:
    _pid, port = listener
    assert faults(root="/mine", ports=[{"port": port, "purpose": "metrics"}]) == []


def test_a_port_on_another_address_is_free(listener: tuple[int, int]) -> None:
    _pid, port = listener
    assert faults(address="127.0.0.2", ports=[{"port": port, "purpose": "metrics"}]) == []


def test_a_wildcard_listener_takes_every_address() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        [fault] = faults(address="127.0.0.3", ports=[{"port": port, "purpose": "metrics"}])
    assert f"({Path('/proc/self/comm').read_text().strip()})" in fault


def test_an_address_of_another_machine_is_refused() -> None:
    assert faults(address="198.51.100.1") == [
        "h: address: wanted 198.51.100.1 on this host, found no interface that has it; check grey_address"
    ]


def test_a_socket_path_may_be_too_long() -> None:
    path = "/" + "x" * 99
    assert faults(sockets=[path], hint="set GREY_DEMO_ROOT to a shorter folder") == [
        (
            f"h: {path}: wanted a unix socket path of at most 99 bytes, found 100; "
            "set GREY_DEMO_ROOT to a shorter folder"
        )
    ]
    assert faults(sockets=[path[:-1]]) == []


def test_a_root_with_spaces_is_refused() -> None:
    assert faults(root="/my files") == [
        (
            "h: '/my files': wanted a path of letters, digits and ._/@+,:=~- without spaces; choose another "
            "folder"
        )
    ]


def test_a_file_where_a_folder_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert faults(folders=[str(tmp_path / "file" / "below")]) == [
        f"h: {tmp_path}/file/below: wanted a folder, found a file at {tmp_path}/file; move it away"
    ]


def test_too_little_room(tmp_path: Path) -> None:
    [fault] = faults(folders=[str(tmp_path)], free_bytes=2**60)
    assert fault.startswith(
        f"h: {tmp_path}: wanted {2**40} MiB free on the file system of {tmp_path}, found "
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("print('etcd Version: 3.3.27')\n", "wanted version 3.4 or newer, found 3.3.27; install a newer one"),
        ("import sys\nsys.exit('no library')\n", "wanted it to tell its version, found exit 1: no library"),
    ],
)
def test_a_program_that_will_not_do(tmp_path: Path, body: str, expected: str) -> None:
    binary = program(tmp_path / "etcd", body)
    assert faults(binaries=[{"path": binary, "minimum": "3.4"}]) == [f"h: {binary}: {expected}"]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    assert faults(binaries=[{"path": f"{tmp_path}/greyd"}]) == [
        (
            f"h: {tmp_path}/greyd: wanted a program that can be started, found: No such file or directory; "
            "check the path and that the node is installed"
        )
    ]


OURS = {"federation": "global-grey", "cluster": "aws-east", "node": "aws-east-1"}


def test_no_identity_and_the_own_identity_are_good(tmp_path: Path) -> None:
    file = tmp_path / "identity.json"
    assert faults(identity_file=str(file), identity=OURS) == []
    file.write_text(json.dumps({**OURS, "data_id": "d1"}))
    assert faults(identity_file=str(file), identity=OURS) == []


@pytest.mark.parametrize("kind", ["federation", "cluster", "node"])
def test_data_of_another_federation_cluster_or_node_is_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "identity.json"
    file.write_text(json.dumps({**OURS, "data_id": "d1"}))
    assert faults(identity_file=str(file), identity={**OURS, kind: "new"}) == [
        (
            f"h: identity: wanted {kind} new as the federation file and the inventory say, found the data of "
            f"{kind} {OURS[kind]} on this host ({file}); a federation, cluster or node cannot be renamed: "
            "restore the name, or tear that deployment down under its old name first"
        )
    ]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"federation": "global-grey"}'])
def test_an_identity_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "identity.json"
    file.write_text(content)
    [fault] = faults(identity_file=str(file), identity=OURS)
    assert fault.startswith(f"h: {file}: wanted to read whose data this host holds, found: ")
    assert fault.endswith("; restore it from a backup, or, if the data is intact, delete it and run again")


def test_an_identity_file_needs_what_it_should_say() -> None:
    args = {"host": "h", "address": "127.0.0.1", "identity_file": "/etc/grey/identity.json"}
    assert fails("grey_preflight", args) == "missing parameter(s) required by 'identity_file': identity"


@pytest.mark.parametrize(
    ("address", "written"), [("127.0.0.9", "127.0.0.9"), ("::1", "'::1'"), ("::1", '"::1"')]
)
def test_a_host_deployed_with_another_address_is_refused(tmp_path: Path, address: str, written: str) -> None:
    file = tmp_path / "grey.yaml"
    assert faults(node_file=str(file)) == []
    text = f"node:\n  name: a\n  listen:\n    api: 8080\n    address: {written}\n  tls: {{}}\n"
    file.write_text(text)
    assert faults(node_file=str(file), address_hint="set it back") == [
        (
            f"h: address: wanted 127.0.0.1 as the inventory says, found this host deployed with {address} "
            f"({file}); set it back"
        )
    ]
    file.write_text(text.replace(written, "127.0.0.1"))
    assert faults(node_file=str(file)) == []


@pytest.mark.parametrize(
    ("content", "state"),
    [('{"state": "member"}', "member"), ('{"state": "bootstrapping"}', "bootstrapping"), ("{", None)],
)
def test_the_markers_are_read(tmp_path: Path, content: str, state: str | None) -> None:
    (tmp_path / "member.json").write_text(content)
    members = [
        {"group": "federation-store", "marker_file": str(tmp_path / "member.json"), "wanted": True},
        {"group": "engine-a", "marker_file": str(tmp_path / "none.json"), "wanted": True},
        {"group": "engine-b", "marker_file": str(tmp_path / "none.json"), "wanted": False},
    ]
    answer = passes("grey_preflight", {"host": "h", "address": "127.0.0.1", "members": members})
    assert answer["markers"] == {"federation-store": state, "engine-a": None}
    assert answer["faults"] == []


def test_a_member_that_the_host_should_not_have(tmp_path: Path) -> None:
    marker = tmp_path / "member.json"
    marker.write_text('{"state": "member"}')
    assert faults(members=[{"group": "federation-store", "marker_file": str(marker), "wanted": False}]) == [
        (
            f"h: federation-store: wanted no member on this host, as the inventory says, found one "
            f"({marker}); "
            "put the hosts of the inventory back into their order (the first one of a cluster has its member "
            "of the federation store), or remove the member: scale.yml -e remove=NAME"
        )
    ]


def test_data_in_another_engine(tmp_path: Path) -> None:
    node_file = tmp_path / "grey.yaml"
    node_file.write_text("node:\n  store:\n    engine: sqlite\n  listen:\n    address: 127.0.0.1\n")
    assert faults(node_file=str(node_file), engine="sqlite") == []
    assert faults(node_file=str(tmp_path / "none"), engine="etcd") == []
    assert faults(node_file=str(node_file), engine="etcd") == [
        (
            f"h: engine: wanted the data in etcd, as the inventory says, found it in sqlite ({node_file}); "
            "data does not move by itself: set grey_engine: sqlite (sqlite has room for one host), or tear "
            "the deployment down first"
        )
    ]


def test_it_says_what_a_wheelhouse_for_the_host_is_made_for(tmp_path: Path) -> None:
    args = {"host": "h", "address": "127.0.0.1", "install_dir": str(tmp_path / "opt"), "release": "0.2.0-x"}
    answer = passes("grey_preflight", args)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert answer["target"] == {"python": version, "architecture": platform.machine()}
    assert answer["release"] is None
    assert not answer["faults"]
    folder = tmp_path / "opt" / "releases" / "1-a"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "opt" / "current").symlink_to("releases/1-a")
    assert passes("grey_preflight", args)["release"] is None, "half a release is none"
    (folder / "release.json").write_text('{"release": "1-a"}')
    assert passes("grey_preflight", args)["release"] == "1-a"


def test_a_python_that_no_release_can_be_installed_with_is_a_fault(tmp_path: Path) -> None:
    old = program(tmp_path / "python3.9", 'print(\'["3.9", "x86_64", "glibc 2.36", true]\')\n')
    (fault,) = faults(install_dir=str(tmp_path / "opt"), release="0.2.0-x", python=old)
    assert fault.startswith(f"h: {old}: wanted Python 3.11 to 3.14 for the node, found 3.9; install one and")
    (fault,) = faults(install_dir=str(tmp_path / "opt"), release="0.2.0-x", python=str(tmp_path / "none"))
    assert fault.startswith(f"h: {tmp_path}/none: wanted a program that can be started, found: No such file")


def test_another_manager_than_the_one_that_keeps_the_programs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end everything that the other one started, on all hosts at once."""
    monkeypatch.setattr(_systemctl, "fault", lambda: None)
    monkeypatch.setattr(_systemd_unit, "UNIT_DIR", tmp_path)
    file = tmp_path / "supervisord.conf"
    args = {"root": "/mine", "supervisor_file": str(file)}
    assert faults(manager="systemd", **args) == faults(manager="supervisor", **args) == []
    file.write_text("")
    assert faults(manager="supervisor", **args) == []
    assert faults(manager="systemd", **args) == [
        (
            "h: programs: wanted systemd to keep them running, found this host deployed with supervisor "
            f"({file}); a change would stop all hosts at once. Set grey_program_manager: supervisor, or move "
            "a host at a time: scale.yml -e remove=NAME, grey_program_manager: systemd for that host, "
            "scale.yml"
        )
    ]
    file.unlink()
    text = f'{_systemd_unit.HEADER}\n[Service]\nEnvironment="GREY_INSTANCE=/mine"\n'
    (tmp_path / "greyd.service").write_text(text)
    assert faults(manager="systemd", **args) == faults(manager="supervisor", root="/other") == []
    [fault] = faults(manager="supervisor", **args)
    assert "found this host deployed with systemd (greyd.service)" in fault


def test_a_manager_of_programs_that_cannot_do_it_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_systemctl, "BOOTED", tmp_path / "none")
    assert faults(manager="systemd") == [
        (
            f"h: systemd: wanted it to run this host, found no {tmp_path}/none; for a host without it set "
            "grey_program_manager=supervisor"
        )
    ]
    monkeypatch.setattr(_systemctl, "BOOTED", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert faults(manager="systemd", user="grey") == []
    me = pwd.getpwuid(0).pw_name
    assert faults(user=me) == []
    assert faults(user="grey") == [
        (
            "h: user: wanted to connect as grey, whom supervisord and its programs then run as, found "
            f"{me}; connect as grey, or leave grey_user empty"
        )
    ]


@pytest.mark.parametrize(
    ("user", "group", "there"),
    [
        ("", "", True),
        ("nobody", "", True),
        ("nobody-of-grey", "", False),
        ("nobody", "nobody-of-grey", False),
    ],
)
def test_it_says_whether_the_account_is_there(user: str, group: str, there: bool) -> None:
    args = {"host": "h", "address": "127.0.0.1", "user": user, "group": group}
    assert passes("grey_preflight", args)["account"] is there


def test_what_a_later_step_brings_is_no_fault(tmp_path: Path) -> None:
    old = program(tmp_path / "old", "print('etcd Version: 3.3.1')\n")
    good = program(tmp_path / "good", "print('etcd Version: 3.4.1')\n")
    wanted = [{"path": path, "minimum": "3.4"} for path in (old, good, str(tmp_path / "none"))]
    answer = passes("grey_preflight", {"host": "h", "address": "127.0.0.1", "wanted": wanted})
    assert answer["absent"] == [old, str(tmp_path / "none")]
    assert not answer["faults"]


def test_a_member_to_come_measures_the_way_to_the_others_and_needs_room(tmp_path: Path) -> None:
    marker, told = tmp_path / "member.json", tmp_path / "bootstrap.json"
    with socket.create_server(("127.0.0.1", 0)) as server:
        group = {
            "group": "engine-a", "marker_file": str(marker), "bootstrap_file": str(told), "wanted": True,
            "peers": {"h": "192.0.2.1:9", "other": f"127.0.0.1:{server.getsockname()[1]}"},
            "free_bytes": 2**60,
        }  # fmt: skip
        args = {"host": "h", "address": "127.0.0.1", "folders": [str(tmp_path)], "members": [group]}
        answer = passes("grey_preflight", args)
        assert 0 < answer["rhythms"]["engine-a"]["round_trip_ms"] < 1000
        assert answer["rhythms"]["engine-a"]["heartbeat_ms"] is None
        assert "MiB free on the file system" in answer["faults"][0]
        told.write_text('{"heartbeat": "150ms"}')
        assert passes("grey_preflight", args)["rhythms"]["engine-a"]["heartbeat_ms"] == 150
        told.write_text('{"heartbeat": 150}')
        assert passes("grey_preflight", args)["rhythms"]["engine-a"]["heartbeat_ms"] is None
        marker.write_text('{"state": "member"}')
        answer = passes("grey_preflight", args)
        assert (answer["rhythms"], answer["faults"]) == ({}, [])


def test_too_little_memory_is_a_fault() -> None:
    [fault] = faults(memory_mib=2**40)
    assert fault.startswith(f"h: memory: wanted {2**40} MiB for what this host runs, found ")


def test_the_clock_is_there_for_the_controller_to_compare() -> None:
    clock = passes("grey_preflight", {"host": "h", "address": "127.0.0.1"})["clock"]
    assert clock["began"] <= clock["ended"]
    assert clock["service"] is None
