# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from cli.conftest import STATUS, cluster
from ruamel.yaml import YAML
from support.fake_api import answer, delay, drop, raw

from grey.cli import status
from grey.cli.table import ASCII, UNICODE
from grey.client.control import FederationStatus

if TYPE_CHECKING:
    from cli.conftest import Site

DOCUMENT = """\
┌────────────────────────────────────────────────────────────────┐
│                     Grey Federation Status                     │
├───────────────┬────────────┬──────────────┬────────────────────┤
│ Cluster       │ Status     │ Lag          │ Throughput         │
├───────────────┼────────────┼──────────────┼────────────────────┤
│ aws-east      │ ● Primary  │ -            │ 45,230 ops/s       │
│ gcp-west      │ ● Replica  │ 82ms         │ 12,450 ops/s       │
│ edge-chicago  │ ● Replica  │ 340ms        │ 2,100 ops/s        │
│ edge-london   │ ○ Offline  │ N/A          │ 0 ops/s            │
└───────────────┴────────────┴──────────────┴────────────────────┘
federation global-grey, epoch 1, 3 of 3 voters reachable
"""

PLAIN = """\
+----------------------------------------------------------------+
|                     Grey Federation Status                     |
+---------------+------------+--------------+--------------------+
| Cluster       | Status     | Lag          | Throughput         |
+---------------+------------+--------------+--------------------+
| aws-east      | * Primary  | -            | 45,230 ops/s       |
| gcp-west      | * Replica  | 82ms         | 12,450 ops/s       |
| edge-chicago  | * Replica  | 340ms        | 2,100 ops/s        |
| edge-london   | o Offline  | N/A          | 0 ops/s            |
+---------------+------------+--------------+--------------------+
federation global-grey, epoch 1, 3 of 3 voters reachable
"""

TWO = """\
┌──────────┬───────┐
│ name     │ lag   │
├──────────┼───────┤
│ aws-east │ -     │
│ gcp-west │ 0.082 │
└──────────┴───────┘
"""


def document(**more: object) -> FederationStatus:
    return msgspec.convert({"answered_by": "x", **STATUS, **more}, FederationStatus)


@pytest.mark.parametrize("args", [[], ["-o", "table"], ["-o", "table", "--no-color"]])
def test_the_table_of_the_document(site: Site, args: list[str]) -> None:
    done = site.run("federation", "status", "--federation", "global-grey", *args)
    assert (done.stdout, done.stderr, done.exit_code) == (DOCUMENT, "", 0)


def test_in_ascii(site: Site) -> None:
    done = site.run("federation", "status", charset="ascii")
    assert (done.stdout, done.exit_code) == (PLAIN, 0)


def test_json_is_what_the_control_plane_said(site: Site) -> None:
    site.fake.status = {**STATUS, "news": "of a later version"}
    done = site.run("federation", "status", "-o", "json")
    assert json.loads(done.stdout) == {**site.fake.status, "answered_by": "aws-east-1"}
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("clusters[?!online].name", ["edge-london"]),
        ("primary", "aws-east"),
        ("nothing", None),
    ],
)
def test_query(site: Site, query: str, found: object) -> None:
    done = site.run("federation", "status", "--query", query)
    assert (json.loads(done.stdout), done.exit_code) == (found, 0)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("a[", "--query 'a[' is wrong at character 3: Incomplete expression"),
        ("clusters[0].na-me", "--query 'clusters[0].na-me' is wrong at character 15: Unknown token '-'"),
        ("", "--query '' cannot be carried out: Invalid JMESPath expression: cannot be empty"),
        ("length(@, @)", "--query 'length(@, @)' cannot be carried out: Expected 1 argument"),
        ("no_such(@)", "--query 'no_such(@)' cannot be carried out: Unknown function: no_such()"),
    ],
)
def test_a_wrong_query(site: Site, query: str, message: str) -> None:
    done = site.run("federation", "status", "-o", "json", "--query", query)
    assert done.stderr.startswith(f"grey-ctl: {message}")
    assert done.stderr.endswith("; see https://jmespath.org for the language\n")
    assert (done.stdout, done.exit_code) == ("", 2)


