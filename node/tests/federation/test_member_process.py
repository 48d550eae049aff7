# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - messages stand in one piece, so that they can be searched for
from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.etcd_cluster import STORE_PEER_NAME, write_bootstrap

from grey.config.federation_store import StoreMember
from grey.config.model import Endpoint, TlsFiles
from grey.federation import member_process
from grey.federation.member_process import check_health
from grey.store.etcd_data import MemberRefused

if TYPE_CHECKING:
    from support.etcd_cluster import EtcdCluster

PEER = Endpoint("127.0.0.1", 2380)


@pytest.fixture
def member(tmp_path: Path) -> StoreMember:
    (tmp_path / "etc").mkdir()
    bootstrap = tmp_path / "etc" / "bootstrap.json"
    write_bootstrap(bootstrap, "new", {"member-1": PEER, "member-2": Endpoint("127.0.0.2", 2380)}, "token")
    return StoreMember(
        name="member-1",
        etcd="/usr/bin/etcd",
        data_dir=str(tmp_path / "data"),
        marker_file=str(tmp_path / "etc" / "member.json"),
        bootstrap_file=str(bootstrap),
        client=Endpoint("127.0.0.1", 2379),
        peer=PEER,
        tls=TlsFiles("/c.pem", "/k.pem", "/a.pem"),
    )


def prepare(member: StoreMember) -> list[str]:
    return member_process.prepare(member, STORE_PEER_NAME)


def initial(command: list[str]) -> list[str]:
    return [each for each in command if each.startswith("--initial-cluster")]


def state(member: StoreMember) -> str | None:
    path = Path(member.marker_file)
    return json.loads(path.read_text())["state"] if path.exists() else None


def mark(member: StoreMember, text: str) -> None:
    Path(member.marker_file).write_text(text)


def fill(member: StoreMember) -> None:
    wal = Path(member.data_dir) / "member" / "wal"
    wal.mkdir(parents=True)
    (wal / "0000000000000000-0000000000000000.wal").write_bytes(b"log")


def test_the_first_start_makes_the_marker_and_a_cut_short_one_is_repeated(member: StoreMember) -> None:
    argv = prepare(member)
    assert argv[:2] == ["/usr/bin/etcd", "--name=member-1"]
    assert initial(argv) == [
        "--initial-cluster=member-1=https://127.0.0.1:2380,member-2=https://127.0.0.2:2380",
        "--initial-cluster-token=token",
        "--initial-cluster-state=new",
    ]
    assert state(member) == "bootstrapping"
    assert not Path(member.marker_file + ".new").exists()
    assert prepare(member) == argv
    (Path(member.data_dir) / "member").mkdir(parents=True)
    assert prepare(member) == argv
    fill_later = Path(member.data_dir) / "member" / "wal"
    fill_later.mkdir()
    assert prepare(member) == argv
    assert state(member) == "bootstrapping"


def test_a_member_starts_on_its_data(member: StoreMember) -> None:
    fill(member)
    mark(member, '{"state": "member"}')
    Path(member.bootstrap_file).unlink()
    argv = prepare(member)
    assert argv[0] == "/usr/bin/etcd"
    assert initial(argv) == []
    assert state(member) == "member"


def test_a_member_found_without_a_marker_is_adopted_and_said_so(
    member: StoreMember, caplog: pytest.LogCaptureFixture
) -> None:
    fill(member)
    prepare(member)
    assert state(member) == "member"
    assert "adopting" in caplog.text


@pytest.mark.parametrize("what", ["missing", "empty", "no log"])
def test_a_member_without_its_data_is_refused(member: StoreMember, what: str) -> None:
    mark(member, '{"state": "member"}')
    if what == "empty":
        Path(member.data_dir).mkdir()
    elif what == "no log":
        (Path(member.data_dir) / "member" / "wal").mkdir(parents=True)
    with pytest.raises(MemberRefused, match=r"is gone.*greyd federation-store remove --name member-1"):
        prepare(member)
    assert state(member) == "member"


@pytest.mark.parametrize("marker", [None, '{"state": "bootstrapping"}', '{"state": "member"}'])
def test_foreign_files_are_refused(member: StoreMember, marker: str | None) -> None:
    Path(member.data_dir).mkdir()
    (Path(member.data_dir) / "data.sqlite").touch()
    if marker is not None:
        mark(member, marker)
    with pytest.raises(MemberRefused, match="other files"):
        prepare(member)
    assert (Path(member.marker_file).read_text() if marker else None) == marker


@pytest.mark.parametrize("text", ["", "{", '{"state": "maybe"}', '["member"]', "\x00"])
def test_a_damaged_marker_is_refused(member: StoreMember, text: str) -> None:
    mark(member, text)
    with pytest.raises(MemberRefused, match="cannot be read"):
        prepare(member)
    assert Path(member.marker_file).read_text() == text


