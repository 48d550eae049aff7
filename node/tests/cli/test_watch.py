# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl kv watch`` as a program that others read from."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.conftest import Site

GREY_CTL = str(Path(sys.executable).with_name("grey-ctl"))


@contextmanager
def watching(site: Site, *args: str) -> Iterator[subprocess.Popen[str]]:
    # The children of a background job of a shell ignore Ctrl-C, unless there is a handler here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [GREY_CTL, "kv", "watch", "--config", str(site.config), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_changes_are_lines_as_they_happen(site: Site) -> None:
    site.fake.put(b"user:0", b"before")
    with watching(site, "--prefix", "user:") as process:
        assert process.stdout is not None
        assert site.fake.watched("aws-east", 20)
        site.fake.put(b"order:1", b"elsewhere")
        site.fake.put(b"user:1", b"Ada")
        assert process.stdout.readline() == "1.3 put user:1 Ada\n"
        site.run("kv", "put", "user:2", "\n")
        assert process.stdout.readline() == "1.4 put user:2 (1 bytes)\n"
        site.run("kv", "delete", "user:1")
        assert process.stdout.readline() == "1.5 delete user:1\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "\ngrey-ctl: interrupted\n"


def test_each_change_is_a_line_of_json_for_a_program(site: Site) -> None:
    for number in range(3):
        site.fake.put(b"k%d" % number, b"\xff")
    done = site.run("kv", "watch", "--after", "1.1", "--limit", "2", "-o", "json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (lines[0], len(lines), done.exit_code) == (
        {
            "event": "put",
            "key": "k1",
            "key_text": "k1",
            "value_base64": "/w==",
            "value_text": None,
            "position": "1.2",
            "stamp": "1700000000.2",
            "origin": "aws-east",
            "cluster": "aws-east",
        },
        2,
        0,
    )
    done = site.run("kv", "watch", "--after", "1.0", "--limit", "1", "--query", "[event, position]")
    assert done.stdout == '["put", "1.1"]\n'
    done = site.run("kv", "watch", "--after", "1.0", "--limit", "2", "-o", "yaml")
    assert [each["key"] for each in YAML(typ="safe").load_all(done.stdout)] == ["k0", "k1"]


def test_a_position_that_is_gone_has_its_exit_code(site: Site) -> None:
    for number in range(5):
        site.fake.put(b"k%d" % number, b"")
    site.fake.records.compacted = 3
    done = site.run("kv", "watch", "--after", "1.1", "--limit", "1")
    assert (done.stderr, done.exit_code) == ("grey-ctl: because compacted; begin anew with --initial\n", 6)
    done = site.run("kv", "watch", "--after", "2.9", "--limit", "1")
    assert (done.stderr, done.exit_code) == ("grey-ctl: because diverged; begin anew with --initial\n", 6)
    done = site.run("kv", "watch", "--after", "1.99", "--timeout", "1s")
    assert "wait until that cluster has got so far, or begin anew with --initial" in done.stderr
    assert done.exit_code == 3
    done = site.run("kv", "watch", "--after", "never")
    assert done.exit_code == 2


def test_what_is_there_comes_first_and_nothing_is_missed(site: Site) -> None:
    for number in range(1002):
        site.fake.put(b"k%04d" % number, b"v")
    site.fake.put(b"other", b"")
    with watching(site, "--initial", "--prefix", "k") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(1003)]
        assert lines[0] == "1.1 present k0000 v\n"
        assert lines[-2:] == ["1.1002 present k1001 v\n", "1.1003 progress\n"]
        site.run("kv", "delete", "k0000")
        assert process.stdout.readline() == "1.1004 delete k0000\n"
    # From the position of that state on, the same change is told again.
    done = site.run("kv", "watch", "--after", "1.1003", "--limit", "1")
    assert done.stdout == "1.1004 delete k0000\n"
    done = site.run("kv", "watch", "--after", "1.1", "--initial")
    assert (done.stderr, done.exit_code) == (
        "grey-ctl: --initial and --after exclude each other; give one of them\n",
        2,
    )


def test_a_reader_that_goes_away_ends_it(site: Site) -> None:
    with watching(site) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert site.fake.watched("aws-east", 20)
        process.stdout.close()
        site.fake.put(b"k", b"v")
        assert (process.stderr.read(), process.wait(20)) == ("", 141)
        process.stdout = None


def test_what_is_there_as_json(site: Site) -> None:
    site.fake.put(b"k", b"v")
    with watching(site, "--initial", "-o", "json", "--cluster", "gcp-west") as process:
        assert process.stdout is not None
        present = json.loads(process.stdout.readline())
        assert (present["event"], present["key"], present["cluster"]) == ("present", "k", "gcp-west")
        assert json.loads(process.stdout.readline()) == {"event": "progress", "position": "1.1"}


def test_a_table_has_an_end(site: Site) -> None:
    done = site.run("kv", "watch", "-o", "table")
    assert "'table' is not one of 'text', 'json', 'yaml'" in done.stderr
    assert done.exit_code == 2