def test_a_query_as_a_table(site: Site) -> None:
    done = site.run(
        "federation", "status", "-o", "table", "--query", "clusters[:2].{name: name, lag: lag_seconds}"
    )
    assert (done.stdout, done.exit_code) == (
        TWO,
        0,
    )


def test_yaml_says_the_same_as_json(site: Site) -> None:
    done = site.run("federation", "status", "-o", "yaml")
    assert YAML(typ="safe").load(done.stdout) == json.loads(
        site.run("federation", "status", "-o", "json").stdout
    )
    done = site.run("federation", "status", "-o", "yaml", "--query", "voters")
    assert done.stdout == "total: 3\nreachable: 3\n"


def test_colours_in_a_pipe_only_when_asked_for(site: Site) -> None:
    assert "\x1b[" not in site.run("federation", "status").stdout
    assert "\x1b[" in site.run("--color", "always", "federation", "status").stdout
    assert "\x1b[" in site.run("federation", "status", "--color", "always").stdout
    assert "\x1b[" not in site.run("--color", "always", "federation", "status", "--no-color").stdout
    done = site.run("federation", "status", "--color", "always", "--no-color")
    assert (done.stderr, done.exit_code) == (
        "grey-ctl: --no-color and --color always exclude each other; give one of them\n",
        2,
    )


@pytest.mark.parametrize(("reachable", "total", "needed"), [(0, 3, 2), (1, 3, 2), (2, 4, 3), (2, 3, None)])
def test_too_few_voters_are_a_warning(site: Site, reachable: int, total: int, needed: int | None) -> None:
    site.fake.status = {**STATUS, "voters": {"total": total, "reachable": reachable}}
    done = site.run("federation", "status")
    said = (
        f"grey-ctl: {reachable} of {total} voters reachable, writes need {needed}: they stop when "
        "detection_time (30s) has passed; start greyd's federation store there, or mend the network\n"
    )
    assert (done.stderr, done.exit_code) == ("" if needed is None else said, 0)


def test_no_primary_is_shown_and_fails(site: Site) -> None:
    site.fake.status = {
        **copy.deepcopy(STATUS),
        "epoch": None,
        "primary": None,
        "voters": {"total": 3, "reachable": 2},
        "clusters": [
            cluster("aws-east", "refused", None, 0, problem="the data is damaged"),
            cluster("gcp-west", "copying", None, 3.0),
            cluster("edge-chicago", "unknown", None, 0, position=None, epoch=None, last_seen_seconds=None),
        ],
    }
    done = site.run("federation", "status")
    assert done.stdout.splitlines()[5:] == [
        "│ aws-east      │ ○ Refused  │ N/A          │ 0 ops/s            │",
        "│ gcp-west      │ ● Copying  │ N/A          │ 3 ops/s            │",
        "│ edge-chicago  │ ○ Unknown  │ N/A          │ 0 ops/s            │",
        "└───────────────┴────────────┴──────────────┴────────────────────┘",
        "federation global-grey, epoch none yet, 2 of 3 voters reachable",
    ]
    assert done.stderr == (
        "grey-ctl: aws-east: the data is damaged\n"
        "grey-ctl: no cluster is the primary, nothing can be written; "
        "look at the clusters above, and at greyd's log on the voters\n"
    )
    assert done.exit_code == 1


def test_the_next_is_asked_when_one_does_not_answer(site: Site) -> None:
    site.fake.stop("aws-east")
    site.fake["gcp-west"].control_script.append(delay(5))
    done = site.run("federation", "status", "-o", "json", "--query", "answered_by", "--timeout", "300ms")
    assert (done.stdout, done.exit_code) == ('"edge-chicago-1"\n', 0)


