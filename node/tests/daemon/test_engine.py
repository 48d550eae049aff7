# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that becomes a member of the cluster's engine, and the one that asks it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.engine_cluster import PEER_NAME, EngineCluster
from support.engine_hosts import becoming, greyd, node_file
from support.pki import Authority

from grey.store import etcd_engine
from grey.store.etcd_data import MemberRefused
from grey.store.interface import Item, Write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engine_cluster import EngineProcess

pytestmark = pytest.mark.processes


@pytest.fixture
def engine() -> Iterator[EngineCluster]:
    made = EngineCluster(3)
    yield made
    made.stop()


def marker(member: EngineProcess) -> str:
    return str(json.loads(Path(member.member.marker_file).read_text())["state"])


async def test_three_hosts_become_an_engine_and_come_back_after_a_kill(engine: EngineCluster) -> None:
    configs = [node_file(member) for member in engine.members]
    first = engine.members[0]
    early = greyd(configs[0], "--check-health")
    assert early.returncode == 1
    assert json.loads(early.stdout)["healthy"] is False
    with becoming(configs) as running:
        done = greyd(configs[0], "--check-health", "--wait", "30")
        assert done.returncode == 0, done.stderr
        health = json.loads(done.stdout)
        assert (health["healthy"], health["changed"]) == (True, True)
        assert [(each["name"], each["has_leader"]) for each in health["members"]] == [(first.name, True)]
        assert marker(first) == "member"
        assert marker(engine.members[1]) == "bootstrapping"
        again = json.loads(greyd(configs[0], "--check-health").stdout)
        assert (again["healthy"], again["changed"]) == (True, False)
        run_dir = Path(first.member.run_dir)
        assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((run_dir / "etcd:0").stat().st_mode) & 0o077 == 0
        assert Path(f"/proc/{running[0].pid}/exe").resolve() == Path(first.member.etcd).resolve()
        store = await first.open(timeout_seconds=5.0)
        assert await store.commit([], [Write(b"a", b"1")]) == 1
        await store.close()
    run_dir.chmod(0o755)
    with becoming(configs):
        assert greyd(configs[0], "--check-health", "--wait", "30").returncode == 0
        assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
        store = await first.open(timeout_seconds=5.0)
        assert await store.get(b"a") == Item(b"a", b"1", 1)
        await store.close()
    shutil.rmtree(first.member.data_dir)
    refused = greyd(configs[0])
    assert refused.returncode == 3
    assert f"its data in {first.member.data_dir} is gone" in refused.stderr
    assert "the cluster's engine" in refused.stderr


def test_a_node_without_an_engine(engine: EngineCluster) -> None:
    config = node_file(engine.members[0], {"engine": "sqlite"})
    for arguments in ((), ("--check-health",)):
        said = greyd(config, *arguments)
        assert (said.returncode, said.stderr) == (
            2,
            f"greyd: {config}: node.store.engine must be etcd here, but is sqlite\n",
        )


def test_a_node_without_a_member(engine: EngineCluster) -> None:
    section = engine.members[0].store_section()
    del section["member"]
    config = node_file(engine.members[0], section)
    said = greyd(config)
    assert (said.returncode, said.stderr) == (
        2,
        f"greyd: {config}: node.store.member is needed here, but it is absent\n",
    )


def test_an_etcd_that_is_not_there(engine: EngineCluster) -> None:
    section = engine.members[0].store_section()
    section["member"]["etcd"] = "/nowhere/etcd"
    said = greyd(node_file(engine.members[0], section))
    assert said.returncode == 1
    assert "/nowhere/etcd: cannot be started: No such file or directory" in said.stderr


def test_a_second_engine_on_one_socket_is_refused(engine: EngineCluster) -> None:
    member = engine.members[0]
    Path(member.member.run_dir).mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"{member.member.run_dir}/etcd:0")
        taken.listen()
        said = greyd(node_file(member))
    assert said.returncode == 3
    assert "another process listens on" in said.stderr


def test_a_run_folder_of_somebody_else_is_refused(
    engine: EngineCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    member = engine.members[0]
    Path(member.member.run_dir).mkdir(parents=True)
    before = os.umask(0o022)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    try:
        with pytest.raises(MemberRefused, match="must belong to the user of this process"):
            etcd_engine.prepare(member.store, member.member, PEER_NAME)
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["another cluster's name", "another authority"])
async def test_a_peer_is_known_by_its_name_and_authority(engine: EngineCluster, kind: str) -> None:
    stranger = engine.members[2]
    authority = engine.authority if kind == "another cluster's name" else Authority("another authority")
    authority.issue(
        stranger.folder / "tls",
        stranger.name,
        dns=["gcp-west.grey.internal" if kind == "another cluster's name" else PEER_NAME],
        addresses=[stranger.member.peer.host, "127.0.0.1"],
        bundle=engine.authority.pem,
    )
    engine.start()
    health = await engine.healthy(members=2)
    assert [each.has_leader for each in health] == [True, True, False]
    await engine.logged(engine.members[0], "rejected connection")
    assert not (await stranger.health()).has_leader
