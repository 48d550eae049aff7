# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters that are saved under load, lost, and restored: what they hold then, and what the others do."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from support.federation import Shared, running_federation
from support.load import Load, all_keys, holds

if TYPE_CHECKING:
    from pathlib import Path

    from support.federation import GreyNode, RunningFederation

pytestmark = pytest.mark.processes


async def greyd(node: GreyNode, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run a command of greyd; return what it printed."""
    done = await asyncio.to_thread(node.command, *arguments, timeout=60)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return dict(json.loads(done.stdout)) if code == 0 else {"problem": done.stderr}


def beginning(federation: RunningFederation, cluster: str, token: str) -> list[str]:
    """Return the options that say what a restored cluster begins with."""
    if cluster not in federation.engines:
        return ["--token", token]
    members = [each.member for each in federation.engines[cluster].members]
    return ["--token", token, *(f"--member={each.name}={each.peer}" for each in members)]


async def restore(federation: RunningFederation, cluster: str, snapshot: Path, token: str) -> None:
    """Kill a cluster, restore all of it from a snapshot, start its engine."""
    for node in federation.clusters[cluster]:
        node.kill()
    engine = federation.engines.get(cluster)
    for member in engine.members if engine else ():
        member.kill()
    options = beginning(federation, cluster, token)
    for node in federation.clusters[cluster]:
        for changed in (True, False):
            found = await greyd(node, "snapshot", "restore", str(snapshot), *options)
            assert found["changed"] == changed
    if engine:
        engine.start()
        await engine.healthy()


async def problem(federation: RunningFederation, asked: GreyNode, cluster: str, words: str) -> None:
    """Wait until the status says of a cluster what is wrong."""

    async def said() -> bool:
        clusters = (await federation.status(asked)).json["clusters"]
        return words in (next(each for each in clusters if each["name"] == cluster)["problem"] or "")

    await federation.until(said, 30, f"{words!r} said of {cluster}")


async def renewed(federation: RunningFederation, cluster: str) -> None:
    """Give a replica new data: save what it has, give it up, and let it copy from the primary."""
    node = federation.nodes[cluster]
    await greyd(node, "snapshot", "save", "--to", str(node.folder / "divergence"))
    assert "is alive" in (await greyd(node, "forget-data", code=3))["problem"]
    node.stop()
    node.data_dir.rename(node.folder / "given up")
    node.identity.unlink()
    assert await greyd(node, "forget-data") == {"changed": True, "cluster": cluster}
    assert await greyd(node, "forget-data") == {"changed": False, "cluster": cluster}
    assert (await greyd(node, "init"))["changed"]
    node.start()


async def test_a_primary_of_three_members_is_lost_and_restored(tmp_path: Path) -> None:
    async with running_federation(tmp_path, shared={"aws-east": Shared()}) as federation:
        nodes = federation.clusters["aws-east"]
        first, replica = nodes[0], federation.nodes["gcp-west"]
        snapshot = tmp_path / "snapshot"
        load = Load(federation, "x", nodes)
        writing = asyncio.create_task(load.run())
        await load.acknowledges(200)
        before = set(load.acknowledged)
        saved = await greyd(nodes[1], "snapshot", "save", "--to", str(snapshot))
        assert saved["keys"] >= len(before)
        checked = await greyd(nodes[2], "snapshot", "verify", str(snapshot))
        assert checked == {"ok": True, **{key: saved[key] for key in saved if key != "changed"}}
        await load.acknowledges(100)
        load.stop()
        await writing
        lost = set(load.acknowledged) - before
        await holds(federation, replica, set(load.acknowledged), "x")

        # It runs, so nothing is restored.
        options = beginning(federation, "aws-east", "second")
        command = ["snapshot", "restore", str(snapshot), *options]
        assert "stop greyd on every node" in (await greyd(first, *command, code=3))["problem"]
        for node in nodes:
            node.kill()
        assert "the engine runs on" in (await greyd(first, *command, code=3))["problem"]
        federation.engines["aws-east"].members[0].kill()
        reused = beginning(federation, "aws-east", federation.engines["aws-east"].folder.name)
        refused = await greyd(first, "snapshot", "restore", str(snapshot), *reused, code=3)
        assert "Give it a new token" in refused["problem"]

        await restore(federation, "aws-east", snapshot, "second")
        for node in nodes:
            node.start()
        # The old epoch is over: whatever it wrote after the snapshot has its positions.
        await problem(federation, first, "aws-east", "was restored from a snapshot of epoch 1")
        answer = await federation.kv("PUT", first, b"x/refused", data=b"v")
        assert (answer.status, answer.code) in ((503, "fenced"), (503, "unavailable"))
        begun = await greyd(first, "snapshot", "new-epoch")
        assert begun == {"changed": True, "cluster": "aws-east", "epoch": 2, "position": saved["position"]}
        assert await greyd(nodes[1], "snapshot", "new-epoch") == {**begun, "changed": False}
        for node in nodes:
            await federation.until(
                lambda node=node: federation._is_ok(node, "/primary"), 20, "it writes again"
            )
            await holds(federation, node, before, "x")
        assert (await federation.kv("PUT", nodes[2], b"x/new", data=b"v")).json["position"].startswith("2.")

        # The replica holds what the primary lost, and neither mixes nor gives it up by itself.
        await problem(federation, first, "gcp-west", "this cluster has to rejoin")
        assert lost <= await all_keys(federation, replica, "x")
        await renewed(federation, "gcp-west")
        await holds(federation, replica, before | {b"x/new"}, "x")
        wanted = await all_keys(federation, first, "x")
        assert await all_keys(federation, replica, "x") == wanted
        assert len(wanted) == saved["keys"] + 1
        divergence = await greyd(replica, "snapshot", "verify", str(replica.folder / "divergence"))
        # A write whose answer did not come may be there as well.
        assert len(load.acknowledged) <= divergence["keys"] <= len(load.sent)


async def test_replicas_that_are_restored_go_on_from_there(tmp_path: Path) -> None:
    shared = {"gcp-west": Shared(greyds=2, members=3)}
    async with running_federation(tmp_path, shared=shared) as federation:
        load = Load(federation, "x")
        writing = asyncio.create_task(load.run())
        await load.acknowledges(200)
        for cluster in ("gcp-west", "edge-chicago"):
            node = federation.nodes[cluster]
            saved = await greyd(node, "snapshot", "save", "--to", str(tmp_path / f"{cluster}.grey"))
            assert saved["cluster"] == cluster
        await load.acknowledges(100)
        # A greyd beside no member of its own shares that of another: two are restored here.
        for node in federation.clusters["gcp-west"]:
            node.kill()
        engine = federation.engines["gcp-west"]
        for member in engine.members:
            member.kill()
        options = beginning(federation, "gcp-west", "second")
        for node in federation.clusters["gcp-west"]:
            assert (await greyd(node, "snapshot", "restore", str(tmp_path / "gcp-west.grey"), *options))[
                "changed"
            ]
        shutil.rmtree(engine.members[2].member.data_dir)
        for member in engine.members[:2]:
            member.start()
        await engine.healthy(members=2)
        await restore(federation, "edge-chicago", tmp_path / "edge-chicago.grey", "second")
        for cluster in ("gcp-west", "edge-chicago"):
            for node in federation.clusters[cluster]:
                node.start()
        await load.acknowledges(100)
        load.stop()
        await writing
        for cluster in ("gcp-west", "edge-chicago"):
            for node in federation.clusters[cluster]:
                await holds(federation, node, set(load.acknowledged), "x")
        followed = await greyd(federation.nodes["gcp-west"], "snapshot", "new-epoch", code=3)
        assert "aws-east is the primary of epoch 1: gcp-west follows it" in followed["problem"]


async def test_a_primary_on_sqlite_is_restored_and_forks(tmp_path: Path) -> None:
    async with running_federation(tmp_path) as federation:
        primary, replica = federation.primary, federation.nodes["gcp-west"]
        snapshot = tmp_path / "snapshot"
        load = Load(federation, "x")
        writing = asyncio.create_task(load.run())
        await load.acknowledges(300)
        before = set(load.acknowledged)
        saved = await greyd(primary, "snapshot", "save", "--to", str(snapshot))
        assert saved["keys"] >= len(before)
        # Killed so soon that no renewal may have told of what was written since.
        await load.acknowledges(20)
        primary.kill()
        load.stop()
        await writing
        refused = await greyd(replica, "snapshot", "restore", str(snapshot), code=3)
        assert "but this node is of test/gcp-west" in refused["problem"]
        await restore(federation, "aws-east", snapshot, "second")
        primary.start()
        await problem(federation, primary, "aws-east", "was restored from a snapshot of epoch 1")
        assert "open in another process" in (await greyd(primary, "snapshot", "new-epoch", code=3))["problem"]
        primary.stop()
        assert (await greyd(primary, "snapshot", "new-epoch"))["epoch"] == 2
        primary.start()
        await federation.until(lambda: federation._is_ok(primary, "/primary"), 20, "it writes again")
        await holds(federation, primary, before, "x")
        assert "is the primary" in (await greyd(primary, "forget-data", code=3))["problem"]


async def test_the_federation_store_is_saved_and_checked(tmp_path: Path) -> None:
    async with running_federation(tmp_path) as federation:
        node = federation.primary
        snapshot = tmp_path / "snapshot"
        saved = await greyd(node, "snapshot", "save", "--store", "federation", "--to", str(snapshot))
        assert (saved["store"], saved["holder"], saved["epoch"]) == ("federation", "aws-east", 1)
        assert (await greyd(node, "snapshot", "verify", str(snapshot)))["ok"]
        node.kill()
        refused = await greyd(node, "snapshot", "restore", str(snapshot), code=3)
        assert "is a snapshot of the federation store" in refused["problem"]
        for member in federation.etcd.members[:2]:
            member.kill()
        command = ["snapshot", "save", "--store", "federation", "--to", str(tmp_path / "other")]
        refused = await greyd(node, *command, code=1)
        assert "gave no snapshot" in refused["problem"]
        assert (await greyd(node, *command, "--without-majority"))["holder"] == "aws-east"
