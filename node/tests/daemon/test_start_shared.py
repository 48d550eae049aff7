# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that share an engine: their data is made once, and whatever replaces it is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import pytest
from support.federation import GreyNode, RunningFederation, Shared
from support.memory_store import MemoryStore

from grey.config import federation as federation_file
from grey.config import node as node_file
from grey.daemon.identity_file import StateRefused
from grey.daemon.shared_engine import SharedData
from grey.data import keyspace
from grey.data.identity import Identity, read_identity
from grey.store.interface import CommitUncertain, Compare, EngineUnreachable, Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from support.engine_cluster import EngineProcess

pytestmark = pytest.mark.processes

CLUSTER = "aws-east"


@pytest.fixture
async def single(tmp_path: Path) -> AsyncIterator[RunningFederation]:
    """Two greyds on one etcd that the test starts itself."""
    federation = RunningFederation(
        tmp_path, clusters=(CLUSTER,), shared={CLUSTER: Shared(greyds=2, members=1)}
    )
    yield federation
    await federation.close()


def member(federation: RunningFederation) -> EngineProcess:
    return federation.engines[CLUSTER].members[0]


async def command(node: GreyNode, *arguments: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(node.command, *arguments)
    return done.returncode, done.stdout, done.stderr


async def test_nodes_that_init_at_once_share_one_identity(single: RunningFederation) -> None:
    engine = single.engines[CLUSTER]
    engine.start()
    await engine.healthy()
    nodes = single.clusters[CLUSTER]
    check = await command(nodes[0], "init", "--check")
    assert (check[0], json.loads(check[1])) == (0, {"changed": True, "data_id": None})
    made = await asyncio.gather(*(command(node, "init") for node in nodes))
    answers = [json.loads(out) for code, out, _ in made if code == 0]
    assert len({answer["data_id"] for answer in answers}) == 1
    assert [answer["changed"] for answer in answers] == [True, True]
    for node in nodes:
        identity = json.loads(node.identity.read_bytes())
        assert identity == {
            "federation": "test",
            "cluster": CLUSTER,
            "node": node.name,
            "data_id": answers[0]["data_id"],
        }
        again = await command(node, "init")
        assert json.loads(again[1]) == {"changed": False, "data_id": answers[0]["data_id"]}
    assert not nodes[0].data_dir.exists()


async def test_an_engine_that_is_not_up_is_waited_for_or_said(single: RunningFederation) -> None:
    node = single.primary
    code, _, said = await command(node, "init")
    assert code == 1
    assert "Start the engine first: greyd engine --config" in said
    waiting = asyncio.create_task(command(node, "init", "--wait", "15"))
    single.engines[CLUSTER].start()
    assert (await waiting)[0] == 0
    assert node.identity.exists()


async def test_greyd_starts_before_its_engine_and_waits(single: RunningFederation) -> None:
    engine = single.engines[CLUSTER]
    engine.start()
    single.etcd.start()
    await engine.healthy()
    node = single.primary
    await asyncio.to_thread(node.init)
    engine.members[0].kill()
    node.start()

    async def waits() -> bool:
        answer = await single.health(node, "/ready")
        return answer.status == 503 and "be reached" in answer.json["problem"]

    await single.until(waits, 15, "greyd says what it waits for")
    with pytest.raises(aiohttp.ClientConnectionError):
        await single.kv("GET", node, b"key")
    engine.start()

    async def writes() -> bool:
        return (await single.kv("PUT", node, b"key", data=b"1")).status == 200

    await single.until(writes, 30, "greyd goes on when the engine is up")
    assert await asyncio.to_thread(node.stop) == 0
    engine.members[0].kill()
    node.start()
    await single.until(waits, 15, "greyd waits again")
    assert await asyncio.to_thread(node.stop) == 0, "and ends when it is told to while it waits"


async def test_an_engine_that_lost_its_data_is_refused(single: RunningFederation) -> None:
    engine = single.engines[CLUSTER]
    engine.start()
    await engine.healthy()
    node, other = single.clusters[CLUSTER]
    await asyncio.to_thread(node.init)
    await asyncio.to_thread(other.init)
    member(single).kill()
    shutil.rmtree(member(single).member.data_dir)
    engine.start()
    await engine.healthy()
    for arguments in (("init",), ("init", "--check"), ("run",)):
        code, out, said = await command(node, *arguments)
        assert (code, out) == (3, "")
        assert "the engine holds nobody's: its data is gone, or it is another engine" in said
    # One node forgets, and gives the empty engine a new identity: the others notice.
    node.identity.unlink()
    await asyncio.to_thread(node.init)
    code, _, said = await command(other, "run")
    assert code == 3
    assert "Put the right data back" in said


async def test_an_engine_that_is_replaced_under_a_running_node_ends_it(single: RunningFederation) -> None:
    engine = single.engines[CLUSTER]
    engine.start()
    single.etcd.start()
    await engine.healthy()
    node = single.primary
    await asyncio.to_thread(node.init)
    node.start()
    await single.until(lambda: is_ok(single, node, "/primary"), 30, "the node writes")
    member(single).kill()
    shutil.rmtree(member(single).member.data_dir)
    engine.start()
    assert node.process is not None
    assert await asyncio.to_thread(node.process.wait, 30) == 3
    assert "the engine holds nobody's: its data is gone, or it is another engine" in node.log.read_text()


async def is_ok(federation: RunningFederation, node: GreyNode, page: str) -> bool:
    return (await federation.health(node, page)).status == 200


async def test_a_node_needs_init_before_it_runs(single: RunningFederation) -> None:
    code, _, said = await command(single.primary, "run")
    assert code == 3
    assert "Make it with: greyd init" in said


class Uncertain(MemoryStore):
    """Its first commit happens without an answer."""

    silent = True

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
        revision = await super().commit(compares, writes)
        if self.silent:
            self.silent = False
            raise CommitUncertain("no answer")
        return revision


def data_of(node: GreyNode, store: MemoryStore) -> SharedData:
    config = node_file.load(node.config)
    return SharedData(config, federation_file.load(config.federation_file), store)


async def test_an_identity_of_unknown_outcome_is_looked_up(single: RunningFederation) -> None:
    store = Uncertain()
    changed, made = await data_of(single.primary, store).make(check=False)
    held = await read_identity(store)
    assert held is not None
    assert made is not None
    assert (changed, made.data_id, held.node) == (True, held.data_id, None)
    assert json.loads(single.primary.identity.read_bytes())["data_id"] == held.data_id


async def test_a_try_that_was_cut_short_is_finished(single: RunningFederation) -> None:
    store = MemoryStore()
    _, made = await data_of(single.primary, store).make(check=False)
    single.primary.identity.unlink()
    changed, again = await data_of(single.primary, store).make(check=True)
    assert (changed, again) == (True, made)
    assert not single.primary.identity.exists()
    assert await data_of(single.primary, store).make(check=False) == (True, made)


async def test_foreign_data_is_refused(single: RunningFederation) -> None:
    store = MemoryStore()
    await store.commit([], [Write(keyspace.data_key(b"x"), b"1")])
    with pytest.raises(StateRefused, match="holds data that belongs to nobody"):
        await data_of(single.primary, store).make(check=False)
    other = MemoryStore()
    identity = Identity("test", "gcp-west", None, "1")
    await other.commit([], [Write(keyspace.IDENTITY, msgspec.json.encode(identity))])
    with pytest.raises(StateRefused, match=r"belongs to test/gcp-west \(data 1\)"):
        await data_of(single.primary, other).make(check=False)


async def test_an_identity_that_another_node_gives_meanwhile_is_taken_over(
    single: RunningFederation,
) -> None:
    node, other = single.clusters[CLUSTER]

    class Raced(MemoryStore):
        async def commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> int:
            if first:
                await data_of(other, first.pop()).make(check=False)
            return await super().commit(compares, writes)

    store = Raced()
    first = [store]
    _, made = await data_of(node, store).make(check=False)
    assert made is not None
    theirs = json.loads(other.identity.read_bytes())
    assert (made.data_id, made.node, theirs["node"]) == (theirs["data_id"], node.name, other.name)


async def test_the_engine_s_silence_is_no_refusal(single: RunningFederation) -> None:
    class Gone(MemoryStore):
        async def range(self, *_: object, **__: object) -> object:  # type: ignore[override]
            raise EngineUnreachable("no leader")

    with pytest.raises(EngineUnreachable):
        await data_of(single.primary, Gone()).make(check=False)
    assert not single.primary.identity.exists()
