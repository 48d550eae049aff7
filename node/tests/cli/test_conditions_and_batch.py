# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes with a condition or a time to live, and many writes as one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli.conftest import Site


def test_a_put_only_if_absent(site: Site) -> None:
    assert site.run("kv", "put", "lock", "me", "--if-absent", "--ttl", "30s").exit_code == 0
    done = site.run("kv", "put", "lock", "you", "--if-absent")
    assert (done.stdout, done.stderr) == ("", "grey-ctl: because condition_failed; do condition_failed\n")
    assert done.exit_code == 5
    assert site.run("kv", "get", "lock").stdout == "me"


def test_a_put_and_a_delete_only_at_a_position(site: Site) -> None:
    site.run("kv", "put", "k", "one")
    done = site.run("kv", "put", "k", "two", "--if-position", "1.1")
    assert (done.stdout, done.exit_code) == ("stored k at 1.2\n", 0)
    assert site.run("kv", "put", "k", "three", "--if-position", "1.1").exit_code == 5
    assert site.run("kv", "delete", "k", "--if-position", "1.1").exit_code == 5
    assert site.run("kv", "delete", "k", "--if-position", "1.2").stdout == "deleted k at 1.3\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--if-position", "now"], "now"),
        (["--if-position", "1.1", "--if-absent"], "not both"),
        (["--ttl", "100ms"], "1 second to 10 years"),
    ],
)
def test_wrong_conditions(site: Site, args: list[str], said: str) -> None:
    done = site.run("kv", "put", "k", "v", *args)
    assert said in done.stderr
    assert (done.exit_code, site.fake.log) == (2, [])


def test_when_a_key_expires_is_shown(site: Site) -> None:
    site.run("kv", "put", "k", "v", "--ttl", "30s")
    site.run("kv", "put", "stays", "v")
    done = site.run("kv", "get", "k", "-o", "json")
    assert json.loads(done.stdout)["expires"] == "2030-01-01T00:00:30+00:00"
    assert "expires" not in json.loads(site.run("kv", "get", "stays", "-o", "json").stdout)
    done = site.run("kv", "list", "--query", "[].[key, expires]")
    assert json.loads(done.stdout) == [["k", "2030-01-01T00:00:30+00:00"], ["stays", None]]


LINES = """\
{"op": "put", "key": "a%20b", "value_text": "é", "ttl": "30s", "if_absent": true}

{"op": "put", "key_text": "ключ", "value_base64": "/w=="}
{"op": "delete", "key": "gone"}
"""


def test_a_batch_of_lines(site: Site) -> None:
    (site.folder / "batch").write_text(LINES, encoding="utf-8")
    done = site.run("kv", "batch", str(site.folder / "batch"))
    assert (done.stdout, done.exit_code) == (
        "stored a b at 1.1\nstored ключ at 1.2\ndeleted gone at 1.3\n",
        0,
    )
    assert site.fake.data[b"a b"].value == "é".encode()
    assert site.fake.data["ключ".encode()].value == b"\xff"
    done = site.run("kv", "batch", str(site.folder / "batch"))
    assert (done.stdout, done.exit_code, len(site.fake.data)) == ("", 5, 2)


@pytest.mark.parametrize("shape", ["list", "body", "one", "one line"])
def test_a_batch_from_standard_input_in_any_form(site: Site, shape: str) -> None:
    one = {"op": "put", "key": "k", "value_text": "v"}
    document = {"list": [one], "body": {"operations": [one]}, "one": one, "one line": one}[shape]
    text = json.dumps(document, indent=None if shape == "one line" else 2)
    done = site.run("kv", "batch", "-", "-o", "json", input=text.encode())
    assert (json.loads(done.stdout), done.exit_code) == (
        [{"key": "k", "key_text": "k", "position": "1.1", "stamp": "1700000000.1"}],
        0,
    )
    assert site.fake.data[b"k"].value == b"v"


def test_what_a_listing_prints_can_be_written_again(site: Site) -> None:
    site.fake.put(b"\xff", bytes(range(256)))
    listed = json.loads(site.run("kv", "list", "-o", "json").stdout)
    keys = ("key", "key_text", "value_base64", "value_text")
    lines = [json.dumps({"op": "put", **{key: item[key] for key in keys}}) for item in listed]
    site.fake.data.clear()
    assert site.run("kv", "batch", "-", input="\n".join(lines).encode()).exit_code == 0
    assert site.fake.data[b"\xff"].value == bytes(range(256))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "<stdin>: it holds no operation"),
        ('{"op": "put"', "<stdin>: line 1: wanted JSON, found "),
        ("[1]", '<stdin>: operation 1: wanted an object with "op": "put" or "delete"'),
        ('{"op": "put", "key": "k"}', '<stdin>: operation 1: wanted "value_base64" or "value_text"'),
        ('{"op": "put", "value_text": ""}', '<stdin>: operation 1: wanted "key" or "key_text"'),
        ('{"op": "put", "key": "ü", "value_text": ""}', "<stdin>: operation 1: 'ü' is not a key in percent"),
        (
            '{"op": "put", "key": 5, "value_text": ""}',
            '<stdin>: operation 1: wanted a text as "key", found 5',
        ),
        (
            '{"op": "put", "key": "k", "value_text": "a", "value_base64": "Yg=="}',
            '<stdin>: operation 1: "value_base64" and "value_text" say different things',
        ),
        ('{"op": "put", "key": "k", "value_base64": "!"}', "<stdin>: operation 1: "),
        ('{"op": "put", "key": "k", "value": "v"}', "<stdin>: operation 1: a put has no value; it may have "),
        ('{"op": "delete", "key": "k", "ttl": "1s"}', "<stdin>: operation 1: a delete has no ttl"),
        (
            '{"op": "delete", "key": "k"}\n{"op": "put", "key": "l", "value_text": "", "ttl": "soon"}',
            "<stdin>: line 2: expected a duration",
        ),
        (
            '{"op": "put", "key": "l", "value_text": "", "if_absent": 1}',
            '<stdin>: operation 1: wanted true or false as "if_absent", found 1',
        ),
        ('[{"op": "delete", "key": "k"}, {"op": "delete", "key": "k"}]', "k is there twice"),
        (json.dumps([{"op": "delete", "key": f"k{n}"} for n in range(101)]), "1 to 100 operations, not 101"),
    ],
)
def test_a_wrong_batch_is_not_sent(site: Site, text: str, said: str) -> None:
    done = site.run("kv", "batch", "-", input=text.encode())
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert (done.exit_code, site.fake.log) == (2, [])