def test_a_marker_that_cannot_be_written_is_refused(member: StoreMember) -> None:
    nowhere = msgspec.structs.replace(member, marker_file=member.marker_file + "/no/such/folder")
    with pytest.raises(MemberRefused, match="cannot be written"):
        prepare(nowhere)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "bootstrap.json, which does not exist: write it"),
        ("{", "cannot be read"),
        ('{"state": "old", "token": "t", "members": {}}', "Invalid enum value 'old'"),
        ('{"state": "new", "token": "", "members": {}}', "length >= 1"),
        ('{"state": "new", "token": "t", "members": {}, "more": 1}', "unknown field `more`"),
        ('{"state": "new", "token": "t", "members": {}}', "member-1 is not among its members (none)"),
        ('{"state": "new", "token": "t", "members": {"member-2": "127.0.0.1:2380"}}', "among its members (member-2)"),
        ('{"state": "new", "token": "t", "members": {"member-1": "127.0.0.1:1"}}', "has the peer 127.0.0.1:1 there"),
        ('{"state": "new", "token": "t", "members": {"member-1": "east:2380"}}', "is not an IPv4 or IPv6 address"),
        ('{"state": "new", "token": "t", "members": {"member-1": "127.0.0.1"}}', "add the port"),
        ('{"state": "new", "token": "t", "members": {"member-1": "127.0.0.1:2380", "b": "127.0.0.1:2380"}}', "b and member-1 have the same peer"),
        ('{"state": "new", "token": "t", "members": {"member-1": "127.0.0.1:2380"}, "heartbeat": "6s"}', "heartbeat: expected 10ms to 5s, found 6s"),
        ('{"state": "new", "token": "t", "members": {"member-1": "127.0.0.1:2380"}, "heartbeat": "soon"}', "heartbeat: expected a duration"),
    ],
)  # fmt: skip
def test_a_bootstrap_file_that_is_needed_and_wrong(
    member: StoreMember, content: str | None, words: str
) -> None:
    path = Path(member.bootstrap_file)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(MemberRefused) as refused:
        prepare(member)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert state(member) is None
    fill(member)
    assert initial(prepare(member)) == []


def beat(command: list[str]) -> tuple[str, str]:
    """Return heartbeat and election timeout."""
    found = dict(each.removeprefix("--").split("=", 1) for each in command if "=" in each)
    return found["heartbeat-interval"], found["election-timeout"]


def test_the_heartbeat_is_as_the_group_began_unless_the_nodes_file_says_it(member: StoreMember) -> None:
    assert beat(prepare(member)) == ("100", "1000")
    path = Path(member.bootstrap_file)
    path.write_text(json.dumps({**json.loads(path.read_text()), "heartbeat": "150ms"}))
    assert beat(prepare(member)) == ("150", "1500")
    own = msgspec.structs.replace(member, heartbeat_milliseconds=300)
    assert beat(prepare(own)) == ("300", "3000")
    # A member that has data goes on with it, whatever else the file says by now.
    fill(member)
    path.write_text('{"heartbeat": "150ms", "more": 1}')
    assert beat(prepare(member)) == ("150", "1500")


@pytest.mark.parametrize("text", [None, "{", "[]", '{"heartbeat": 150}', '{"heartbeat": "9ms"}', "\x00"])
def test_a_member_with_data_never_stops_over_its_heartbeat(member: StoreMember, text: str | None) -> None:
    fill(member)
    path = Path(member.bootstrap_file)
    path.unlink() if text is None else path.write_text(text)
    assert beat(prepare(member)) == ("100", "1000")


async def test_a_healthy_majority_turns_the_marker_once(etcd3: EtcdCluster, member: StoreMember) -> None:
    mark(member, '{"state": "bootstrapping"}')
    for changed in (True, False):
        result = await check_health(
            "test", etcd3.endpoints, etcd3.client_tls, member=member, wait_seconds=20.0, timeout_seconds=1.0
        )
        assert result.healthy
        assert result.changed is changed
        assert state(member) == "member"
    assert {each.name for each in result.members} == {"member-1", "member-2", "member-3"}


async def test_a_member_outside_the_majority_keeps_its_marker(
    etcd3: EtcdCluster, member: StoreMember
) -> None:
    await etcd3.healthy()
    etcd3.members[0].kill()
    await etcd3.healthy(members=2)
    mark(member, '{"state": "bootstrapping"}')
    result = await check_health("test", etcd3.endpoints, etcd3.client_tls, member=member, timeout_seconds=1.0)
    assert result.healthy
    assert not result.changed
    assert state(member) == "bootstrapping"
    etcd3.members[1].kill()
    result = await check_health("test", etcd3.endpoints, etcd3.client_tls, member=None, timeout_seconds=1.0)
    assert not result.healthy
