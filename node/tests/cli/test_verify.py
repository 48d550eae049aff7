# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.fake_api import answer, delay, drop, error

if TYPE_CHECKING:
    from aiohttp import web
    from cli.conftest import Site

GREY_CTL = str(Path(sys.executable).with_name("grey-ctl"))
CANARY = re.compile(r"/v1/kv/grey-canary%2F[0-9a-f]{32}(\?consistency=eventual)?")


def times_hidden(text: str) -> str:
    return re.sub(r"[0-9,.]+ ms *│", lambda found: "TIME ms".ljust(len(found[0]) - 1) + "│", text)


def test_every_cluster_shows_the_canary(site: Site) -> None:
    done = site.run("federation", "verify", "--federation", "global-grey")
    assert (
        times_hidden(done.stdout)
        == """\
┌───────────────────────────────────────────┐
│           Grey Federation Check           │
├───────────────┬────────────┬──────────────┤
│ Cluster       │ Canary     │ Time         │
├───────────────┼────────────┼──────────────┤
│ aws-east      │ ● Written  │ TIME ms      │
│ gcp-west      │ ● Seen     │ TIME ms      │
│ edge-chicago  │ ● Seen     │ TIME ms      │
└───────────────┴────────────┴──────────────┘
federation global-grey, epoch 1: every cluster shows what was written
"""
    )
    assert (done.stderr, done.exit_code) == ("", 0)
    assert site.fake.data == {}
    assert [(seen.cluster, seen.method) for seen in sorted(site.fake.log)] == [
        ("aws-east", "DELETE"),
        ("aws-east", "PUT"),
        ("edge-chicago", "GET"),
        ("gcp-west", "GET"),
    ]
    assert all(CANARY.fullmatch(seen.path) for seen in site.fake.log)
    assert len({seen.path.partition("?")[0] for seen in site.fake.log}) == 1


def test_query(site: Site) -> None:
    done = site.run("federation", "verify", "--query", "clusters[?ok].name")
    assert json.loads(done.stdout) == ["aws-east", "gcp-west", "edge-chicago"]


def test_json(site: Site) -> None:
    site.fake.primary = "gcp-west"
    done = site.run("federation", "verify", "-o", "json")
    report = json.loads(done.stdout)
    for row in report["clusters"]:
        assert 0 < row.pop("milliseconds") < 10_000
    assert report == {
        "ok": True,
        "federation": "global-grey",
        "epoch": 1,
        "primary": "gcp-west",
        "clusters": [
            {"name": "aws-east", "ok": True, "problem": None},
            {"name": "gcp-west", "ok": True, "problem": None},
            {"name": "edge-chicago", "ok": True, "problem": None},
        ],
    }


def test_two_runs_use_two_keys(site: Site) -> None:
    for _ in range(2):
        assert site.run("federation", "verify").exit_code == 0
    assert len({seen.path for seen in site.fake.log if seen.method == "PUT"}) == 2


def test_a_late_cluster_is_waited_for(site: Site) -> None:
    async def last_time_hidden(request: web.BaseRequest) -> web.Response | None:
        return error(404, "not_found")

    site.fake["gcp-west"].script.extend([last_time_hidden] * 3 + [answer(503, "unavailable")])
    assert site.run("federation", "verify", "--wait", "5s").exit_code == 0
    assert site.fake.asked.count("gcp-west") == 5


def test_a_cluster_that_does_not_show_it(site: Site) -> None:
    site.fake["edge-chicago"].hides = True
    site.fake.stop("gcp-west")
    done = site.run("federation", "verify", "--wait", "1s", "-o", "json")
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert [(row["ok"], row["milliseconds"] is None) for row in report["clusters"]] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    port = site.fake["gcp-west"].port
    gone, hidden = (row["problem"] for row in report["clusters"][1:])
    assert hidden == "not seen in time: it was not there"
    assert gone.startswith("not seen in time: get grey-canary/")
    assert gone.endswith(f"gcp-west (grey-west.example.com:{port}): connection refused")
    assert done.stderr == (
        "grey-ctl: the write did not reach every cluster; see grey-ctl federation status\n"
        f"grey-ctl: gcp-west: {gone}\n"
        f"grey-ctl: edge-chicago: {hidden}\n"
    )
    assert done.exit_code == 1
    assert site.fake.data == {}


def test_the_table_of_a_failure(site: Site) -> None:
    site.fake["edge-chicago"].hides = True
    done = site.run("federation", "verify", "--wait", "1s", charset="ascii")
    assert "| edge-chicago  | o Missing  | N/A          |" in done.stdout.splitlines()
    assert done.stdout.endswith("federation global-grey, epoch 1: not every cluster shows what was written\n")


def test_nothing_can_be_written(site: Site) -> None:
    site.fake.primary = None
    done = site.run("federation", "verify", "--wait", "1s", "-o", "json")
    report = json.loads(done.stdout)
    assert (report["ok"], report["epoch"], report["primary"]) == (False, None, None)
    assert report["clusters"][0] == {
        "name": "aws-east",
        "ok": False,
        "milliseconds": None,
        "problem": "nothing could be written to look for",
    }
    assert done.stderr == "grey-ctl: because not_primary; do not_primary\n"
    assert done.exit_code == 3
    assert {seen.method for seen in site.fake.log} == {"PUT"}


def test_a_canary_that_may_have_been_written_is_removed(site: Site) -> None:
    site.fake["aws-east"].drops_answers = 1
    site.fake["aws-east"].script.extend([delay(0), answer(507, "disk_full")])
    done = site.run("federation", "verify", "--wait", "5s")
    assert done.exit_code == 4
    assert "may or may not have happened" in done.stderr
    assert site.fake.data == {}
    assert [seen.method for seen in site.fake.log if seen.cluster == "aws-east"] == ["PUT", "PUT", "DELETE"]


def test_a_canary_that_stays_is_named(site: Site) -> None:
    async def then_refuse(request: web.BaseRequest) -> web.Response | None:
        site.fake["aws-east"].script.append(answer(507, "disk_full"))
        return None

    site.fake["aws-east"].script.append(then_refuse)
    done = site.run("federation", "verify")
    (key,) = site.fake.data
    why = "the canary could not be removed: because disk_full"
    assert done.stderr == f"grey-ctl: {why}; run grey-ctl kv delete {key.decode()}\n"
    assert done.exit_code == 0


def test_interrupted_it_still_removes_the_canary(site: Site) -> None:
    """Ctrl-C while it waits: the canary goes, the exit code is 130."""
    site.fake["edge-chicago"].hides = True
    # The children of a background job of a shell ignore Ctrl-C, unless there is a handler here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [
            GREY_CTL,
            "federation",
            "verify",
            "--config",
            str(site.config),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert site.fake.seen("edge-chicago", 20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (out, err, process.returncode) == ("", "\ngrey-ctl: interrupted\n", 130)
    assert site.fake.data == {}


def test_drop_then_all_well(site: Site) -> None:
    site.fake["aws-east"].script.append(drop)
    assert site.run("federation", "verify").exit_code == 0
