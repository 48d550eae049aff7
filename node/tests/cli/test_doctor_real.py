# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor, conditions, batches and watches against real nodes: one cluster on etcd, one on SQLite."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from support.federation import RunningFederation, Shared, running_federation

from grey.cli.main import cli

if TYPE_CHECKING:
    from support.federation import GreyNode

pytestmark = pytest.mark.processes

Findings = dict[tuple[str, str], tuple[str, str]]

GREY_CTL = str(Path(sys.executable).with_name("grey-ctl"))


def grey_ctl(*args: str, given: str = "") -> Result:
    return CliRunner().invoke(cli, list(args), prog_name="grey-ctl", input=given)


def doctor(node: GreyNode) -> Findings:
    """Return state and what was found, by area and check; the worst where there are several."""
    # In a process of its own: gRPC in many event loops of one process makes noise.
    command = [GREY_CTL, "doctor", "--node-file", str(node.config), "--timeout", "3s", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1), done.stderr
    order = ["ok", "warning", "problem"]
    findings = sorted(report["findings"], key=lambda each: order.index(each["state"]))
    return {(each["area"], each["check"]): (each["state"], each["found"]) for each in findings}


def sees(node: GreyNode, wanted: set[tuple[str, str]]) -> Findings:
    """Ask the doctor until all of these are problems; what fails shows within its own deadlines."""
    until = time.monotonic() + 30
    found = doctor(node)
    while not wanted <= states(found, "problem") and time.monotonic() < until:
        found = doctor(node)
    assert wanted <= states(found, "problem")
    return found


def states(found: Findings, state: str) -> set[tuple[str, str]]:
    # This machine's own time service and disk are not what is tested.
    return {key for key, (each, _) in found.items() if each == state and key[0] not in {"clock", "disk"}}


def well(federation: RunningFederation) -> None:
    on_etcd = doctor(federation.nodes["aws-east"])
    # The test starts the engine without greyd, which keeps the marker.
    assert states(on_etcd, "problem") | states(on_etcd, "warning") == {("engine", "member")}
    assert on_etcd["health", "/primary"] == ("ok", "may write")
    assert on_etcd["engine", "quota"][1].endswith("of 256.0 MiB are used (0%)")
    assert on_etcd["federation store", "majority"] == ("ok", "3 of 3 members answer")
    assert on_etcd["ports", "control"][1].endswith("answers, with the certificate on disk")
    assert on_etcd["clock", "offset"][0] == "ok"
    on_sqlite = doctor(federation.nodes["gcp-west"])
    assert states(on_sqlite, "problem") | states(on_sqlite, "warning") == set()
    assert on_sqlite["health", "/replica"][1].startswith("follows the primary, lag 0.")
    assert "is a data store of" in on_sqlite["engine", "data file"][1]


def all_the_ways_to_write(federation: RunningFederation) -> None:
    tls, config = federation.operator, str(federation.folder / "ctl.yaml")
    names = [f"--name={host}={each}" for host, addresses in federation.names.items() for each in addresses]
    files = [f"--cert={tls.cert_file}", f"--key={tls.key_file}", f"--ca={tls.ca_file}"]
    done = grey_ctl(
        "--config", config, "context", "add", "me", f"--federation-file={federation.file}", *files, *names
    )
    assert done.stdout == "me reaches the federation test\n", done.stderr

    def kv(*args: str, given: str = "") -> tuple[str, int]:
        done = grey_ctl("--config", config, "kv", *args, given=given)
        assert "a fault of grey-ctl" not in done.stderr
        return done.stdout, done.exit_code

    start = json.loads(kv("put", "first", "1", "-o", "json")[0])["position"]
    assert kv("put", "lock", "me", "--if-absent", "--ttl", "10m")[1] == 0
    assert kv("put", "lock", "you", "--if-absent") == ("", 5)
    at = json.loads(kv("get", "lock", "--consistency", "strong", "-o", "json")[0])
    assert (at["value_text"], at["expires"][:2]) == ("me", "20")
    assert kv("put", "lock", "later", "--if-position", start) == ("", 5)
    assert kv("put", "lock", "me again", "--if-position", at["position"])[1] == 0
    batch = "".join(
        json.dumps({"op": "put", "key": f"b/{number:03}", "value_text": "v", "if_absent": True}) + "\n"
        for number in range(100)
    )
    assert kv("batch", "-", given=batch)[1] == 0
    assert kv("batch", "-", given=batch) == ("", 5)
    listed = kv("list", "--prefix", "b/", "--all", "--cluster", "aws-east")[0]
    assert listed.splitlines() == [f"b/{number:03}" for number in range(100)]
    assert kv("list", "--prefix", "b/", "--limit", "2", "--cluster", "aws-east")[0] == "b/000\nb/001\n"
    changes = kv("watch", "--after", start, "--limit", "102", "-o", "json")
    told = [json.loads(line) for line in changes[0].splitlines()]
    assert [each["key"] for each in told[:2]] == ["lock", "lock"]
    assert [each["key"] for each in told[2:]] == [f"b/{number:03}" for number in range(100)]
    assert kv("delete", "first", "--if-position", start)[1] == 0
    missing = grey_ctl("--config", config, "kv", "get", "first", "--cluster", "aws-east")
    assert missing.stderr == "grey-ctl: the key first does not exist\n"
    missing = grey_ctl("--config", config, "kv", "get", "never", "--cluster", "gcp-west")
    assert "gcp-west is a replica, --consistency strong asks the primary" in missing.stderr


def ill(federation: RunningFederation) -> None:
    east, west = federation.nodes["aws-east"], federation.nodes["gcp-west"]
    west.freeze()
    found = sees(west, {("health", "greyd")})
    assert found["engine", "data file"][0] == "ok"
    found = doctor(east)
    assert found["network", "gcp-west"][0] == "warning"
    assert "no answer within 3 s" in found["network", "gcp-west"][1]
    west.thaw()

    west.kill()
    found = doctor(west)
    assert states(found, "problem") == {("health", "greyd")}
    assert found["health", "greyd"][1] == "greyd does not run"
    assert found["network", "aws-east"][0] == "ok"

    first, *others = federation.engines["aws-east"].members
    for other in others:
        other.kill()
    found = sees(east, {("engine", "majority"), ("health", "/primary")})
    assert {("engine", other.name) for other in others} <= states(found, "warning")
    first.kill()
    assert "does not answer" in doctor(east)["engine", first.access.endpoint][1]

    federation.etcd.members[0].kill()
    assert doctor(east)["federation store", "majority"] == (
        "warning",
        "2 of 3 members answer; no more may fail before writes stop",
    )
    federation.etcd.members[1].kill()
    sees(east, {("federation store", "majority")})


async def test_real_nodes(tmp_path: Path) -> None:
    shared = {"aws-east": Shared(1, 3)}
    async with running_federation(tmp_path, clusters=("aws-east", "gcp-west"), shared=shared) as federation:
        await asyncio.to_thread(well, federation)
        await asyncio.to_thread(all_the_ways_to_write, federation)
        await asyncio.to_thread(ill, federation)
