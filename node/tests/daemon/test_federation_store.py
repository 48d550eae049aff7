# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that becomes a member of the federation store, and the one that asks the members."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.federation import GREYD, GreyNode, RunningFederation

pytestmark = pytest.mark.processes


def with_member(federation: RunningFederation, node: GreyNode, number: int) -> Path:
    """Say in the node's file that a member runs beside it; return the marker file."""
    member = federation.etcd.members[number]
    document = json.loads(node.config.read_text())
    document["node"]["federation_store"]["member"] = member.section()
    node.config.write_text(json.dumps(document))
    return Path(member.own.marker_file)


def test_a_member_is_guarded_by_its_marker(tmp_path: Path) -> None:
    federation = RunningFederation(tmp_path)
    nodes = list(federation.nodes.values())
    markers = [with_member(federation, node, number) for number, node in enumerate(nodes)]
    node, marker = nodes[0], markers[0]
    early = node.command("federation-store", "--check-health")
    assert early.returncode == 1
    assert json.loads(early.stdout)["healthy"] is False
    processes = [
        subprocess.Popen(
            [GREYD, "federation-store", "--config", str(each.config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in nodes
    ]
    try:
        done = node.command("federation-store", "--check-health", "--wait", "20", timeout=40)
        assert done.returncode == 0, done.stderr
        health = json.loads(done.stdout)
        assert (health["healthy"], health["changed"]) == (True, True)
        assert {member["name"] for member in health["members"]} == {"member-1", "member-2", "member-3"}
        assert json.loads(marker.read_bytes())["state"] == "member"
        again = json.loads(node.command("federation-store", "--check-health").stdout)
        assert (again["healthy"], again["changed"]) == (True, False)
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
    shutil.rmtree(federation.etcd.members[0].data_dir)
    refused = node.command("federation-store")
    assert refused.returncode == 3
    assert f"its data in {federation.etcd.members[0].data_dir} is gone" in refused.stderr


def test_a_node_without_a_member(tmp_path: Path) -> None:
    node = RunningFederation(tmp_path).primary
    said = node.command("federation-store")
    assert (said.returncode, said.stderr) == (
        2,
        f"greyd: {node.config}: node.federation_store.member is needed here, but it is absent\n",
    )
