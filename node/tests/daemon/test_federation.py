# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole federation of real processes, and what it keeps when they are killed, frozen and cut off."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from support.load import Load, all_keys, boottime, holds

if TYPE_CHECKING:
    from support.federation import GreyNode, RunningFederation

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.processes]

DETECTION = 2.0


async def test_a_write_is_read_everywhere(federation: RunningFederation) -> None:
    put = await federation.kv("PUT", federation.primary, b"user:123", data=b"hello")
    assert put.status == 200
    for node in federation.nodes.values():

        async def reads(node: GreyNode = node) -> bool:
            return (await federation.kv("GET", node, b"user:123")).body == b"hello"

        await federation.until(reads, 5, f"the value on {node.name}")
        bounded = await federation.kv("GET", node, b"user:123", query="?consistency=bounded&max_staleness=5s")
        assert (bounded.status, bounded.headers["Grey-Origin"]) == (200, "aws-east")
        assert bounded.headers["Grey-Position"] == put.json["position"]
    replica = federation.nodes["gcp-west"]
    refused = await federation.kv("PUT", replica, b"user:123", data=b"other")
    assert (refused.status, refused.code) == (421, "not_primary")
    assert refused.json["error"]["primary"] == {
        "cluster": "aws-east",
        "endpoint": f"{federation.primary.host}:{federation.api}",
    }


async def test_the_status_document(federation: RunningFederation) -> None:
    seen: dict[str, Any] = {}

    async def settled() -> bool:
        seen.update((await federation.status(federation.nodes["edge-london"])).json)
        primary, *replicas = seen["clusters"]
        return (
            seen["voters"] == {"total": 3, "reachable": 3}
            and all(cluster["online"] and cluster["problem"] is None for cluster in seen["clusters"])
            and all(replica["position"] == primary["position"] for replica in replicas)
            and all(replica["lag_records"] == 0 and replica["lag_seconds"] < 5 for replica in replicas)
        )

    await federation.until(settled, 10, "a settled status")
    assert (seen["federation"], seen["epoch"], seen["primary"]) == ("test", 1, "aws-east")
    assert seen["answered_by"] == "edge-london-1"
    assert [cluster["status"] for cluster in seen["clusters"]] == ["primary", *["replica"] * 3]
    assert (seen["clusters"][0]["lag_seconds"], seen["clusters"][0]["lag_records"]) == (None, None)


async def test_metrics(federation: RunningFederation) -> None:
    text = (await federation.health(federation.nodes["gcp-west"], "/metrics")).body.decode()
    assert 'grey_role{role="replica"} 1.0' in text
    assert 'grey_role{role="primary"} 0.0' in text
    assert 'grey_replication_lag_seconds{cluster="gcp-west"}' in text
    assert "grey_epoch 1.0" in text
    assert "grey_federation_store_up 1.0" in text
    primary = (await federation.health(federation.primary, "/metrics")).body.decode()
    assert "grey_replication_lag_seconds{" not in primary
    deadline = next(line for line in primary.splitlines() if line.startswith("grey_role_deadline_seconds "))
    assert 0 < float(deadline.split()[1]) <= DETECTION


async def test_killed_during_writes(federation: RunningFederation) -> None:
    load = Load(federation, "killed")
    running = asyncio.create_task(load.run())
    for _ in range(2):
        await load.acknowledges(100)
        federation.primary.kill()
        federation.primary.start()
    await load.acknowledges(100)
    load.stop()
    await running
    for node in federation.nodes.values():
        await holds(federation, node, set(load.acknowledged), "killed")


async def test_a_killed_replica_catches_up(federation: RunningFederation) -> None:
    replica = federation.nodes["gcp-west"]
    load = Load(federation, "replica-killed")
    running = asyncio.create_task(load.run(4))
    await load.acknowledges(50)
    replica.kill()
    await load.acknowledges(50)
    replica.start()
    await load.acknowledges(50)
    load.stop()
    await running
    await holds(federation, replica, set(load.acknowledged), "replica-killed")


async def test_frozen_for_twice_the_detection_time(federation: RunningFederation) -> None:
    load = Load(federation, "frozen")
    running = asyncio.create_task(load.run())
    await load.acknowledges(100)
    federation.primary.freeze()
    # Without a majority there is no renewal after the thaw: an acknowledgement would be on the old deadline.
    stopped = federation.etcd.members[:2]
    for member in stopped:
        member.freeze()
    try:
        await asyncio.sleep(2 * DETECTION)
        in_flight = set(load.sent) - set(load.acknowledged)
        load.refused.clear()
        thawed = boottime()
        federation.primary.thaw()

        async def refuses() -> bool:
            return load.refused.count("fenced") >= 50

        await federation.until(refuses, 10, "writes are refused after the thaw")
        late = [key for key, seen in load.acknowledged.items() if seen > thawed]
    finally:
        for member in stopped:
            member.thaw()
    assert len(in_flight) >= 8
    # One answer may have been between its last check and the socket when the process stopped; all others are
    # checked after the thaw, and in flight were those of all writers.
    assert len(late) <= 1
    await load.acknowledges(10)
    load.stop()
    await running
    assert set(load.refused) <= {"fenced", "outcome_unknown"}
    for node in federation.nodes.values():
        await holds(federation, node, set(load.acknowledged), "frozen")


