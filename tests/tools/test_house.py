# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each of the house's own rules catches a breach; that they are kept, `make lint` checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import house
import pytest

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file of an empty house."""
    monkeypatch.setattr(house, "ROOT", tmp_path)
    monkeypatch.setattr(house, "NODE", tmp_path / "node" / "src" / "grey")

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("file", "line", "breach"),
    [
        (
            "store/sqlite.py",
            "from grey.data.keyspace import x",
            "store imports grey.data.keyspace: imports point down",
        ),
        (
            "store/sqlite.py",
            "from ..data import keyspace",
            "store imports grey.data.keyspace: imports point down",
        ),
        ("store/sqlite.py", "from grey import serve", "store imports grey.serve: imports point down"),
        ("link/tls.py", "import grey.config.model", "link imports grey.config.model: imports point down"),
        ("replicate/source.py", "from grey.federation.keeper import Keeper", "imports point down"),
        ("serve/http.py", "from grey.store._sql import run", "that is private to store"),
        ("serve/http.py", "from grey.store.sqlite import _run", "that is private to store"),
        ("client/aio.py", "from grey.store.sqlite import Sqlite", "the client may import only"),
        ("client/aio.py", "from grey.config.rules import check", "the client may import only"),
        ("attic/x.py", "", "unknown room 'attic'"),
    ],
)
def test_a_wrong_import_is_caught(write: Write, file: str, line: str, breach: str) -> None:
    path = write(f"node/src/grey/{file}", line + "\n")
    (found,) = house.check_rooms([path])
    assert breach in found


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("serve/http.py", "from grey.store.interface import Store"),
        ("replicate/source.py", "from grey.federation.interface import RoleView"),
        ("store/sqlite.py", "from . import _sql"),
        ("client/aio.py", "from grey.config.model import Federation"),
        ("cli/main.py", "from grey.client.aio import Client"),
        ("cli/main.py", "from grey import __version__"),
    ],
)
def test_a_right_import_passes(write: Write, file: str, line: str) -> None:
    assert list(house.check_rooms([write(f"node/src/grey/{file}", line + "\n")])) == []


def test_the_two_sides_stay_blind_to_each_other(write: Write) -> None:
    files = [
        write("plugins/modules/a.py", "import grey.config\n"),
        write("plugins/modules/b.py", "import greyish\nimport ansible\n"),
        write("node/src/grey/cli/c.py", "def f():\n    from ansible.module_utils import basic\n"),
        write("node/tests/d.py", "import ansible_collections.grey.distributed\n"),
    ]
    assert [breach.split(":")[0] for breach in house.check_sides(files)] == [
        "plugins/modules/a.py",
        "node/src/grey/cli/c.py",
        "node/tests/d.py",
    ]


def test_names_that_confuse_are_caught(write: Write) -> None:
    files = [
        write("plugins/modules/files.py", ""),
        write("plugins/module_utils/_files.py", ""),
        write("tools/platform.py", ""),
    ]
    assert list(house.check_names(files)) == [
        "tools/platform.py: hides the standard library's platform",
        "plugins/modules/files.py: has the same name as plugins/module_utils/_files.py",
    ]


def test_long_files_are_caught(write: Write) -> None:
    just, over = write("tools/a.py", "\n" * 500), write("tools/b.py", "\n" * 501)
    assert list(house.check_sizes([just, over])) == ["tools/b.py: 501 lines, wanted at most 500: split it"]


def test_locks_that_disagree_are_caught(write: Write) -> None:
    write("requirements/node.txt", "aiohttp==3.1 \\\nclick==8.0 ; python_version < '3.12' \\\n")
    write("requirements/demo.txt", "aiohttp==3.1 \\\n    --hash=sha256:00\nclick==8.1 \\\n")
    write("requirements/dev.txt", "--index-url https://example.org/simple\naiohttp==3.0 \\\nclick==8.1 \\\n")
    write("node/pyproject.toml", '[project]\ndependencies = [\n    "aiohttp",\n    "Ruamel.Yaml>=1",\n]\n')
    assert list(house.check_locks()) == [
        "requirements/node.txt: \"python_version < '3.12'\" differs between hosts; pin what fits all of them",
        "requirements/dev.txt: names a place to fetch from; that is for the user's own settings",
        "requirements/demo.txt: click is 8.1, wanted 8.0 as in node.txt (make lock)",
        "requirements/dev.txt: aiohttp is 3.0, wanted 3.1 as in demo.txt (make lock)",
        "node/pyproject.toml: Ruamel.Yaml is not in requirements/node.in (add it there, then make lock)",
    ]


def test_versions_that_differ_are_caught(write: Write) -> None:
    write("galaxy.yml", "name: x\nversion: 0.2.0\n")
    write("node/pyproject.toml", 'version = "0.2.0"\n')
    write("node/src/grey/__init__.py", '__version__ = "0.2.0"\n')
    assert not list(house.check_versions())
    write("galaxy.yml", "name: x\nversion: 0.3.0\n")
    (breach,) = house.check_versions()
    assert breach.startswith(
        "wanted one version everywhere, found: galaxy.yml 0.3.0, node/pyproject.toml 0.2.0"
    )
