# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of three hosts loses and wins some, as real processes on this machine, without root and Docker.

Each host is a folder with a supervisord; what a host of its own has besides is in tests/molecule.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LIMIT_SECONDS = 600


class Federation:
    """The document's federation, its primary on several hosts."""

    def __init__(self, root: Path) -> None:
        self.root = root / "d"
        self.inventory = root / "i"
        self.net = f"127.{random.randint(100, 250)}"
        shutil.copytree(ROOT / "inventories" / "local", self.inventory)
        self.east: list[str] = []
        self.environment = {
            **os.environ,
            "GREY_DEMO_ROOT": str(self.root),
            "GREY_DEMO_NET": self.net,
            "GREY_CTL_CONFIG": str(self.root / "controller" / "ctl.yaml"),
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
        }

    def has(self, *east: int) -> None:
        """Write the inventory with these hosts of the primary's cluster, the first one first."""
        self.east = [f"aws-east-{number}" for number in east]
        hosts = yaml.safe_load((ROOT / "inventories" / "local" / "hosts.yml").read_text())
        group = hosts["all"]["children"]["grey"]["children"]["cluster_aws_east"]
        group["hosts"] = {f"aws-east-{n}": {"grey_address": f"{{{{ grey_demo_net }}}}.1.{n}"} for n in east}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts, sort_keys=False))
        variables = yaml.safe_load((ROOT / "inventories" / "local" / "group_vars" / "grey.yml").read_text())
        chosen = ROOT / ".cache" / "etcd" / "path"
        variables["grey_demo_etcd"] = str(chosen)
        addresses = [f"{{{{ grey_demo_net }}}}.1.{n}" for n in (1, 2, 3, 4)]
        variables["grey_names"]["grey-east.example.com"] = addresses
        (self.inventory / "group_vars" / "grey.yml").write_text(yaml.safe_dump(variables, sort_keys=False))

    def play(self, playbook: str, *arguments: str, code: int = 0) -> str:
        """Run a playbook; return what it printed."""
        started = time.monotonic()
        done = self.run(
            str(BIN / "ansible-playbook"), f"playbooks/{playbook}.yml", "-i", str(self.inventory), *arguments
        )
        print(f"{playbook} {' '.join(arguments)}: {time.monotonic() - started:.0f} s")
        assert done.returncode == code, (done.stdout + done.stderr)[-6000:]
        return done.stdout + done.stderr

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip

    def members(self, group: str, host: str) -> set[str]:
        """Return the voting members of a group that answer, as a host sees them."""
        config = self.root / host / "etc" / "grey" / "grey.yaml"
        done = self.run(str(BIN / "greyd"), group, "members", "--config", str(config))
        assert done.returncode == 0, done.stderr
        return {
            each["name"]
            for each in json.loads(done.stdout)["members"]
            if each["reachable"] and not each["learner"]
        }

    def put(self, key: str) -> None:
        done = self.run(str(BIN / "grey-ctl"), "kv", "put", key, key)
        assert done.returncode == 0, done.stderr

    def holds(self, *keys: str) -> None:
        """Require that strong reads find keys."""
        for key in keys:
            done = self.run(str(BIN / "grey-ctl"), "kv", "get", key, "--consistency", "strong")
            assert done.stdout.strip() == key, done.stderr

    def lose(self, host: str) -> None:
        """Let a host lose everything that it has."""
        own = self.root / host
        config = own / "etc" / "grey" / "supervisord.conf"
        assert self.run(str(BIN / "supervisorctl"), "-c", str(config), "shutdown").returncode == 0
        deadline = time.monotonic() + 60
        while (own / "run" / "grey" / "supervisord.pid").exists():
            assert time.monotonic() < deadline, f"{host} goes on"
            time.sleep(0.1)
        shutil.rmtree(own)


@pytest.fixture(scope="module")
def clean() -> Iterator[Federation]:
    """The federation before its first deploy."""
    # A short name: the paths of unix sockets below it are limited.
    root = Path(tempfile.mkdtemp(prefix="gs", dir="/tmp"))
    federation = Federation(root)
    try:
        federation.has(1, 2, 3)
        yield federation
    finally:
        federation.play("teardown", "-e", "confirm=global-grey")
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def federation(clean: Federation) -> Federation:
    clean.play("deploy")
    return clean


@contextlib.contextmanager
def dropping(*blocked: tuple[str, int]) -> Iterator[None]:
    """Let connects to ports go unanswered, as a firewall does that drops them: their queues are full."""
    with contextlib.ExitStack() as stack:
        for place in blocked:
            server = stack.enter_context(socket.socket())
            server.bind(place)
            server.listen(0)
            for _each in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(place)
        yield


def validated(federation: Federation, *arguments: str, code: int) -> tuple[str, dict[str, Any]]:
    """Run validate.yml, which changes nothing; return what it printed and its report."""
    report = federation.root.parent / "report.json"
    # How busy the disk of the machine is that tests run on says nothing.
    more = ("-e", f"report={report}", "-e", "host_worst_sync_ms=100000", *arguments)
    output = federation.play("validate", *more, code=code)
    assert set(changed(output).values()) == {0}
    return output, json.loads(report.read_text())


def findings(report: dict[str, Any], *states: str) -> set[tuple[str, str, str]]:
    return {
        (each["where"], each["section"], each["what"])
        for each in report["findings"]
        if each["state"] in states
    }


def changed(output: str) -> dict[str, int]:
    return {
        host: int(count)
        for host, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)
    }


