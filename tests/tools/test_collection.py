# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a collection holds that is built in a tree which somebody has worked in, by either way."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tree

GALAXY = f"{sys.prefix}/bin/ansible-galaxy"
KEY = "-----BEGIN PRIVATE KEY-----"
Build = Callable[[Path, Path], "subprocess.CompletedProcess[str]"]


class Clone:
    """What git tracks here, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in filter(lambda name: (tree.ROOT / name).is_file(), tree.tracked()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree.ROOT / name, folder / name)
        for command in (["init", "-q"], ["add", "-A"]):
            subprocess.run(["git", *command], cwd=folder, check=True)

    def put(self, name: str, text: str = "x") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL
    )


def ours(clone: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """``make collection``."""
    return run(sys.executable, str(clone / "tools" / "collection.py"), str(target))


def galaxys(clone: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """What an installation from git does, too."""
    return run(GALAXY, "collection", "build", str(clone), "--output-path", str(target))


def content(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Return the built collection's files."""
    (path,) = folder.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            yield member.name, file.read() if file is not None else b""


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


@pytest.mark.parametrize("build", [ours, galaxys])
def test_no_key_of_a_controller_is_ever_packed(clone: Clone, tmp_path: Path, build: Build) -> None:
    for place in ("", "inventories/", "inventories/prod/", "playbooks/a/b/"):
        clone.put(f"{place}.grey-controller/federation/key.pem", KEY)
    done = build(clone.folder, tmp_path / "built")
    assert done.returncode == 0, done.stdout + done.stderr
    built = dict(content(tmp_path / "built"))
    assert "plugins/modules/grey_node.py" in built
    assert not [name for name, text in built.items() if ".grey-controller" in name or KEY.encode() in text]


def test_a_new_file_is_refused_until_git_knows_it(clone: Clone, tmp_path: Path) -> None:
    clone.put("inventories/prod/operator-key.pem", KEY)
    clone.put("plugins/module_utils/_fresh.py")
    clone.put("node/tests/test_fresh.py")  # that would not be packed, so it is nobody's business
    done = ours(clone.folder, tmp_path / "built")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    names = "inventories/prod/operator-key.pem, plugins/module_utils/_fresh.py"
    assert f"wanted files that git tracks, found new ones: {names}\n" in said
    assert "git add what belongs to the collection" in said
    assert not (tmp_path / "built").exists()

    (clone.folder / "inventories/prod/operator-key.pem").unlink()
    add = ["git", "add", "--intent-to-add", "plugins"]
    subprocess.run(add, cwd=clone.folder, check=True)
    assert ours(clone.folder, tmp_path / "built").returncode == 0
    assert "plugins/module_utils/_fresh.py" in dict(content(tmp_path / "built"))


def test_what_git_ignores_in_a_used_tree_galaxy_ignores_too(clone: Clone, tmp_path: Path) -> None:
    """Caches and environments lie wherever a tool was run: in the root, the node, beside an inventory."""
    lines = (clone.folder / ".gitignore").read_text(encoding="utf-8").split()
    assert ".hypothesis/" in lines
    for line in lines:
        name = line.strip("/").replace("*", "x").replace("[cod]", "c")
        anchored = "/" in line.rstrip("/")
        for place in ("",) if anchored else ("", "node/", "node/src/", "inventories/local/", "plugins/"):
            clone.put(f"{place}{name}/left/over" if line.endswith("/") else f"{place}{name}")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "plugins"], cwd=clone.folder, check=True)
    done = galaxys(clone.folder, tmp_path / "built")
    assert done.returncode == 0, done.stdout + done.stderr
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=clone.folder, capture_output=True, text=True, check=True
    )
    known = {str(folder) for name in tracked.stdout.split() for folder in (Path(name), *Path(name).parents)}
    built = {name for name, _ in content(tmp_path / "built")}
    assert "node/src/grey/cli/main.py" in built
    assert sorted(built - known - {"MANIFEST.json", "FILES.json"}) == []


def test_a_pattern_matches_what_lies_in_a_folder_too() -> None:
    patterns = ["docs", "*/.cache", "*.pyc"]
    assert [
        name
        for name in ("docs/a.md", "a/docs/b", "a/.cache/b/c", "a/b/.cache", ".cache", "a/b.pyc", "docs.md")
        if tree.kept_out(name, patterns)
    ] == ["docs/a.md", "a/.cache/b/c", "a/b/.cache", "a/b.pyc"]