async def test_the_federation_store_without_a_majority(federation: RunningFederation) -> None:
    await federation.kv("PUT", federation.primary, b"kept", data=b"1")
    stopped = federation.etcd.members[:2]
    for member in stopped:
        member.freeze()
    try:

        async def fenced() -> bool:
            answer = await federation.kv("PUT", federation.primary, b"lost", data=b"1")
            return answer.status == 503 and answer.code == "fenced"

        await federation.until(fenced, 3 * DETECTION, "writes are refused")
        for node in federation.nodes.values():
            assert (await federation.kv("GET", node, b"kept")).status == 200
        assert (await federation.health(federation.primary, "/primary")).status == 503
        assert (await federation.health(federation.primary, "/ready")).status == 200
        strong = await federation.kv("GET", federation.primary, b"kept", query="?consistency=strong")
        assert (strong.status, strong.code) == (503, "fenced")
    finally:
        for member in stopped:
            member.thaw()

    async def writes() -> bool:
        return (await federation.kv("PUT", federation.primary, b"kept", data=b"2")).status == 200

    await federation.until(writes, 15, "writes are taken again")


async def test_the_end_is_graceful(federation: RunningFederation) -> None:
    load = Load(federation, "stopped")
    running = asyncio.create_task(load.run())
    await load.acknowledges(50)
    assert await asyncio.to_thread(federation.primary.stop) == 0
    load.stop()
    await running
    federation.primary.start()
    await federation.ready()
    await holds(federation, federation.primary, set(load.acknowledged), "stopped")


async def test_a_full_disk(federation: RunningFederation) -> None:
    """Runs late: it moves the primary's data to a small file system and back."""
    node = federation.primary
    await asyncio.to_thread(node.stop)
    small = node.folder / "small"
    small.mkdir()
    mounted = await asyncio.to_thread(
        subprocess.run,
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(small)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        node.start()
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    document = json.loads(node.config.read_text())
    try:
        shutil.copytree(node.data_dir, small / "data")
        filler = small / "filler"
        document["node"]["data_dir"] = str(small / "data")
        node.config.write_text(json.dumps(document))
        node.start()
        await federation.ready()
        filler.write_bytes(b"x" * (os.statvfs(small).f_bavail * os.statvfs(small).f_bsize - 3 * 1024 * 1024))
        value = os.urandom(256 * 1024)
        answers = []
        while len(answers) < 40 and (not answers or answers[-1].status == 200):
            answers.append(await federation.kv("PUT", node, b"large/%d" % len(answers), data=value))
        assert (answers[-1].status, answers[-1].code) == (507, "disk_full")
        assert answers[-1].json["error"]["hint"].startswith("free space on the volume of data_dir")
        assert (await federation.kv("GET", node, b"large/0")).body == value
        assert (await federation.health(node, "/ready")).status == 200
        filler.unlink()

        async def writes() -> bool:
            return (await federation.kv("PUT", node, b"large/again", data=value)).status == 200

        await federation.until(writes, 10, "writes are taken again when there is room")
        kept = {b"large/%d" % number for number in range(len(answers) - 1)}
        assert kept <= await all_keys(federation, node, "large")
        assert await asyncio.to_thread(node.stop) == 0
        shutil.rmtree(node.data_dir)
        shutil.copytree(small / "data", node.data_dir)
    finally:
        node.kill()
        await asyncio.to_thread(subprocess.run, ["umount", "-l", str(small)], check=True)
        document["node"]["data_dir"] = str(node.data_dir)
        node.config.write_text(json.dumps(document))
        node.start()
    await federation.ready()


async def test_idle_connections_do_not_lock_clients_out(federation: RunningFederation) -> None:
    """Shells and supervisors start programs with 1,024 files; anybody can hold that many connections open."""
    node = federation.nodes["gcp-west"]
    await asyncio.to_thread(node.stop)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    try:
        node.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    await federation.ready()
    idle = [
        await asyncio.open_connection(node.address, federation.metrics)
        for _ in range(min(300, before[1] // 4))
    ]
    try:
        reader, writer = await asyncio.open_connection(node.address, federation.metrics)
        idle.append((reader, writer))
        writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 OK" in await asyncio.wait_for(reader.readline(), 5)
    finally:
        for _, writer in idle:
            writer.close()


async def test_an_older_copy_of_the_primary_s_data_is_refused(federation: RunningFederation) -> None:
    """It would give the positions of lost records to new ones, and replicas would mix two histories."""
    node = federation.primary
    older, newest = node.folder / "older", node.folder / "newest"
    await asyncio.to_thread(node.stop)
    shutil.copytree(node.data_dir, older)
    node.start()
    await federation.ready()
    put = await federation.kv("PUT", node, b"rollback", data=b"acknowledged")
    replica = federation.nodes["gcp-west"]

    async def arrived() -> bool:
        return (await federation.kv("GET", replica, b"rollback")).status == 200

    await federation.until(arrived, 10, "the record on the replica")
    await asyncio.to_thread(node.stop)
    node.data_dir.rename(newest)
    shutil.copytree(older, node.data_dir)
    node.start()

    async def refused() -> bool:
        problem = (await federation.health(node, "/ready")).json["problem"]
        return f"wrote records up to {put.json['position']}" in (problem or "")

    await federation.until(refused, 10, "the older data is refused")
    assert (await federation.kv("PUT", node, b"rollback", data=b"other")).status == 503
    node.kill()
    shutil.rmtree(node.data_dir)
    newest.rename(node.data_dir)
    node.start()
    await federation.ready()
    assert (await federation.kv("GET", node, b"rollback")).body == b"acknowledged"


async def test_replaced_data_is_refused(federation: RunningFederation) -> None:
    """Runs last: the replica stays refused."""
    replica = federation.nodes["gcp-west"]
    replica.kill()
    shutil.rmtree(replica.data_dir)
    replica.identity.unlink()
    replica.init()
    replica.start()
    assert replica.process is not None
    assert await asyncio.to_thread(replica.process.wait, 15) == 3
    assert "the data folder was replaced. Put the old data back" in replica.log.read_text()
