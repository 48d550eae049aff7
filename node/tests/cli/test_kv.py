# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fake_api import answer, delay, drop

from grey.client.keys import to_text

if TYPE_CHECKING:
    from cli.conftest import Site

GREY_CTL = str(Path(sys.executable).with_name("grey-ctl"))


def test_put_get_delete(site: Site) -> None:
    done = site.run("kv", "put", "user:123", "Ada")
    assert (done.stdout, done.stderr, done.exit_code) == ("stored user:123 at 1.1\n", "", 0)
    done = site.run("kv", "get", "user:123")
    assert (done.stdout_bytes, done.stderr, done.exit_code) == (b"Ada", "", 0)
    done = site.run("kv", "delete", "user:123")
    assert (done.stdout, done.exit_code) == ("deleted user:123 at 1.2\n", 0)
    done = site.run("kv", "delete", "user:123")
    assert (done.stdout, done.exit_code) == ("user:123 did not exist\n", 0)
    done = site.run("kv", "get", "user:123")
    # The primary itself answered: nobody knows better.
    said = "grey-ctl: the key user:123 does not exist\n"
    assert (done.stdout, done.stderr, done.exit_code) == ("", said, 1)
    done = site.run("kv", "get", "user:123", "--consistency", "strong")
    assert (done.stderr, done.exit_code) == (said, 1)
    done = site.run("kv", "get", "user:123", "--cluster", "gcp-west")
    assert (done.stderr, done.exit_code) == (
        (
            "grey-ctl: the key user:123 does not exist; "
            "gcp-west is a replica, --consistency strong asks the primary\n"
        ),
        1,
    )


def test_json(site: Site) -> None:
    done = site.run("kv", "put", "ключ", "\u00e9", "-o", "json")
    key = {"key": "%D0%BA%D0%BB%D1%8E%D1%87", "key_text": "ключ"}
    assert json.loads(done.stdout) == {**key, "position": "1.1", "stamp": "1700000000.1"}
    done = site.run("kv", "get", "ключ", "-o", "json", "--cluster", "gcp-west")
    assert json.loads(done.stdout) == {
        **key,
        "value_base64": "w6k=",
        "value_text": "é",
        "position": "1.1",
        "stamp": "1700000000.1",
        "origin": "aws-east",
        "cluster": "gcp-west",
        "lag_seconds": 0.25,
    }
    site.fake.put(b"\xff", b"\xfe")
    done = site.run("kv", "get", "%FF", "--key-encoding", "percent", "--query", "[key, key_text, value_text]")
    assert json.loads(done.stdout) == ["%FF", None, None]
    done = site.run("kv", "delete", "ключ", "-o", "json")
    assert json.loads(done.stdout) == {**key, "existed": True, "position": "1.3", "stamp": "1700000000.3"}
    done = site.run("kv", "delete", "ключ", "-o", "json")
    assert json.loads(done.stdout) == {**key, "existed": False, "position": None, "stamp": None}


def test_values_are_bytes(site: Site) -> None:
    value = bytes(range(256)) * 3
    (site.folder / "value").write_bytes(value)
    assert site.run("kv", "put", "a", "--file", str(site.folder / "value")).exit_code == 0
    assert site.run("kv", "get", "a").stdout_bytes == value
    assert site.run("kv", "put", "b", "-", input=value).exit_code == 0
    assert site.run("kv", "put", "c", "--file", "-", input=value).exit_code == 0
    assert site.run("kv", "put", "d", "").exit_code == 0
    assert [site.fake.data[key].value for key in (b"a", b"b", b"c", b"d")] == [value, value, value, b""]


@pytest.mark.parametrize("args", [[], ["x", "--file", "-"]])
def test_a_put_needs_one_value(site: Site, args: list[str]) -> None:
    done = site.run("kv", "put", "k", *args, input=b"")
    assert (done.stderr, done.exit_code) == (
        "grey-ctl: a put needs one value; give VALUE, - for standard input, or --file FILE, and only one\n",
        2,
    )


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=12, database=None
)
@given(key=st.binary(min_size=1, max_size=20))
def test_any_key_can_be_written(site: Site, key: bytes) -> None:
    site.fake.data.clear()
    text = to_text(key)
    done = site.run("kv", "put", "--key-encoding", "percent", "--", text, "v")
    assert (done.stdout.startswith(f"stored {text} at 1."), done.exit_code) == (True, 0)
    assert list(site.fake.data) == [key]
    assert site.run("kv", "list", "--key-encoding", "percent").stdout == f"{text}\n"


