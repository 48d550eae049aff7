# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What measured values mean, and how the report shows them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _findings, _judgement
from ansible_collections.grey.distributed.plugins.module_utils._findings import Finding
from ansible_collections.grey.distributed.tests.unit.harness import Script, fails, passes

LIMITS: dict[str, Any] = {
    "ansible": "2.17",
    "etcd": "3.4",
    "max_clock_offset": 0.5,
    "sync_ms": 10.0,
    "worst_sync_ms": 100.0,
    "quota": "2Gi",
    "bandwidth_mbit": 10.0,
    "link_port": 8444,
    "store_heartbeat_ms": 0,
}
PLACED = {
    "a1": {"cluster": "a", "engine": "etcd", "member": True},
    "a2": {"cluster": "a", "engine": "etcd", "member": False},
    "b1": {"cluster": "b", "engine": "sqlite", "member": True},
}
PROBE: dict[str, Any] = {
    "deployed": True,
    "system": {"os": "Debian 12", "libc": "glibc 2.36", "python": "3.11.2", "architecture": "x86_64"},
    "machine": {"memory_mib": 4000, "cores": 2, "open_files": 65536},
    "disks": [
        {
            "path": "/var", "folders": ["/var/lib/grey"], "free_mib": 9000, "total_mib": 10000,
            "files": 1000, "files_free": 900, "sync_ms": 1.5, "worst_sync_ms": 8.0, "problem": "",
        }
    ],
    "clock": {
        "synchronised": True, "most_error_ms": 3.0, "service": {"unit": "chrony.service"},
        "offset": {"least": -0.1, "most": 0.1},
    },
    "versions": {"etcd": "3.4.23"},
    "heartbeats": {"federation-store": 100},
    "listens": {"8080": True, "8443": True},
    "reached": 4,
    "unreached": [],
    "certificates": [
        {"name": "federation", "there": True, "reasons": [], "until": "2027-01-01 00:00:00",
         "served": [{"port": 8443, "state": "file", "problem": ""}]}
    ],
}  # fmt: skip
LINK = {
    "host": "a1", "by": "listener", "round_trip_ms": 71.2, "offset_ms": 0.3, "offset_error_ms": 35.0,
    "to_mbit": 400.0, "from_mbit": 380.0, "problem": "",
}  # fmt: skip


def values() -> dict[str, Any]:
    """Return what three good hosts answered."""
    hosts = PLACED
    return {
        "controller": {"ansible": "2.19.4"},
        "placed": copy.deepcopy(PLACED),
        "preflights": {host: {"faults": [], "release": "0.2.0-aa"} for host in hosts},
        "probes": {host: copy.deepcopy(PROBE) for host in hosts},
        "links": {"a1": {"skipped": True}, "b1": {"links": [dict(LINK)]}},
    }


def judged(found: dict[str, Any], **limits: Any) -> list[Finding]:
    return _judgement.judge(_judgement.View(limits=_judgement.Limits(**{**LIMITS, **limits}), **found))


def bad(found: dict[str, Any], **limits: Any) -> list[tuple[str, str, str, str, str]]:
    return [
        (each.section, each.state, each.where, each.what, each.value)
        for each in judged(found, **limits)
        if each.state != "ok"
    ]


def test_good_hosts_have_no_faults() -> None:
    found = judged(values())
    assert {each.state for each in found} == {"ok"}
    assert {each.section for each in found} == {
        "hosts", "versions", "hardware", "disks", "clocks", "ports", "links", "certificates",
    }  # fmt: skip
    wanted = "100 ms, the federation store's heartbeat"
    assert Finding("links", "ok", "b - a", "round trip", "71.2 ms", wanted) in found


def test_before_the_first_deploy_nothing_is_missing() -> None:
    found = values()
    for probe in found["probes"].values():
        probe |= {"deployed": False, "versions": {"etcd": None}, "listens": {"8080": False}}
        probe["certificates"] = [
            {"name": "federation", "there": False, "reasons": None, "until": None, "served": []}
        ]
    for preflight in found["preflights"].values():
        preflight["release"] = None
    assert bad(found) == []


