# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON, YAML and tables of what commands print."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from grey.cli import output

if TYPE_CHECKING:
    from cli.conftest import Site

GREY_CTL = str(Path(sys.executable).with_name("grey-ctl"))

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_listing_in_every_form(site: Site) -> None:
    site.fake.put(b"a", b"1\n2")
    site.fake.put("ü".encode(), b"\xff")
    found = json.loads(site.run("kv", "list", "-o", "json").stdout)
    assert YAML(typ="safe").load(site.run("kv", "list", "-o", "yaml").stdout) == found
    assert (
        site.run("kv", "list", "-o", "json").stdout == json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    )
    done = site.run("kv", "list", "-o", "table", "--query", "[].{key: key_text, value: value_text}")
    assert done.stdout == TABLE
    done = site.run(
        "kv", "list", "-o", "table", "--query", "[].{key: key_text, value: value_text}", charset="ascii"
    )
    assert done.stdout == ASCII_TABLE


@pytest.mark.parametrize(("form", "printed"), [("json", "[]\n"), ("yaml", "[]\n")])
def test_an_empty_listing(site: Site, form: str, printed: str) -> None:
    done = site.run("kv", "list", "-o", form)
    assert (done.stdout, done.exit_code) == (printed, 0)


def test_a_listing_is_printed_page_by_page(site: Site) -> None:
    """Nothing is kept that was printed: memory does not grow with the number of keys."""
    for number in range(1500):
        site.fake.put(b"%04d" % number, b"")
    done = site.run("kv", "list", "-o", "json")
    assert [item["key"] for item in json.loads(done.stdout)] == [f"{number:04}" for number in range(1500)]


def test_text_takes_no_query(site: Site) -> None:
    done = site.run("kv", "list", "-o", "text", "--query", "[0]")
    assert (done.stderr, done.exit_code) == ("grey-ctl: --query works on data; leave out -o text\n", 2)


def test_all_and_limit_exclude_each_other(site: Site) -> None:
    assert site.run("kv", "list", "--all").exit_code == 0
    done = site.run("kv", "list", "--all", "--limit", "5")
    assert (done.stderr, done.exit_code) == (
        "grey-ctl: --all and --limit exclude each other; give one of them\n",
        2,
    )


@settings(deadline=None, max_examples=150, database=None)
@given(document=PLAIN)
def test_yaml_holds_whatever_json_holds(document: Any) -> None:
    assert YAML(typ="safe", pure=True).load(output._yaml(document)) == document


@settings(deadline=None, max_examples=100, database=None)
@given(document=PLAIN)
def test_any_data_is_a_table(document: Any) -> None:
    headings, rows = output.tabulated(document)
    assert all(len(row) == len(headings) for row in rows)
    assert all(cell.isprintable() for row in rows for cell in row)


def test_cells_fold_on_a_narrow_terminal(site: Site) -> None:
    site.fake.put(b"k", b"a long value " * 10)
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [GREY_CTL, "kv", "list", "-o", "table", "--config", str(site.config)],
            stdout=theirs,
            check=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "60", "LANG": "C.UTF-8", "NO_COLOR": "1"},
        )
        shown = os.read(ours, 20_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert max(map(len, shown.splitlines())) <= 60
    assert len(shown.splitlines()) > 5


TABLE = """\
┌─────┬───────┐
│ key │ value │
├─────┼───────┤
│ a   │ 1\\n2  │
│ ü   │ -     │
└─────┴───────┘
"""

ASCII_TABLE = """\
+----------------+
| key    | value |
|--------+-------|
| a      | 1\\n2  |
| \\u00fc | -     |
+----------------+
"""
