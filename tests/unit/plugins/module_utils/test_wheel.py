# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheel that the collection makes is the one that the node's build backend would make."""

from __future__ import annotations

import configparser
import email
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _wheel
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.tests.unit.harness import ROOT

NODE = ROOT / "node"


def test_it_is_what_the_build_backend_makes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=NODE, check=True, capture_output=True, timeout=120)
    (theirs,) = tmp_path.glob("*.whl")
    name, content = _wheel.build(NODE)
    assert name == theirs.name
    with zipfile.ZipFile(io.BytesIO(content)) as mine, zipfile.ZipFile(theirs) as wanted:
        assert mine.testzip() is None
        package = {file for file in wanted.namelist() if file.startswith("grey/")}
        assert {file for file in mine.namelist() if file.startswith("grey/")} == package
        assert all(mine.read(file) == wanted.read(file) for file in package)
        (info,) = {file.split("/")[0] for file in wanted.namelist()} - {"grey"}
        for key in ("Name", "Version", "Requires-Python", "Requires-Dist", "License-Expression", "Summary"):
            said = [
                email.message_from_bytes(held.read(f"{info}/METADATA")).get_all(key)
                for held in (mine, wanted)
            ]
            assert sorted(map(plain, said[0])) == sorted(map(plain, said[1])), key
        scripts = []
        for held in (mine, wanted):
            parser = configparser.ConfigParser()
            parser.read_string(held.read(f"{info}/entry_points.txt").decode())
            scripts.append(dict(parser["console_scripts"]))
        assert scripts[0] == scripts[1]


def plain(text: str) -> str:
    """Return a package's name as everybody may write it."""
    return text.replace(".", "-").lower()


def test_the_same_sources_give_the_same_bytes_wherever_they_are(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "src" / "grey" / "__pycache__").mkdir(parents=True)
        (folder / "pyproject.toml").write_text((NODE / "pyproject.toml").read_text())
        (folder / "src" / "grey" / "__init__.py").write_text("")
        (folder / "src" / "grey" / "__pycache__" / "x.pyc").write_text(name)
        made.append(_wheel.build(folder))
    assert made[0] == made[1]


def test_without_sources_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GreyError, match="wanted the node's sources"):
        _wheel.build(tmp_path)