def test_an_unreachable_host_is_named_and_the_others_are_judged() -> None:
    found = values()
    found["preflights"]["a2"] = {"unreachable": True, "msg": "Connection timed out"}
    found["probes"]["a2"] = {"skipped": True}
    lost = {
        "host": "a2",
        "port": 2390,
        "purpose": "engine",
        "state": "silent",
        "problem": "no answer within 2 s",
    }
    found["probes"]["a1"]["unreached"] = [lost]
    assert bad(found) == [
        ("hosts", "fault", "a2", "connection", "Connection timed out"),
        ("ports", "warning", "a2", "2390 (engine)", "from a1: no answer within 2 s"),
    ]
    found["probes"]["b1"] = {"msg": "no such module"}
    assert ("hosts", "fault", "b1", "measuring", "no such module") in bad(found)


def test_what_the_preflight_refuses_is_a_fault_here() -> None:
    found = values()
    found["preflights"]["a1"]["faults"] = [
        "a1: port 8080 (API): wanted it free on 192.0.2.1, found nginx; stop it"
    ]
    [fault] = [each for each in judged(found) if each.state != "ok"]
    assert fault == Finding(
        "hosts", "fault", "a1", "port 8080 (API)", "nginx", "it free on 192.0.2.1", "stop it"
    )


@pytest.mark.parametrize(
    ("where", "change", "expected"),
    [
        (("system", "architecture"), "arm",
         ("versions", "warning", "a", "architecture", "x86_64 on a1; arm on a2")),
        (("versions", "etcd"), "3.3.1", ("versions", "fault", "a2", "etcd", "3.3.1")),
        (("versions", "etcd"), None, ("versions", "fault", "a2", "etcd", "none that runs")),
        (("machine", "cores"), 1, ("hardware", "warning", "a2", "cores", "1")),
        (("machine", "open_files"), 1024, ("hardware", "warning", "a2", "open files", "1024")),
        (("disks", 0, "free_mib"), 100, ("disks", "warning", "a2", "room at /var", "100 of 10000 MiB free")),
        (("disks", 0, "files_free"), 9, ("disks", "warning", "a2", "file numbers at /var", "9 of 1000 free")),
        (("disks", 0, "sync_ms"), 20.0, ("disks", "warning", "a2", "sync at /var", "20.0 ms, at worst 8 ms")),
        (("disks", 0, "sync_ms"), 120.0, ("disks", "fault", "a2", "sync at /var", "120.0 ms, at worst 8 ms")),
        (("clock", "synchronised"), False, ("clocks", "warning", "a2", "synchronised", "nothing keeps it")),
        (("clock", "offset"), {"least": 0.7, "most": 0.9},
         ("clocks", "fault", "a2", "to the controller", "+0.800 s (within 0.100 s)")),
        (("clock", "offset"), None, ("clocks", "warning", "a2", "to the controller", "not measured")),
        (("listens", "8443"), False, ("ports", "fault", "a2", "own", "nobody listens on 8443")),
        (("certificates", 0, "there"), False, ("certificates", "fault", "a2", "federation", "missing")),
        (("certificates", 0, "reasons"), ["foreign issuer"],
         ("certificates", "fault", "a2", "federation", "foreign issuer")),
        (("certificates", 0, "reasons"), ["expires at 2027"],
         ("certificates", "warning", "a2", "federation", "expires at 2027")),
        (("certificates", 0, "served", 0, "state"), "other",
         ("certificates", "warning", "a2", "federation, served at 8443",
          "another certificate than that in the file")),
        (("certificates", 0, "served", 0), {"port": 8443, "state": "refused", "problem": "self-signed"},
         ("certificates", "fault", "a2", "federation, served at 8443", "refused: self-signed")),
    ],
)  # fmt: skip
def test_each_value_is_judged(where: tuple[Any, ...], change: Any, expected: tuple[str, ...]) -> None:
    found = values()
    part = found["probes"]["a2"]
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = change
    assert bad(found) == [expected]


