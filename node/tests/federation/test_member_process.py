# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from grey.config.node import StoreMember
from grey.federation.member_process import check_health, prepare
from grey.store.etcd_process import MemberRefused

if TYPE_CHECKING:
    from support.etcd_cluster import EtcdCluster


@pytest.fixture
def member(tmp_path: Path) -> StoreMember:
    (tmp_path / "etc").mkdir()
    return StoreMember(
        name="member-1",
        etcd="/usr/bin/etcd",
        config_file=str(tmp_path / "etc" / "etcd.yaml"),
        data_dir=str(tmp_path / "data"),
        marker_file=str(tmp_path / "etc" / "member.json"),
    )


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
    argv = ["/usr/bin/etcd", "--config-file", member.config_file]
    assert prepare(member) == argv
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
    assert prepare(member)[0] == "/usr/bin/etcd"
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
    with pytest.raises(MemberRefused, match=r"is gone.*etcdctl member remove"):
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
    shutil.rmtree(Path(member.marker_file).parent)
    with pytest.raises(MemberRefused, match="cannot be written"):
        prepare(member)


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