def test_nobody_answers(site: Site) -> None:
    site.fake["aws-east"].control_script.append(answer(403, "forbidden"))
    site.fake["gcp-west"].control_script.append(raw(200, b"{}"))
    site.fake["edge-chicago"].control_script.extend([drop, drop])
    done = site.run("federation", "status")
    port = site.fake["aws-east"].control_port
    said = [
        (
            "no control plane answered; check that greyd runs there, and the network and the certificate "
            "from here to port 8443"
        ),
        f"aws-east (grey-east.example.com:{port}): forbidden: because forbidden",
        (
            f"gcp-west (grey-west.example.com:{port}): what it answered is not a status: "
            "Object missing required field `federation`"
        ),
        f"edge-chicago (grey-chi.edge.internal:{port}): the connection broke: Server disconnected",
        (
            f"control_plane (federation.grey.internal:{port}): its certificate is refused: Hostname "
            "mismatch, certificate is not valid for 'federation.grey.internal'."
        ),
    ]
    assert done.stderr == "".join(f"grey-ctl: {line}\n" for line in said)
    assert (done.stdout, done.exit_code) == ("", 4)


@pytest.mark.parametrize("width", [*range(20, 70), 200])
@pytest.mark.parametrize("signs", [UNICODE, ASCII])
def test_no_line_is_wider_than_the_terminal(width: int, signs: object) -> None:
    clusters = [*STATUS["clusters"], cluster("a-cluster-with-quite-a-long-name", "replica", 7512.0, 1e6)]
    lines = status.lines(document(clusters=clusters), signs, width)
    assert max(map(len, lines)) <= width
    frame = [line for line in lines if line[0] in "│|"]
    assert len(frame) == 2 + len(clusters)
    assert len({len(line) for line in frame}) == 1


def test_narrower_and_narrower() -> None:
    assert status.lines(document(), UNICODE, 55)[2:7] == [
        "├──────────────┬───────────┬───────┬──────────────┤",
        "│ Cluster      │ Status    │ Lag   │ Throughput   │",
        "├──────────────┼───────────┼───────┼──────────────┤",
        "│ aws-east     │ ● Primary │ -     │ 45,230 ops/s │",
        "│ gcp-west     │ ● Replica │ 82ms  │ 12,450 ops/s │",
    ]
    assert status.lines(document(), UNICODE, 50)[7:] == [
        "│ edge-chica… │ ● Replica │ 340ms │ 2,100 ops/s  │",
        "│ edge-london │ ○ Offline │ N/A   │ 0 ops/s      │",
        "└─────────────┴───────────┴───────┴──────────────┘",
        "federation global-grey, epoch 1, 3 of 3 voters",
        "reachable",
    ]
    assert status.lines(document(), ASCII, 44)[3:8] == [
        "| Cluster      | Status    | Lag   |",
        "+--------------+-----------+-------+",
        "| aws-east     | * Primary | -     |",
        "| gcp-west     | * Replica | 82ms  |",
        "| edge-chicago | * Replica | 340ms |",
    ]
    assert status.lines(document(), UNICODE, 20) == [
        "┌──────────────────┐",
        "│Grey Federation S…│",
        "├──────┬───────────┤",
        "│ Clu… │ Status    │",
        "├──────┼───────────┤",
        "│ aws… │ ● Primary │",
        "│ gcp… │ ● Replica │",
        "│ edg… │ ● Replica │",
        "│ edg… │ ○ Offline │",
        "└──────┴───────────┘",
        "federation global-",
        "grey, epoch 1, 3 of",
        "3 voters reachable",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0824, "82ms"),
        (0.9994, "999ms"),
        (0.9996, "1.0s"),
        (59.94, "59.9s"),
        (59.96, "1m 00s"),
        (125, "2m 05s"),
        (3599.6, "1h 00m"),
        (11520, "3h 12m"),
        (360000, "100h 00m"),
    ],
)
def test_lag(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text