def test_wrong_keys(site: Site) -> None:
    done = site.run("kv", "get", "a%zz", "--key-encoding", "percent")
    assert (done.stderr, done.exit_code) == (
        (
            "grey-ctl: 'a%zz' is not a key in percent-encoded text: % and all but 0x21 to 0x7e are %XX; "
            "give the key without --key-encoding percent, or escape it\n"
        ),
        2,
    )
    done = site.run("kv", "get", "\udcff")
    assert (done.stderr, done.exit_code) == (
        "grey-ctl: the key is not UTF-8; write it with %XX and --key-encoding percent\n",
        2,
    )
    done = site.run("kv", "get", "")
    assert (done.stderr, done.exit_code) == ("grey-ctl: a key has 1 to 1024 bytes, this one has 0\n", 2)
    assert site.fake.log == []


def test_list(site: Site) -> None:
    for number in range(1205):
        site.fake.put(b"p/%04d" % number, b"v%d" % number)
    site.fake.put("q/ü".encode(), b"\xff")
    done = site.run("kv", "list", "--prefix", "p/")
    assert done.stdout.splitlines() == [f"p/{number:04}" for number in range(1205)]
    assert len(site.fake.log) == 2
    assert site.run("kv", "list", "--prefix", "p/", "--limit", "2").stdout == "p/0000\np/0001\n"
    done = site.run("kv", "list", "--prefix", "q", "-o", "json", "--cluster", "edge-chicago")
    assert json.loads(done.stdout) == [
        {
            "key": "q/%C3%BC",
            "key_text": "q/ü",
            "position": "1.1206",
            "stamp": "1700000000.1206",
            "value_base64": "/w==",
            "value_text": None,
        }
    ]
    assert site.fake.asked[-1] == "edge-chicago"
    done = site.run("kv", "list", "--prefix", "nothing")
    assert (done.stdout, done.exit_code) == ("", 0)


@pytest.mark.parametrize(("charset", "letter"), [("utf-8", "ü"), ("ascii", "%C3%BC")])
def test_keys_that_are_not_plain_text_are_shown_with_percent(site: Site, charset: str, letter: str) -> None:
    keys = [b"a b", b"b\nc", b"b%0A", "ü".encode(), b"\xff"]
    shown = ["a b", "b%0Ac", "b%250A", letter, "%FF"]
    for key in keys:
        site.fake.put(key, b"")
    done = site.run("kv", "list", charset=charset)
    assert (done.stdout.splitlines(), done.stderr, done.exit_code) == (shown, "", 0)
    done = site.run("kv", "list", "--key-encoding", "percent", charset=charset)
    assert (done.stdout, done.exit_code) == ("a%20b\nb%0Ac\nb%250A\n%C3%BC\n%FF\n", 0)
    done = site.run("kv", "put", "b%0A", "v", charset=charset)
    assert done.stdout == "stored b%250A at 1.6\n"
    done = site.run("kv", "delete", "b\nc", charset=charset)
    assert done.stdout == "deleted b%0Ac at 1.7\n"


@pytest.mark.parametrize(
    ("charset", "shown"), [("utf-8", "😀é\\u009b"), ("ascii", "\\ud83d\\ude00\\u00e9\\u009b")]
)
def test_json_escapes_no_more_than_it_must(site: Site, charset: str, shown: str) -> None:
    site.fake.put(b"k", "😀é\u009b".encode())
    done = site.run("kv", "get", "k", "--query", "value_text", charset=charset)
    assert (done.stdout, done.exit_code) == (f'"{shown}"\n', 0)


@pytest.mark.parametrize(
    ("primary", "where"),
    [({"cluster": "aws-east", "endpoint": "a:1"}, "aws-east"), (None, "NAME of another cluster")],
)
def test_too_stale_speaks_of_options(site: Site, primary: object, where: str) -> None:
    site.fake["gcp-west"].script.extend([answer(503, "too_stale", primary=primary, lag_seconds=7.0)] * 50)
    done = site.run("kv", "get", "k", "--max-staleness", "1s", "--cluster", "gcp-west", "--timeout", "700ms")
    hint = f"read with --cluster {where}, or allow more with --max-staleness"
    assert (done.stderr, done.exit_code) == (f"grey-ctl: because too_stale; {hint}\n", 3)


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        ([], ("aws-east", "eventual")),
        (["--consistency", "strong"], ("aws-east", "strong")),
        (["--max-staleness", "1.5s"], ("aws-east", "bounded&max_staleness=1500ms")),
        (
            ["--consistency", "bounded", "--max-staleness", "5s", "--cluster", "gcp-west"],
            ("gcp-west", "bounded&max_staleness=5000ms"),
        ),
    ],
)
def test_consistency(site: Site, args: list[str], asked: tuple[str, str]) -> None:
    site.fake.put(b"k", b"v")
    assert site.run("kv", "get", "k", *args).stdout == "v"
    assert [(seen.cluster, seen.path) for seen in site.fake.log] == [
        (asked[0], f"/v1/kv/k?consistency={asked[1]}")
    ]


