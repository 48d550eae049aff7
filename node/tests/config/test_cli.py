# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl config``: exit codes, and what goes to which stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from grey.cli.config import config
from grey.config import federation, schema

DATA = Path(__file__).parent / "data"
UNCHECKED = (
    "grey-ctl: the rules between keys were not checked yet; correct the faults above, then check again"
)
GOOD = str(DATA / "federation.yaml")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(config, arguments)


@pytest.fixture
def wrong(tmp_path: Path, verbatim: str) -> str:
    path = tmp_path / "wrong.yaml"
    path.write_text(verbatim.replace("weight: 50", "wieght: 50").replace("mode: async", "mode: fast"))
    return str(path)


@pytest.fixture
def later(tmp_path: Path, verbatim: str) -> str:
    path = tmp_path / "later.yaml"
    path.write_text(verbatim.replace("mode: async", "mode: sync"))
    return str(path)


def test_check_says_in_one_line_that_a_file_is_right() -> None:
    result = run("check", GOOD)
    voters = "aws-east gcp-west edge-chicago"
    expected = f"{GOOD}: federation global-grey, 3 clusters, primary aws-east, voters {voters}\n"
    assert (result.exit_code, result.stdout, result.stderr) == (0, expected, "")


def test_check_refuses_with_every_fault_of_the_form(wrong: str) -> None:
    result = run("check", wrong)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"{wrong}:25: federation.clusters[1].wieght: unknown key; did you mean weight?",
        f'{wrong}:38: federation.replication.mode: expected one of sync, async, semi-sync; found "fast"',
        UNCHECKED,
    ]


def test_the_rules_between_keys_come_once_the_form_is_right(tmp_path: Path, verbatim: str) -> None:
    path = tmp_path / "two.yaml"
    two = verbatim.replace("role: replica", "role: primary", 1)
    path.write_text(two.replace("weight: 25", "weigth: 25"))
    typo = "federation.clusters[2].weigth: unknown key; did you mean weight?"
    result = run("check", str(path))
    assert (result.exit_code, result.stderr.splitlines()) == (
        2,
        [
            f"{path}:{line_of(path, 'weigth')}: {typo}",
            UNCHECKED,
        ],
    )
    path.write_text(two)
    result = run("check", str(path))
    assert (result.exit_code, result.stderr.splitlines()) == (
        2,
        [
            (
                f"{path}:24: federation.clusters[1].role: expected one primary in active-passive, "
                "found another one: aws-east is the primary; write role: replica"
            )
        ],
    )


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize("command", ["check", "show"])
def test_what_this_version_cannot_do_is_refused(later: str, command: str) -> None:
    result = run(command, later)
    message = "federation.replication.mode: mode sync is not available in this version; use async"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{later}:38: {message}\n")


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_file_that_is_not_there(tmp_path: Path, command: str) -> None:
    result = run(command, f"{tmp_path}/no.yaml")
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path}/no.yaml: no such file; check the path\n")


def test_show_prints_the_plain_form() -> None:
    result = run("show", GOOD, "-o", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == federation.to_plain(federation.load(GOOD))
    readable = run("show", GOOD)
    assert json.loads(readable.stdout) == json.loads(result.stdout)
    assert readable.stdout.startswith('{\n  "name": "global-grey",\n')


def test_show_has_faults_for_machines(wrong: str) -> None:
    result = run("show", wrong, "-o", "json")
    assert (result.exit_code, result.stderr) == (2, "")
    assert json.loads(result.stdout)["errors"][0] == {
        "file": wrong,
        "line": 25,
        "key": "federation.clusters[1].wieght",
        "message": "unknown key",
        "hint": "did you mean weight?",
    }


def test_schema_is_printed_as_it_is() -> None:
    result = run("schema")
    assert (result.exit_code, result.stdout) == (0, schema.text("schema.json"))


@pytest.mark.parametrize("arguments", [["check"], ["show", GOOD, "-o", "xml"], ["no"], ["check", GOOD, GOOD]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
