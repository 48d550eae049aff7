# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of docs/dependencies.md catches what is missing and what is left over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dependencies
import pytest

PAGE = """
## Engines

| | why |
|---|---|
| etcd (3.4 or newer, pinned) | it holds |

## The node (`node/pyproject.toml`)

| | why |
|---|---|
| click, Ruamel.YAML | help, files |

## Build and tests

| | why |
|---|---|
| types-* | types |
| reuse (below 5) | heads |
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write a file of a small house, of which the page is true."""
    monkeypatch.setattr(dependencies, "ROOT", tmp_path)

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    write("docs/dependencies.md", PAGE)
    write("node/pyproject.toml", '[project]\ndependencies = ["click>=8", "ruamel.yaml"]\n')
    write("requirements/node.in", "# pins\nclick>=8  # help\nruamel.yaml\n")
    write("requirements/dev.in", "-r node.in\n\ntypes-psutil>=7\nreuse>=4,<5\n")
    return write


def breaches() -> list[str]:
    return list(dependencies.check(dependencies.rows(), dependencies.required()))


def test_a_true_page_passes(write: Callable[[str, str], None]) -> None:
    assert breaches() == []


def test_what_has_no_row_is_caught(write: Callable[[str, str], None]) -> None:
    write("tests/install/requirements/runner.in", "ansible_runner>=2\n")
    where = "ansible-runner (tests/install/requirements/runner.in)"
    wanted = "wanted a row that says why and its licence, found none"
    assert breaches() == [f"docs/dependencies.md: {where}: {wanted}"]


def test_what_the_node_needs_has_its_row_there(write: Callable[[str, str], None]) -> None:
    write("node/pyproject.toml", '[project]\ndependencies = ["click", "ruamel.yaml", "reuse"]\n')
    (breach,) = breaches()
    assert "reuse (node/pyproject.toml): wanted its row in 'The node', found it in ['Build" in breach


def test_what_nobody_asks_for_is_caught(write: Callable[[str, str], None]) -> None:
    write("requirements/dev.in", "-r node.in\nreuse\n")
    assert breaches() == [
        "docs/dependencies.md: Build and tests: types-*: nothing asks for it any more; drop it"
    ]