def test_hosts_of_one_cluster_on_different_releases_are_noted() -> None:
    found = values()
    found["preflights"]["a2"]["release"] = "0.1.0-bb"
    found["preflights"]["b1"]["release"] = "0.3.0-cc"
    assert bad(found) == [("versions", "warning", "a", "release", "0.2.0-aa on a1; 0.1.0-bb on a2")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"by": "connect", "to_mbit": None, "offset_ms": None, "problem": "does not answer"},
         [("links", "warning", "b - a", "bandwidth",
           "not measured: port 8444 of a1, from b1: does not answer")]),
        ({"by": "connect", "round_trip_ms": None, "offset_ms": None, "problem": "does not answer"},
         [("links", "fault", "b - a", "round trip", "nothing comes back from a1 to b1")]),
        ({"round_trip_ms": 120.0}, [("links", "warning", "b - a", "round trip", "120.0 ms")]),
        ({"to_mbit": 4.0}, [("links", "warning", "b - a", "bandwidth", "4 Mbit/s there, 380 Mbit/s back")]),
        ({"offset_ms": -900.0}, [("clocks", "fault", "b1", "a1 to b1", "-900.0 ms (within 35.0 ms)")]),
        ({"offset_ms": 520.0}, []),
    ],
)  # fmt: skip
def test_each_link_is_judged(change: dict[str, Any], expected: list[tuple[str, ...]]) -> None:
    found = values()
    found["links"]["b1"]["links"][0] |= change
    assert bad(found) == expected


def test_a_heartbeat_that_is_set_counts() -> None:
    found = values()
    assert bad(found, store_heartbeat_ms=50) == [("links", "warning", "b - a", "round trip", "71.2 ms")]
    found["placed"]["b1"]["member"] = False
    assert bad(found, store_heartbeat_ms=50) == []


def test_an_old_ansible_is_a_fault() -> None:
    assert bad({**values(), "controller": {"ansible": "2.16.9"}}) == [
        ("versions", "fault", "controller", "ansible-core", "2.16.9")
    ]


@pytest.mark.parametrize(("size", "mebibytes"), [("2Gi", 2048), ("500M", 476), ("64Mi", 64), ("x", 0)])
def test_sizes(size: str, mebibytes: int) -> None:
    assert _judgement.mebibytes(size) == mebibytes


def test_the_table_has_the_worst_first_and_hosts_that_say_the_same_together() -> None:
    findings = [
        *(Finding("clocks", "ok", f"h{number}", "synchronised", "chrony keeps it") for number in range(5)),
        Finding("clocks", "fault", "h9", "to the controller", "+9 s", "at most 0.5 s", "set it"),
        Finding("disks", "ok", "h1", "room", "9 MiB"),
    ]
    assert _findings.table(findings) == [
        "CLOCKS",
        "state  where          what               value            wanted         next step",
        "fault  h9             to the controller  +9 s             at most 0.5 s  set it",
        "ok     h0 and 4 more  synchronised       chrony keeps it",
        "",
        "DISKS",
        "state  where  what  value",
        "ok     h1     room  9 MiB",
        "",
        "1 faults, 0 warnings, 6 ok",
    ]


def test_the_report_says_it_all(tmp_path: Path) -> None:
    found = values()
    found["probes"]["a1"]["disks"][0]["sync_ms"] = 200.0
    args = {"title": "fleet", "limits": LIMITS, **found}
    answer = passes("grey_report", args)
    assert not answer["changed"]
    assert answer["summary"]["fault"] == 1
    assert answer["faults"] == [
        (
            "a1: disks: sync at /var: wanted 10 ms, found 200.0 ms, at worst 8 ms; take a faster disk (SSD), "
            "or one that others use less: etcd syncs each write"
        )
    ]
    assert "fault  a1" in answer["table"]

    def state() -> dict[str, str]:
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    as_json, as_markdown = ({**args, "dest": str(tmp_path / name)} for name in ("r.json", "r.md"))
    wrong = [
        ({**args, "dest": str(tmp_path / "r.txt")},
         f"report: wanted a file that ends with .json or .md, found {tmp_path}/r.txt"),
    ]  # fmt: skip
    Script("grey_report", state, create=as_json, update=as_markdown, wrong=wrong).play()
    written = json.loads(state()["r.json"])
    assert written["summary"] == answer["summary"]
    assert written["values"]["probes"]["b1"]["system"]["os"] == "Debian 12"
    assert "## Clocks" in state()["r.md"]
    assert "| fault | a1 | sync at /var | 200.0 ms, at worst 8 ms | 10 ms |" in state()["r.md"]


def test_wrong_parameters() -> None:
    assert fails("grey_report", {}) == (
        "missing required arguments: controller, limits, placed, preflights, probes, title"
    )
