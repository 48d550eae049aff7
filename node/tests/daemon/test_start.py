# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What greyd makes, and what it refuses to start on: each refusal says what was found and what to do."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import socket
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.federation import GreyNode, RunningFederation
from support.pki import Authority

from grey.config import federation as federation_file
from grey.config import node as node_file
from grey.daemon import init as init_room

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.processes


@pytest.fixture
def single(tmp_path: Path) -> RunningFederation:
    """Files of a federation whose processes the test starts itself."""
    return RunningFederation(tmp_path, clusters=("aws-east", "gcp-west", "edge-chicago"))


@pytest.fixture
def node(single: RunningFederation) -> GreyNode:
    return single.primary


def refusal(node: GreyNode, *command: str, code: int = 3) -> str:
    done = node.command(*command)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("greyd: ") or " error " in done.stderr
    return done.stderr


def make(node: GreyNode) -> None:
    """Init in this process: starting greyd takes longer than all it does."""
    config = node_file.load(node.config)
    asyncio.run(init_room.init(config, federation_file.load(config.federation_file)))


def test_init_makes_the_data_once(node: GreyNode) -> None:
    check = node.command("init", "--check")
    assert (check.returncode, json.loads(check.stdout)) == (0, {"changed": True, "data_id": None})
    assert not node.data_dir.exists()
    made = node.init()
    identity = json.loads(node.identity.read_bytes())
    assert made == {"changed": True, "data_id": identity["data_id"]}
    assert identity == {
        "federation": "test",
        "cluster": "aws-east",
        "node": "aws-east-1",
        "data_id": made["data_id"],
    }
    assert node.init() == {"changed": False, "data_id": made["data_id"]}
    check = node.command("init", "--check")
    assert json.loads(check.stdout) == {"changed": False, "data_id": made["data_id"]}


def test_init_finishes_an_interrupted_try(node: GreyNode) -> None:
    made = node.init()
    node.identity.unlink()
    check = node.command("init", "--check")
    assert json.loads(check.stdout) == {"changed": True, "data_id": made["data_id"]}
    assert not node.identity.exists()
    assert node.init() == {"changed": True, "data_id": made["data_id"]}
    assert json.loads(node.identity.read_bytes())["data_id"] == made["data_id"]


