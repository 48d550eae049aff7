# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that change the members of an engine, typed on its hosts, and what a host may start as."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.engine_cluster import HEARTBEAT_MILLISECONDS, EngineCluster
from support.engine_hosts import becoming, greyd, node_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engine_cluster import EngineProcess

pytestmark = pytest.mark.processes


@pytest.fixture
def engine() -> Iterator[EngineCluster]:
    made = EngineCluster(1)
    yield made
    made.stop()


def said(config: Path, *arguments: str) -> dict[str, Any]:
    done = greyd(config, *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def refused(config: Path, *arguments: str, code: int) -> str:
    done = greyd(config, *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    return done.stderr


def as_argument(member: EngineProcess) -> list[str]:
    return ["--name", member.name, "--peer", str(member.member.peer)]


def promoted(config: Path, member: EngineProcess) -> dict[str, Any]:
    return said(config, "promote", "--name", member.name, "--wait", "30")


def test_a_host_joins_leaves_and_joins_anew(engine: EngineCluster) -> None:
    first = engine.members[0]
    here = node_file(first)
    assert "the members cannot be asked" in refused(here, "members", code=1)
    with becoming([here]):
        assert greyd(here, "--check-health", "--wait", "30").returncode == 0
        alone = said(here, "members")
        assert alone["healthy"]
        assert alone["heartbeat"] == f"{HEARTBEAT_MILLISECONDS}ms"
        [own] = alone["members"]
        assert own == {
            "name": first.name,
            "id": own["id"],
            "peer": str(first.member.peer),
            "learner": False,
            "reachable": True,
            "leader": True,
        }
        second = engine.joiner()
        there = node_file(second)
        assert "is not a member of the cluster's engine (node-1) yet: add it first" in refused(there, code=3)
        assert not Path(second.member.marker_file).exists()
        assert said(here, "add", *as_argument(second))["changed"]
        assert not said(here, "add", *as_argument(second))["changed"]
        with becoming([there]):
            assert promoted(here, second)["changed"]
            assert not promoted(here, second)["changed"]
            assert greyd(there, "--check-health", "--wait", "30").returncode == 0
            marker = json.loads(Path(second.member.marker_file).read_text())
            assert marker == {"state": "member", "peers": [str(first.member.peer)]}
            assert "etcd still runs on" in refused(there, "forget", code=1)
        assert "node-2 still is a member of the cluster's engine: remove it" in refused(
            there, "forget", code=1
        )
        with becoming([there]):
            assert greyd(there, "--check-health", "--wait", "30").returncode == 0
            gone = said(here, "remove", "--name", second.name)
            assert gone["changed"]
            assert not said(here, "remove", "--name", second.name)["changed"]
        why = refused(there, code=3)
        assert "node-2 was removed from the cluster's engine" in why
        assert f"add --name node-2 --peer {second.member.peer}" in why
        moved = said(there, "forget")
        assert moved["changed"]
        assert [Path(path).name.split("-")[0] for path in moved["moved"]] == [
            "data.removed",
            "member.json.removed",
        ]
        assert all(Path(path).exists() for path in moved["moved"])
        assert said(there, "forget") == {"changed": False, "moved": []}
        assert said(here, "add", *as_argument(second))["changed"]
        with becoming([there]):
            assert promoted(here, second)["changed"]
            assert [each["name"] for each in said(there, "members")["members"]] == ["node-1", "node-2"]


@pytest.mark.parametrize("state", ["new", "existing"])
def test_a_joiner_s_file_may_be_old_and_may_not_be_wrong(engine: EngineCluster, state: str) -> None:
    first = engine.members[0]
    here = node_file(first)
    with becoming([here]):
        assert greyd(here, "--check-health", "--wait", "30").returncode == 0
        joiner, other = engine.joiner(), engine.joiner()
        there = node_file(joiner)
        assert said(here, "add", *as_argument(joiner))["changed"]
        joiner.bootstrap(state, {joiner.name: other.member.peer, first.name: first.member.peer}, "t")
        assert f"node-2 has the peer {other.member.peer} there" in refused(there, code=3)
        # Whoever else the file names, the group is joined as it is now.
        joiner.bootstrap(state, engine.peers(), "another token")
        with becoming([there]):
            assert promoted(here, joiner)["changed"]
            assert greyd(there, "--check-health", "--wait", "30").returncode == 0
        shutil.rmtree(joiner.member.data_dir)
        assert "is gone" in refused(there, code=3)
        Path(joiner.member.marker_file).unlink()
        assert "node-2 ran before as a member of the cluster's engine, but its data" in refused(there, code=3)
        assert "still is a member" not in said(here, "members")
    joiner.bootstrap("existing", engine.peers(), "t")
    done = greyd(there)
    assert done.returncode == 1
    assert "node-2 shall join the cluster's engine, but none of its members answers" in done.stderr


def test_a_member_that_lost_its_data_is_replaced_under_its_own_name(engine: EngineCluster) -> None:
    first = engine.members[0]
    second, third = engine.joiner(), engine.joiner()
    for each in engine.members:
        each.bootstrap("new", engine.peers(), "t")
    configs = [node_file(member) for member in engine.members]
    with becoming(configs[:2]):
        with becoming(configs[2:]):
            for config in configs:
                assert greyd(config, "--check-health", "--wait", "30").returncode == 0
        shutil.rmtree(third.member.data_dir)
        assert "greyd engine remove --name node-3" in refused(configs[2], code=3)
        assert "still is a member" in refused(configs[2], "forget", code=1)
        assert said(configs[0], "remove", "--name", third.name)["changed"]
        assert said(configs[2], "forget")["changed"]
        assert said(configs[1], "add", *as_argument(third))["changed"]
        with becoming(configs[2:]):
            assert promoted(configs[0], third)["changed"]
            members = said(configs[2], "members")
            assert members["healthy"]
            assert [each["name"] for each in members["members"]] == [first.name, second.name, third.name]


def test_nobody_says_that_a_member_was_removed_when_nobody_can(engine: EngineCluster) -> None:
    first = engine.members[0]
    second = engine.joiner()
    for each in engine.members:
        each.bootstrap("new", engine.peers(), "t")
    configs = [node_file(member) for member in engine.members]
    with becoming(configs):
        for config in configs:
            assert greyd(config, "--check-health", "--wait", "30").returncode == 0
    assert "none of the others answers" in refused(configs[0], "forget", code=1)
    began = time.monotonic()
    with becoming(configs):
        assert greyd(configs[1], "--check-health", "--wait", "30").returncode == 0
        assert time.monotonic() - began < 20
    forced = said(configs[1], "forget", "--force")
    assert forced["changed"]
    assert not Path(second.member.data_dir).exists()
    assert Path(first.member.data_dir).exists()
