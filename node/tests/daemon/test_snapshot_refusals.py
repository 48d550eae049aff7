# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What greyd snapshot refuses, and what is left when it fails or is interrupted: nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.envelopes import envelope, write
from support.federation import GREYD, GreyNode, RunningFederation, Shared

from grey.config import federation as federation_file
from grey.config import node as node_file
from grey.daemon import init as init_room
from grey.daemon import snapshot_manifest
from grey.data.identity import Identity
from grey.store.snapshot_file import Draft, extract
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.processes

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def node(tmp_path: Path) -> GreyNode:
    """A node on SQLite with three records, one of them a deletion; greyd does not run."""
    made = RunningFederation(tmp_path, clusters=("aws-east", "gcp-west", "edge-chicago")).primary
    make(made)
    asyncio.run(fill(made))
    return made


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[GreyNode]:
    """A node on an etcd of one member, which runs; greyd does not."""
    clusters = ("aws-east", "gcp-west", "edge-chicago")
    made = RunningFederation(tmp_path, clusters=clusters, shared={"aws-east": Shared(1, 1)})
    engine = made.engines["aws-east"]
    engine.start()
    asyncio.run(engine.healthy())
    make(made.primary)
    yield made.primary
    engine.stop()


def make(node: GreyNode) -> None:
    """Init in this process: starting greyd takes longer than all it does."""
    config = node_file.load(node.config)
    asyncio.run(init_room.init(config, federation_file.load(config.federation_file), wait_seconds=10))


async def fill(node: GreyNode, first: int = 1) -> None:
    store = await SqliteStore.open(node.data_dir / "data.sqlite")
    await write(store, envelope(first, b"a"), envelope(first + 1, b"b"))
    await write(store, envelope(first + 2, b"a", None))
    await store.close()