@pytest.mark.parametrize("step", range(1, 14))
async def test_init_survives_a_kill_between_any_two_steps(
    node: GreyNode, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The process may end at every call that touches the disk; the next init brings it to the same end."""
    config = node_file.load(node.config)
    federation = federation_file.load(config.federation_file)
    calls = itertools.count(1)

    class Killed(BaseException):
        pass

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls) == step:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for name in ("mkdir", "replace", "open"):
            patched.setattr(Path, name, dying(getattr(Path, name)))
        patched.setattr(os, "fsync", dying(os.fsync))
        for name in ("write_identity", "read_identity"):
            patched.setattr(init_room, name, dying(getattr(init_room, name)))
        with suppress(Killed):
            await init_room.init(config, federation)
    complete = node.identity.exists()
    result = await init_room.init(config, federation)
    assert result.changed is not complete
    assert json.loads(node.identity.read_bytes())["data_id"] == result.data_id
    again = await init_room.init(config, federation)
    assert (again.changed, again.data_id) == (False, result.data_id)


def test_lost_data_is_refused(node: GreyNode) -> None:
    make(node)
    shutil.rmtree(node.data_dir)
    for command in (("init",), ("init", "--check"), ("run",)):
        said = refusal(node, *command)
        assert f"{node.data_dir}/data.sqlite is gone" in said
        assert "Put the data back" in said
    assert not node.data_dir.exists()


def test_an_emptied_data_file_is_refused(node: GreyNode) -> None:
    make(node)
    (node.data_dir / "data.sqlite").write_bytes(b"")
    assert "data.sqlite" in refusal(node, "run")
    assert "data.sqlite" in refusal(node, "init")


def test_corrupt_data_is_refused(node: GreyNode) -> None:
    make(node)
    path = node.data_dir / "data.sqlite"
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xff" * 3996
    path.write_bytes(data)
    assert str(path) in refusal(node, "run")


def test_data_of_another_node_is_refused(single: RunningFederation, node: GreyNode) -> None:
    other = single.nodes["gcp-west"]
    make(node)
    make(other)
    shutil.rmtree(node.data_dir)
    shutil.copytree(other.data_dir, node.data_dir)
    for command in ("init", "run"):
        said = refusal(node, command)
        assert "holds the data of test/gcp-west/gcp-west-1" in said
        assert "the data folder was replaced. Put the right data back" in said
    node.identity.unlink()
    assert "belongs to test/gcp-west/gcp-west-1" in refusal(node, "init")


def test_older_data_of_the_same_node_is_refused(node: GreyNode) -> None:
    make(node)
    shutil.rmtree(node.data_dir)
    identity = node.identity.read_bytes()
    node.identity.unlink()
    make(node)
    node.identity.write_bytes(identity)
    assert "the data folder was replaced" in refusal(node, "run")


def test_data_that_nobody_made_is_refused(node: GreyNode) -> None:
    make(node)
    node.identity.unlink()
    with sqlite3.connect(node.data_dir / "data.sqlite") as connection:
        connection.execute("UPDATE current SET key = CAST('k/x' AS BLOB)")
    connection.close()
    assert "holds data that belongs to nobody" in refusal(node, "init")


def test_an_unreadable_identity_is_refused(node: GreyNode) -> None:
    make(node)
    node.identity.write_text("{")
    said = refusal(node, "run")
    assert f"{node.identity} must hold the identity of this node's data, but cannot be read" in said


def test_run_before_init_is_refused(node: GreyNode) -> None:
    assert "Make it with: greyd init" in refusal(node, "run")


def test_a_wrong_file_is_refused(node: GreyNode) -> None:
    node.config.write_text('{"node": {"mode": "cluster", "nam": "x"}}')
    assert "nam" in refusal(node, "run", code=2)
    node.config.unlink()
    assert str(node.config) in refusal(node, "init", code=2)


def test_a_cluster_that_is_not_in_the_federation_is_refused(node: GreyNode) -> None:
    document = json.loads(node.config.read_text())
    document["node"]["cluster"] = "aws-west"
    node.config.write_text(json.dumps(document))
    assert "'aws-west' is not in" in refusal(node, "run", code=2)


def test_a_busy_port_is_named(single: RunningFederation, node: GreyNode) -> None:
    make(node)
    with socket.socket() as taken:
        taken.bind((node.address, single.api))
        taken.listen()
        said = refusal(node, "run")
    assert f"listen.api: cannot listen on {node.address} port {single.api}: another program uses it" in said
    assert f"ss -ltnp 'sport = :{single.api}'" in said


def test_certificate_files_are_checked(single: RunningFederation, node: GreyNode) -> None:
    make(node)
    key = node.folder / "key.pem"
    mine = key.read_bytes()
    key.write_bytes(Path(single.operator.key_file).read_bytes())
    assert f"{key}: is not the key of {node.folder}/cert.pem" in refusal(node, "run")
    key.unlink()
    assert f"{key}: the private key does not exist: run deploy.yml to make it" in refusal(node, "run")
    key.write_bytes(mine)
    single.issue(node, authority=Authority("somebody else"))
    assert f"{node.folder}/cert.pem: was not issued by a CA of {node.folder}/ca.pem" in refusal(node, "run")
    single.issue(single.nodes["gcp-west"])
    for name in ("cert.pem", "key.pem"):
        shutil.copy(single.nodes["gcp-west"].folder / name, node.folder / name)
    assert "the certificate must carry the DNS name aws-east.grey.test" in refusal(node, "run")


async def test_an_expired_certificate_is_shown_and_a_new_one_is_taken(
    single: RunningFederation, node: GreyNode
) -> None:
    single.issue(node, expired=True)
    node.init()
    node.start()
    try:

        async def answers() -> bool:
            return (await single.health(node, "/health")).status == 200

        await single.until(answers, 10, "health")
        health = (await single.health(node, "/ready")).json
        assert f"{node.folder}/cert.pem: the certificate expired on" in health["problem"]
        assert "the control plane is not served" in node.log.read_text()
        with pytest.raises(OSError, match="Connect call failed"):
            await single.status(node)
        single.issue(node)

        async def serves() -> bool:
            return (await single.status(node)).status == 200

        await single.until(serves, 15, "the control plane with the new certificate")
    finally:
        code = node.stop()
        await single.close()
    assert code == 0