@pytest.mark.parametrize(
    "args", [["--consistency", "bounded"], ["--consistency", "strong", "--max-staleness", "5s"]]
)
def test_bounded_needs_its_bound(site: Site, args: list[str]) -> None:
    done = site.run("kv", "get", "k", *args)
    assert (done.stderr, done.exit_code) == (
        (
            "grey-ctl: --consistency bounded and --max-staleness belong together; "
            "for example --max-staleness 5s\n"
        ),
        2,
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (
            "soon",
            (
                "expected a duration, found "
                '"soon"; write a number and ms, s, m, h or d, for example 100ms, 30s or 24h'
            ),
        ),
        ("0s", "it must be longer than nothing"),
    ],
)
def test_wrong_durations(site: Site, value: str, why: str) -> None:
    done = site.run("kv", "get", "k", "--timeout", value)
    assert done.stderr == f"grey-ctl: Invalid value for '--timeout': {why}; see grey-ctl kv get --help\n"
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "bad_request", 2),
        (403, "forbidden", 3),
        (409, "diverged", 6),
        (410, "compacted", 6),
        (412, "condition_failed", 5),
        (413, "value_too_large", 1),
        (421, "not_primary", 3),
        (422, "request_id_reused", 1),
        (429, "rate_limited", 4),
        (503, "fenced", 3),
        (503, "unavailable", 4),
        (503, "overloaded", 4),
        (507, "disk_full", 1),
    ],
)
def test_exit_codes_of_a_write(site: Site, status: int, code: str, exit_code: int) -> None:
    for each in site.fake.clusters.values():
        each.script.extend([answer(status, code, primary=None)] * 50)
    done = site.run("kv", "put", "k", "v", "--timeout", "700ms")
    hint = "run it again: it begins anew" if code == "compacted" else f"do {code}"
    assert (done.stdout, done.stderr) == ("", f"grey-ctl: because {code}; {hint}\n")
    assert done.exit_code == exit_code


def test_exit_codes_of_a_read(site: Site) -> None:
    site.fake["gcp-west"].script.append(answer(503, "too_stale", primary=None, lag_seconds=7.0))
    assert site.run("kv", "get", "k", "--max-staleness", "1s", "--cluster", "gcp-west").exit_code == 3
    site.fake["gcp-west"].script.extend([answer(500, "internal", incident="i")] * 50)
    assert site.run("kv", "get", "k", "--cluster", "gcp-west", "--timeout", "500ms").exit_code == 1
    assert site.run("kv", "get", "k", "--cluster", "mars").stderr == (
        "grey-ctl: there is no cluster mars, the clusters are aws-east, gcp-west, edge-chicago\n"
    )


def test_nobody_answers(site: Site) -> None:
    for name in site.fake.clusters:
        site.fake.stop(name)
    done = site.run("kv", "put", "k", "v", "--timeout", "700ms")
    assert done.stderr.startswith("grey-ctl: put k: not done within 0.7 s: aws-east (grey-east.example.com:")
    assert done.exit_code == 4


def test_a_write_whose_outcome_is_unknown_can_be_repeated(site: Site) -> None:
    site.fake["aws-east"].drops_answers = 1
    site.fake["aws-east"].script.extend([delay(0), answer(507, "disk_full")])
    done = site.run("kv", "put", "k", "v", "--request-id", "mine-1")
    assert done.exit_code == 4
    assert done.stderr.startswith("grey-ctl: put k may or may not have happened: ")
    assert done.stderr.endswith(
        "; repeat it within ten minutes with the request id mine-1, or read the key\n"
    )
    done = site.run("kv", "put", "k", "v", "--request-id", "mine-1")
    assert (done.stdout, done.exit_code) == ("stored k at 1.1\n", 0)
    assert site.fake.sequence == 1


def test_a_dropped_connection_does_not_show(site: Site) -> None:
    site.fake["aws-east"].script.append(drop)
    assert site.run("kv", "put", "k", "v").stdout == "stored k at 1.1\n"


def test_a_reader_that_goes_away_makes_no_noise(site: Site) -> None:
    for number in range(5000):
        site.fake.put(b"%0100d" % number, b"")
    process = subprocess.Popen(
        [GREY_CTL, "kv", "list", "--config", str(site.config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.readline()) == 101
        process.stdout.close()
        assert (process.stderr.read(), process.wait(20)) == (b"", 141)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_on_a_terminal_a_value_ends_its_line(site: Site) -> None:
    import os
    import pty

    site.fake.put(b"k", b"v")
    ours, theirs = pty.openpty()
    try:
        subprocess.run([GREY_CTL, "kv", "get", "k", "--config", str(site.config)], stdout=theirs, check=True)
        assert os.read(ours, 100) == b"v\r\n"
    finally:
        os.close(ours)
        os.close(theirs)