def snapshot(node: GreyNode, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run a command; return what it printed, and as ``problem`` what it said on standard error."""
    done = node.command("snapshot", *arguments, timeout=60)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert (code == 0) == (done.stderr == "")
    return dict(json.loads(done.stdout or "{}")) | ({"problem": done.stderr} if code else {})


def saved(node: GreyNode) -> Path:
    snapshot(node, "save", "--to", str(node.folder / "snapshot"))
    return node.folder / "snapshot"


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_an_embedded_store_is_saved_checked_and_restored(node: GreyNode, tmp_path: Path) -> None:
    path = node.folder / "snapshot"
    found = snapshot(node, "save", "--to", str(path))
    assert {key: found[key] for key in ("changed", "cluster", "node", "epoch", "position", "engine")} == {
        "changed": True,
        "cluster": "aws-east",
        "node": "aws-east-1",
        "epoch": 1,
        "position": "1.3",
        "engine": "sqlite",
    }
    assert (found["keys"], found["deletions"], found["requests"]) == (1, 1, 0)
    assert snapshot(node, "verify", str(path)) == {"ok": True} | {
        key: found[key] for key in found if key != "changed"
    }
    asyncio.run(fill(node, 4))
    done = snapshot(node, "restore", str(path))
    assert (done["changed"], done["position"]) == (True, "1.3")
    replaced = Path(done["replaced"])
    assert replaced.name.startswith("data.replaced-")
    assert (replaced / "data.sqlite").exists()
    assert names(node.folder) == sorted(
        ["ca.pem", "cert.pem", "data", replaced.name, "grey.yaml", "identity.json", "key.pem", "snapshot"]
    )
    again = snapshot(node, "restore", str(path))
    assert again == done | {"changed": False, "replaced": None}
    # To go back once more it takes another token.
    assert snapshot(node, "restore", str(path), "--token", "2")["changed"]
    assert not snapshot(node, "restore", str(path), "--token", "2")["changed"]
    # Lost data is put back, and greyd takes it for its own.
    shutil.rmtree(node.data_dir)
    assert snapshot(node, "restore", str(path), "--token", "2")["replaced"] is None
    assert json.loads(node.command("init").stdout)["changed"] is False
    assert snapshot(node, "save", "--to", str(tmp_path / "again"))["position"] == "1.3"


def test_nothing_to_save_is_refused(tmp_path: Path) -> None:
    node = RunningFederation(tmp_path, clusters=("aws-east", "gcp-west", "edge-chicago")).primary
    assert "is missing" in snapshot(node, "save", "--to", str(tmp_path / "snapshot"), code=3)["problem"]
    assert "snapshot" not in names(tmp_path)


def test_a_place_that_cannot_be_written_is_named(node: GreyNode, tmp_path: Path) -> None:
    found = snapshot(node, "save", "--to", str(tmp_path / "none" / "snapshot"), code=1)
    assert "cannot write the snapshot" in found["problem"]
    path = saved(node)
    assert "exists already" in snapshot(node, "save", "--to", str(path), code=1)["problem"]


@as_root
def test_a_full_disk_leaves_nothing(node: GreyNode, tmp_path: Path) -> None:
    asyncio.run(large(node))
    path = saved(node)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], check=True)
    try:
        found = snapshot(node, "save", "--to", str(small / "snapshot"), code=1)
        assert "Make room" in found["problem"]
        assert names(small) == []
        found = snapshot(node, "verify", str(path), "--scratch", str(small), code=1)
        assert "Make room" in found["problem"]
        assert names(small) == []
    finally:
        subprocess.run(["umount", small], check=True)


async def large(node: GreyNode) -> None:
    store = await SqliteStore.open(node.data_dir / "data.sqlite")
    for number in range(4, 9):
        await write(store, envelope(number, b"large %d" % number, os.urandom(1_000_000)))
    await store.close()


def test_a_damaged_snapshot_is_refused(node: GreyNode) -> None:
    path = saved(node)
    whole = path.read_bytes()
    for place in (3000, len(whole) // 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = json.loads(node.command("snapshot", "verify", str(path)).stdout)
        assert (found["ok"], found["file"]) == (False, str(path))
        assert "was changed or damaged" in found["problem"]
        assert "was changed or damaged" in snapshot(node, "restore", str(path), code=3)["problem"]
    path.write_bytes(whole[: len(whole) // 2])
    assert "no whole snapshot" in snapshot(node, "verify", str(path), code=3)["problem"]
    assert "snapshot" in names(node.folder)
    assert not [name for name in names(node.folder) if "replaced" in name or "scratch" in name]


def test_a_manifest_that_says_something_else_is_refused(node: GreyNode) -> None:
    path = forged(saved(node), keys=2, position="1.4")
    found = snapshot(node, "verify", str(path), code=3)
    assert "position must be 1.4, but is 1.3; keys must be 2, but is 1" in found["problem"]
    path = forged(node.folder / "snapshot", format=2)
    assert "of format 2" in snapshot(node, "verify", str(path), code=3)["problem"]


def forged(path: Path, **changes: object) -> Path:
    """Write a snapshot anew with another manifest."""
    manifest = msgspec.structs.replace(snapshot_manifest.read(path), **changes)
    copy = path.with_name("copy")
    extract(path, copy)
    target = path.with_name(f"forged-{'-'.join(changes)}")
    with Draft(target) as draft:
        draft.write(copy.read_bytes())
        draft.finish(msgspec.json.encode(manifest))
    copy.unlink()
    return target


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"federation": "other"}, "holds the data of other/aws-east, but this node is of test/aws-east"),
        ({"cluster": "gcp-west"}, "holds the data of test/gcp-west, but this node is of test/aws-east"),
        ({"node": "aws-east-2"}, "holds the data of the node aws-east-2"),
        ({"engine": "etcd"}, "is a snapshot of the engine etcd, but node.store.engine is sqlite"),
        ({"data_id": "1"}, "began with new data after that snapshot"),
        ({"store": "federation"}, "is a snapshot of the federation store"),
    ],
)
def test_another_ones_snapshot_is_not_restored(node: GreyNode, changes: dict[str, str], words: str) -> None:
    path = forged(saved(node), **changes)
    before = names(node.folder)
    assert words in snapshot(node, "restore", str(path), code=3)["problem"]
    assert names(node.folder) == before


def test_a_copy_under_way_is_not_saved(node: GreyNode) -> None:
    async def begin() -> None:
        from grey.data import keyspace
        from grey.store.interface import Write

        store = await SqliteStore.open(node.data_dir / "data.sqlite")
        await store.commit([], [Write(keyspace.COPYING, b"{}")])
        await store.close()

    asyncio.run(begin())
    found = snapshot(node, "save", "--to", str(node.folder / "snapshot"), code=3)
    assert "a full copy to aws-east is under way" in found["problem"]
    assert not [name for name in names(node.folder) if "snapshot" in name]


def test_data_of_another_identity_is_not_saved(node: GreyNode) -> None:
    known = msgspec.json.decode(node.identity.read_bytes(), type=Identity)
    node.identity.write_bytes(msgspec.json.encode(msgspec.structs.replace(known, data_id="1")))
    found = snapshot(node, "save", "--to", str(node.folder / "snapshot"), code=3)
    assert "the data folder was replaced" in found["problem"]


@as_root
def test_root_makes_no_data_for_somebody_else(node: GreyNode) -> None:
    path = saved(node)
    os.chown(node.data_dir, 65534, 65534)
    assert "run this as nobody" in snapshot(node, "restore", str(path), code=3)["problem"]


def test_what_an_engine_begins_with_must_be_right(shared: GreyNode) -> None:
    path = saved(shared)
    assert shared.engine is not None
    own = f"--member={shared.engine.name}={shared.engine.member.peer}"

    def refused(*arguments: str) -> str:
        return str(snapshot(shared, "restore", str(path), *arguments, code=2)["problem"])

    assert "needs a new token" in refused(own)
    assert "needs a new token" in refused(own, "--token", "a b")
    assert "must hold this one" in refused("--token", "t")
    assert "must hold this one" in refused("--token", "t", f"--member={shared.engine.name}=127.0.0.1:1")
    assert "expected NAME: ADDRESS:PORT" in refused("--token", "t", own, "--member=other=nonsense")
    assert "the same address and port" in refused(
        "--token", "t", own, f"--member=x={shared.engine.member.peer}"
    )
    bootstrap = shared.folder / "bootstrap.json"
    assert "cannot be read" in refused("--bootstrap", str(bootstrap))
    assert "give it alone" in refused("--bootstrap", str(bootstrap), own)
    bootstrap.write_text('{"state": "new", "token": "t", "members": {}}')
    assert "must hold this one" in refused("--bootstrap", str(bootstrap))
    members = {shared.engine.name: str(shared.engine.member.peer)}
    bootstrap.write_text(json.dumps({"state": "new", "token": "t", "members": members}))
    shared.engine.kill()
    assert snapshot(shared, "restore", str(path), "--bootstrap", str(bootstrap))["changed"]
    bootstrap.write_text(json.dumps({"token": "t", "members": members | {"more": "127.0.0.1:1"}}))
    found = snapshot(shared, "restore", str(path), "--bootstrap", str(bootstrap), code=3)
    assert "each restore needs a new token" in found["problem"]


def test_a_frozen_engine_is_not_waited_for_and_leaves_nothing(shared: GreyNode, tmp_path: Path) -> None:
    assert shared.engine is not None
    shared.engine.freeze()
    target = tmp_path / "snapshot"
    found = snapshot(shared, "save", "--to", str(target), code=1)
    assert "gave no snapshot: " in found["problem"]
    assert not [name for name in names(tmp_path) if "snapshot" in name]
    # Neither does one that is ended while it waits.
    command = [GREYD, "snapshot", "save", "--to", str(target), "--config", str(shared.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: "snapshot.part" in names(tmp_path))
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM
    assert not [name for name in names(tmp_path) if "snapshot" in name]
    shared.engine.thaw()
    assert snapshot(shared, "save", "--to", str(target))["cluster"] == "aws-east"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_throw_away_engine_survives(shared: GreyNode, tmp_path: Path, number: signal.Signals) -> None:
    path = saved(shared)
    # An etcd that freezes at once: it neither ends by itself nor answers.
    frozen = tmp_path / "frozen-etcd"
    frozen.write_text('#!/bin/sh\nkill -STOP $$\nexec etcd "$@"\n')
    frozen.chmod(0o755)
    plain = json.loads(shared.config.read_text())
    plain["node"]["store"]["member"]["etcd"] = str(frozen)
    config = tmp_path / "frozen.yaml"
    config.write_text(json.dumps(plain))
    command = [GREYD, "snapshot", "verify", str(path), "--scratch", str(tmp_path), "--config", str(config)]
    temporary = tempfile.mkdtemp(prefix="grey-")  # short, for its sockets
    environment = os.environ | {"TMPDIR": temporary}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        until(lambda: bool(scratch_engines(tmp_path)))
        process.send_signal(number)
        process.wait(20)
        until(lambda: not scratch_engines(tmp_path))
    left = [name for name in (*names(tmp_path), *names(Path(temporary))) if "scratch" in name]
    shutil.rmtree(temporary)
    assert bool(left) == (number == signal.SIGKILL)


def scratch_engines(folder: Path) -> list[int]:
    """Return the processes whose command line names a folder below one, as data folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if (
                f"--data-dir={folder}/.grey-scratch".encode() in words
                and b"-c\0" not in words
                and state != "Z"
            ):
                found.append(int(entry.name))
    return found


def until(holds: Callable[[], bool], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
