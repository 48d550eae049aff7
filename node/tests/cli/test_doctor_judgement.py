# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor makes of clocks and disks, without either."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from grey.cli.doctor import certificates, clock, disk, engine
from grey.cli.doctor.clock import Heard, Kernel
from grey.cli.doctor.disk import Room
from grey.link.etcd_health import MemberHealth

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from support.pki import Authority

    from grey.cli.doctor.findings import Finding

GOOD = Kernel(synchronised=True, most_error_seconds=0.012)
GIB = 1024**3


def states(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.state) for finding in findings]


def heard(peer: str, offset: float, *, now: float = 1000.9, took: float = 0.1) -> Heard:
    """What a peer whose clock is ahead by ``offset`` says, with the truth in the middle of the exchange."""
    return Heard(peer, float(int(now + offset)), now - took / 2, now + took / 2)


@pytest.mark.parametrize(
    ("kernel", "state"), [(GOOD, "ok"), (Kernel(False, 16.0), "warning"), (None, "warning")]
)
def test_a_clock_that_is_kept(kernel: Kernel | None, state: str) -> None:
    assert states(clock.look(kernel, (), 0.5)) == [("synchronised", state)]


@pytest.mark.parametrize("offset", [-0.4, 0.0, 0.05])
@pytest.mark.parametrize("now", [1000.0, 1000.3, 1000.999])
def test_clocks_that_may_agree_are_not_accused(offset: float, now: float) -> None:
    """A Date says whole seconds: what it leaves open counts for the peer."""
    assert abs(heard("b", offset, now=now).least_offset_seconds) <= abs(offset)


@pytest.mark.parametrize("offset", [-30.0, -3.0, 3.0, 30.0])
def test_how_far_clocks_are_apart_at_least(offset: float) -> None:
    found = heard("b", offset).least_offset_seconds
    assert abs(offset) - 1.1 <= abs(found) <= abs(offset)
    assert (found > 0) == (offset > 0)


def test_whose_clock_is_wrong() -> None:
    three = [heard("b", 0.0), heard("c", 5.0), heard("d", 0.0)]
    found = list(clock.look(GOOD, three, 0.5))
    assert states(found) == [("synchronised", "ok"), ("offset", "warning")]
    assert "the clock of c is at least " in found[1].found
    assert "s ahead" in found[1].found
    found = list(clock.look(GOOD, [heard("b", -5.0), heard("c", -5.0), heard("d", 0.0)], 0.5))
    assert states(found)[1] == ("offset", "problem")
    assert "b at least " in found[1].found
    assert states(clock.look(GOOD, [heard("b", 0.2)], 0.5))[1] == ("offset", "ok")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("Sun, 22 Nov 2026 23:41:37 GMT", 1795390897.0), ("soon", None), (None, None), ("", None)],
)
def test_a_date_header(header: str | None, seconds: float | None) -> None:
    assert clock.date_of(header) == seconds


def test_the_kernel_answers_here() -> None:
    found = clock.kernel_clock()
    assert found is None or found.most_error_seconds >= 0


@pytest.mark.parametrize(
    ("room", "quota", "expected"),
    [
        (Room(100 * GIB, 50 * GIB, 1000, 500), 0, [("space", "ok"), ("inodes", "ok")]),
        (Room(100 * GIB, 10 * GIB, 0, 0), 0, [("space", "warning")]),
        (Room(100 * GIB, 4 * GIB, 0, 0), 0, [("space", "problem")]),
        (Room(GIB, 200 * 1024**2, 0, 0), 0, [("space", "problem")]),
        (Room(2 * GIB, GIB - 1, 0, 0), 0, [("space", "warning")]),
        (Room(10 * GIB, 5 * GIB, 0, 0), 8 * GIB, [("space", "warning")]),
        (Room(10 * GIB, 5 * GIB, 1000, 40), 0, [("space", "ok"), ("inodes", "warning")]),
        (Room(10 * GIB, 5 * GIB, 1000, 9), 0, [("space", "ok"), ("inodes", "problem")]),
        (Room(10 * GIB, 5 * GIB, 0, 0, True), 0, [("writable", "problem"), ("space", "ok")]),
    ],
)
def test_room(room: Room, quota: int, expected: list[tuple[str, str]]) -> None:
    assert states(disk.judge("/data", room, quota)) == expected


def test_folders_on_one_disk_are_one_finding(tmp_path: Path) -> None:
    folders = {"data": str(tmp_path), "engine": str(tmp_path / "not" / "there")}
    found = [finding for finding in disk.look(folders, {}) if finding.check == "space"]
    assert len(found) == 1
    assert f"{tmp_path} (data, engine): " in found[0].found


def member(**more: object) -> MemberHealth:
    plain = {"endpoint": "e:1", "name": "m", "reachable": True, "leader": False, "has_leader": True}
    plain |= {"database_bytes": 1024, "alarms": [], "problem": None}
    return msgspec.convert(plain | more, MemberHealth)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [("m", "ok")]),
        ({"has_leader": False, "alarms": ["etcdserver: no leader"]}, [("m", "warning")]),
        (
            {"reachable": False, "has_leader": False, "problem": "no answer", "name": None},
            [("e:1", "warning")],
        ),
        ({"alarms": ["memberID:1 alarm:NOSPACE "]}, [("m", "problem"), ("m", "ok")]),
        ({"alarms": ["alarm:NEW"]}, [("m", "problem"), ("m", "ok")]),
    ],
)
def test_a_member(more: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert states(engine._of_member(engine.ENGINE, member(**more), "start it")) == expected


@pytest.mark.parametrize(("used", "state"), [(79, "ok"), (81, "warning")])
def test_a_quota(used: int, state: str) -> None:
    assert states(engine._quota(member(database_bytes=used * GIB), 100 * GIB)) == [("quota", state)]
    assert states(engine._quota(member(database_bytes=None), 100 * GIB)) == []


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * GIB, "5.0 GiB"), (3 * 1024 * GIB, "3.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert disk.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90, "90 seconds"), (600, "10 minutes"), (86_400, "24 hours"), (864_000, "10 days")],
)
def test_spans(seconds: float, text: str) -> None:
    assert certificates.span(seconds) == text


def test_a_certificate_near_its_end(authority: Authority, tmp_path: Path) -> None:
    tls = authority.issue(tmp_path, "a", dns=["a.test"])
    day = 86_400
    now = time.time()
    assert states(certificates.look("node", tls, now)) == [("node", "ok")]
    # It lives two days, one of them is over: the last third begins 16 hours before its end.
    assert states(certificates.look("node", tls, now + day / 2)) == [("node", "warning")]
    assert states(certificates.look("node", tls, now + 2 * day)) == [("node", "problem")]
    early = list(certificates.look("node", tls, now - 2 * day))
    assert states(early) == [("node", "problem")]
    assert early[0].next == "set the clock"


def test_a_root_that_is_over_beside_one_that_is_not(authority: Authority, tmp_path: Path) -> None:
    tls = authority.issue(tmp_path, "a", dns=["a.test"], addresses=["127.0.0.9"])
    assert states(certificates.look("node", tls, time.time(), hosts=["127.0.0.9", "a.test"])) == [
        ("node", "ok")
    ]
    found = list(certificates._roots("node", tls, time.time() + 10 * 86_400))
    assert states(found) == [("node", "problem")]
