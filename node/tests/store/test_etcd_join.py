# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's member may start as, by what the others say: the decisions, and what they are read from."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grey.config.etcd_member import EtcdMember
from grey.config.model import Endpoint, TlsFiles
from grey.link.etcd_fault import MemberFault
from grey.link.etcd_listed import Listed, PeerList, decode
from grey.store import etcd_marker, etcd_wal
from grey.store.etcd_bootstrap import Bootstrap
from grey.store.etcd_data import MemberData, MemberRefused, NobodyAnswers
from grey.store.etcd_forget import forget, still_member
from grey.store.etcd_join import begin, removed
from grey.store.etcd_marker import Marker
from grey.store.etcd_wal import Identity

CLUSTER = 0xC1
OWN = Endpoint("10.0.0.3", 2380)


def data(tmp_path: Path = Path("/nowhere")) -> MemberData:
    return MemberData(
        EtcdMember(
            name="c",
            etcd="/usr/bin/etcd",
            data_dir=str(tmp_path / "data"),
            marker_file=str(tmp_path / "member.json"),
            bootstrap_file=str(tmp_path / "bootstrap.json"),
            peer=OWN,
            tls=TlsFiles("/c.pem", "/k.pem", "/a.pem"),
        ),
        store="the cluster's engine",
        key="node.store.member",
        command="greyd engine",
    )


def listed(number: int, *, name: str | None = None, ran: bool = True) -> Listed:
    return Listed(number, "abcdefg"[number - 1] if name is None else name, f"10.0.0.{number}:2380", ran)


def answers(*lists: list[Listed] | str, cluster: int = CLUSTER) -> dict[str, PeerList | str]:
    return {
        f"10.0.0.{number}:2380": said if isinstance(said, str) else PeerList(cluster, tuple(said))
        for number, said in enumerate(lists, start=1)
    }


def file(state: Literal["new", "existing"], *numbers: int) -> Bootstrap:
    return Bootstrap(state, "t", {"abcdefg"[n - 1]: Endpoint(f"10.0.0.{n}", 2380) for n in numbers})


def test_a_new_group_begins_as_the_file_says() -> None:
    new = file("new", 1, 2, 3)
    assert begin(data(), new, {}) is new
    assert begin(data(), new, answers("refused", "no answer in time")) is new
    # The others were quicker: they already run, with this one in their list from the beginning.
    both = [listed(1), listed(2), listed(3, ran=False)]
    assert begin(data(), new, answers(both, both)) is new
    assert begin(data(), new, answers([listed(1), listed(2, ran=False), listed(3, ran=False)], "x")) is new


@pytest.mark.parametrize("state", ["new", "existing"])
def test_a_group_that_runs_is_joined_as_it_is_now(state: Literal["new", "existing"]) -> None:
    now = [listed(1), listed(3, name="", ran=False), listed(5)]
    assert begin(data(), file(state, 1, 2, 3), answers(now, "no answer")) == file("existing", 1, 3, 5)
    # Also when it is the same hosts: this one was removed, and added anew.
    again = [listed(1), listed(2), listed(3, name="", ran=False)]
    assert begin(data(), file(state, 1, 2, 3), answers(again)) == file("existing", 1, 2, 3)
    # One that is behind does not know this one yet.
    assert begin(data(), file(state, 1, 2, 3), answers([listed(1), listed(2)], again)).state == "existing"


@pytest.mark.parametrize("state", ["new", "existing"])
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answers([listed(1), listed(2)]), "is not a member of the cluster's engine (a, b) yet: add it first"),
        (answers([listed(1), listed(2)]), "greyd engine add --name c --peer 10.0.0.3:2380"),
        (answers([listed(1), listed(2), listed(3)]), "c ran before as a member of the cluster's engine"),
        (answers("down", [listed(1), listed(2), listed(3)]), "greyd engine forget here"),
    ],
)
def test_what_may_not_join(
    state: Literal["new", "existing"], said: dict[str, PeerList | str], words: str
) -> None:
    with pytest.raises(MemberRefused) as refused:
        begin(data(), file(state, 1, 2, 3), said)
    assert words in str(refused.value)
    assert not isinstance(refused.value, NobodyAnswers)


def test_nobody_can_be_joined() -> None:
    with pytest.raises(NobodyAnswers, match=r"none of its members answers \(10.0.0.1:2380: down\)"):
        begin(data(), file("existing", 1, 3), answers("down"))


