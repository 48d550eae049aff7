# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever locale the user has: Ansible starts, and one that it accepts stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import utf8

PROGRAM = str(Path(sys.executable).with_name("ansible"))
PLAIN = {
    name: value
    for name, value in os.environ.items()
    if name not in ("LANG", "LANGUAGE") and name[:3] != "LC_"
}


def run(*command: str, **variables: str) -> str:
    """Run a command through utf8.py; return what it printed."""
    done = subprocess.run(
        [sys.executable, utf8.__file__, *command],
        env={**PLAIN, **variables}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "variables",
    [
        {"LANG": "xx_YY.UTF-8"},
        {"LANG": "C.UTF-8", "LC_TIME": "xx_YY.UTF-8"},
        {"LC_ALL": "xx_YY.UTF-8"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX"},
    ],
)
def test_ansible_starts_in_a_locale_that_it_would_refuse(variables: dict[str, str]) -> None:
    assert run("sh", "-c", "echo $LC_ALL", **variables) == "C.UTF-8\n"
    assert run(PROGRAM, "--version", **variables).startswith("ansible [core")


@pytest.mark.parametrize("variables", [{"LC_ALL": "C.UTF-8"}, {"LANG": "C.UTF-8"}, {"LC_CTYPE": "C.UTF-8"}])
def test_the_users_own_stays_when_it_works(variables: dict[str, str]) -> None:
    said = run("env", **variables)
    assert {line for line in said.splitlines() if line.startswith(("LC_", "LANG="))} == {
        f"{name}={value}" for name, value in variables.items()
    }


@pytest.mark.parametrize("tool", ["demo", "lanes", "lint", "sanity", "collection"])
def test_every_tool_that_starts_ansible_asks_for_it(tool: str) -> None:
    assert "    use_utf8()\n" in Path(utf8.__file__).with_name(f"{tool}.py").read_text(encoding="utf-8")