def test_clean_hosts_are_measured_and_stay_clean(clean: Federation) -> None:
    """Two ports are blocked: the control plane's of one host, and the one that another is measured at."""
    with dropping((f"{clean.net}.2.1", 8443), (f"{clean.net}.1.1", 8444)):
        output, report = validated(clean, code=2)
    assert not clean.root.exists() or not list(clean.root.glob("*-*-?/*"))
    assert findings(report, "fault") == {
        ("gcp-west-1", "hosts", "port 8443 (control plane)"),  # this process has it
        ("gcp-west-1", "ports", "8443 (control plane)"),
    }
    [silent] = [each for each in report["findings"] if each["what"] == "8443 (control plane)"]
    assert silent["value"] == (
        "from aws-east-1, aws-east-2, aws-east-3, edge-chicago-1: no answer within 2 s"
    )
    links = [each for each in report["findings"] if each["section"] == "links"]
    assert {each["what"] for each in links if each["where"] == "gcp-west - aws-east"} == {
        "round trip", "bandwidth",
    }  # fmt: skip
    assert {each["value"] for each in links if each["state"] == "warning"} == {
        f"not measured: port 8444 of aws-east-1, from {host}: does not answer"
        for host in ("gcp-west-1", "edge-chicago-1")
    }
    assert ("gcp-west - edge-chicago", "links", "bandwidth") in findings(report, "ok")
    assert "wanted no faults, found 2" in output


def test_three_hosts_share_an_engine(federation: Federation) -> None:
    assert federation.members("engine", "aws-east-2") == {"aws-east-1", "aws-east-2", "aws-east-3"}
    assert federation.members("federation-store", "aws-east-1") == {
        "aws-east-1", "gcp-west-1", "edge-chicago-1",
    }  # fmt: skip
    federation.put("before")
    told = [json.loads(path.read_text()) for path in federation.root.glob("*/etc/grey/*/bootstrap.json")]
    assert [each["heartbeat"] for each in told] == ["100ms"] * 6
    assert set(changed(federation.play("deploy")).values()) == {0}


def test_a_deployed_federation_is_measured(federation: Federation) -> None:
    """One host has the certificate of another cluster, and one cannot be reached."""
    west, edge = (federation.root / host / "etc" / "grey" for host in ("gcp-west-1", "edge-chicago-1"))
    names = ("federation-cert.pem", "federation-key.pem")
    own = {name: (west / name).read_bytes() for name in names}
    away = federation.inventory / "host_vars" / "aws-east-3.yml"
    away.parent.mkdir()
    away.write_text("{ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}\n")
    try:
        for name in names:
            (west / name).write_bytes((edge / name).read_bytes())
        output, report = validated(federation, code=2)
    finally:
        shutil.rmtree(away.parent)
        for name, content in own.items():
            (west / name).write_bytes(content)
    assert findings(report, "fault") == {
        ("aws-east-3", "hosts", "connection"),
        ("gcp-west-1", "certificates", "federation"),
    }
    good = findings(report, "ok")
    assert {
        ("aws-east-1", "certificates", "federation, served at 8443"),
        ("aws-east-1", "certificates", "engine, served at 2390"),
        ("aws-east-1", "certificates", "federation-store, served at 2379"),
        ("edge-chicago-1", "ports", "own"),
        ("gcp-west - aws-east", "links", "round trip"),
        ("gcp-west - aws-east", "links", "bandwidth"),
    } <= good
    assert "gcp-west-1: certificates: federation: wanted a good certificate" in output


def test_the_first_host_leaves_and_the_next_takes_its_place(federation: Federation) -> None:
    refused = federation.play("scale", "-e", "remove=aws-east-1", code=2)
    assert 'wanted -e confirm=global-grey, found ""; nothing was removed' in refused
    federation.play("scale", "-e", "remove=aws-east-1", "-e", "confirm=global-grey")
    assert not (federation.root / "aws-east-1").exists()
    assert federation.members("engine", "aws-east-2") == {"aws-east-2", "aws-east-3"}
    assert "aws-east-2" in federation.members("federation-store", "gcp-west-1")
    federation.put("without the first")
    federation.holds("before", "without the first")


def test_a_host_joins_and_touches_no_other_cluster(federation: Federation) -> None:
    federation.has(2, 3, 4)
    touched = changed(federation.play("scale"))
    assert {host for host, count in touched.items() if count} <= {"aws-east-2", "aws-east-3", "aws-east-4"}
    assert federation.members("engine", "aws-east-4") == {"aws-east-2", "aws-east-3", "aws-east-4"}
    begun = json.loads((federation.root / "aws-east-4/etc/grey/engine/bootstrap.json").read_text())
    assert (begun["state"], begun["heartbeat"]) == ("existing", "100ms")
    federation.holds("before", "without the first")


def test_a_host_that_lost_its_data_begins_anew_only_when_told(federation: Federation) -> None:
    federation.lose("aws-east-3")
    federation.put("while one is lost")
    refused = federation.play("deploy", code=2)
    # Who is quicker says it, greyd or the module that waits for it; long lines are wrapped.
    assert re.search(r"scale\.yml\s+-e\s+replace=(NAME|aws-east-3)", refused), refused
    federation.play("scale", "-e", "replace=aws-east-3", "-e", "confirm=global-grey")
    assert federation.members("engine", "aws-east-3") == {"aws-east-2", "aws-east-3", "aws-east-4"}
    federation.holds("before", "without the first", "while one is lost")
    assert set(changed(federation.play("deploy")).values()) == {0}