def test_who_was_removed() -> None:
    held = Identity(3, CLUSTER)
    with_it, without = [listed(1), listed(2), listed(3)], [listed(1), listed(2)]
    assert removed(held, answers(without, without))
    assert not removed(held, answers(without, with_it))  # the first is behind
    assert not removed(held, answers(without, "down"))  # one of two may be behind
    assert removed(held, answers([listed(1)]))
    assert not removed(held, answers(with_it, with_it))
    assert not removed(held, {})
    assert not removed(held, answers(without, without, cluster=CLUSTER + 1))  # another group answers
    anew = [listed(1), listed(2), Listed(9, "", str(OWN), ran=False)]
    assert removed(held, answers(anew, anew))


def test_who_still_is_a_member() -> None:
    with_it, without = [listed(1), listed(3)], [listed(1)]
    assert still_member(data(), Identity(3, CLUSTER), answers(with_it))
    assert not still_member(data(), Identity(3, CLUSTER), answers(without))
    assert not still_member(
        data(), Identity(3, CLUSTER), answers([listed(1), Listed(9, "", str(OWN), ran=False)])
    )
    # Without data, only the peer says who it was.
    assert still_member(data(), None, answers(with_it))
    assert not still_member(data(), None, answers([listed(1), listed(3, ran=False)]))


def test_the_list_as_etcd_gives_it() -> None:
    page = (
        b'[{"id":9372538179322589801,"peerURLs":["https://10.0.0.1:2380"],"name":"a","clientURLs":["unix://x:0"]},'
        b'{"id":2,"peerURLs":["https://[2001:db8::1]:2380"],"isLearner":true}]\n'
    )
    assert decode(page, "cdf818194e3a8c32") == PeerList(
        0xCDF818194E3A8C32,
        (
            Listed(9372538179322589801, "a", "10.0.0.1:2380", ran=True),
            Listed(2, "", "[2001:db8::1]:2380", ran=False),
        ),
    )
    for wrong, cluster in ((b"{}", "1"), (b"[", "1"), (page, "")):
        with pytest.raises(MemberFault, match="cannot be read"):
            decode(wrong, cluster)


def frame(record: bytes, padding: int) -> bytes:
    length = len(record) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", length) + record + bytes(padding)


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def log(member: int, cluster: int) -> bytes:
    metadata = b"\x08" + varint(member) + b"\x10" + varint(cluster)
    first = b"\x08\x04\x10\x00"
    second = b"\x08\x01\x10" + varint(0xDEADBEEF) + b"\x1a" + varint(len(metadata)) + metadata
    return frame(first, 4) + frame(second, -len(second) % 8) + b"\0" * 100


@given(st.integers(1, 2**64 - 1), st.integers(1, 2**64 - 1))
def test_the_ids_in_a_log(member: int, cluster: int) -> None:
    assert etcd_wal.read(log(member, cluster)) == Identity(member, cluster)


@given(st.binary(max_size=200))
def test_a_log_that_is_none(head: bytes) -> None:
    etcd_wal.read(head)  # whatever it says, it ends


@given(st.integers(0, 60))
def test_a_log_that_is_cut_short(length: int) -> None:
    whole = log(2**63, 2**62)
    assert etcd_wal.read(whole[:length]) in (None, Identity(2**63, 2**62))


def test_forgetting(tmp_path: Path) -> None:
    member = data(tmp_path)
    assert not forget(member).changed
    (tmp_path / "data" / "member" / "wal").mkdir(parents=True)
    etcd_marker.write(member, Marker("member"))
    with pytest.raises(NobodyAnswers, match=r"none of the others answers \(none is known here\)"):
        forget(member)
    for number in (1, 2):
        done = forget(member, force=True, now=0.0)
        suffix = "removed-19700101T000000Z" + ("" if number == 1 else "-2")
        assert done.moved == (f"{tmp_path}/data.{suffix}", f"{tmp_path}/member.json.{suffix}")
        assert not forget(member).changed
        (tmp_path / "data").mkdir()
        assert not forget(member).changed  # an empty folder is nobody's
        etcd_marker.write(member, Marker("bootstrapping"))
    assert json.loads((tmp_path / "member.json.removed-19700101T000000Z").read_text()) == {"state": "member"}


def test_the_file_names_others_while_it_can_be_read(tmp_path: Path) -> None:
    from grey.store.etcd_bootstrap import others

    member = data(tmp_path)
    path = tmp_path / "bootstrap.json"
    assert others(member) == []
    path.write_text("{")
    assert others(member) == []
    path.write_text('{"state": "new", "token": "t", "members": {"a": "10.0.0.1:2380", "c": "10.0.0.3:2380"}}')
    assert others(member) == ["10.0.0.1:2380"]
