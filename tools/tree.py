# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of this tree a built collection holds."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch
from pathlib import PurePosixPath

from console import ROOT


def tracked() -> list[str]:
    """Return what git tracks here; ``git add --intent-to-add`` is enough for that."""
    return _listed("--cached")


def new() -> list[str]:
    """Return what git neither tracks nor ignores."""
    return _listed("--others", "--exclude-standard")


def build_ignore() -> list[str]:
    """Return galaxy.yml's patterns of what stays out of the built collection."""
    text = (ROOT / "galaxy.yml").read_text(encoding="utf-8")
    block = re.search(r"^build_ignore:\n((?:  (?:- |#).*\n)+)", text, re.MULTILINE)
    lines = (line.removeprefix("  ") for line in (block[1].splitlines() if block else []))
    return [line.removeprefix("- ").strip("\"'") for line in lines if line.startswith("- ")]


def kept_out(name: str, patterns: list[str]) -> bool:
    """Tell whether a pattern matches a file or a folder that it lies in, as ansible-galaxy does it."""
    path = PurePosixPath(name)
    return any(fnmatch(str(part), pattern) for part in (path, *path.parents) for pattern in patterns)


def _listed(*options: str) -> list[str]:
    command = ["git", "ls-files", "-z", *options]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(set(filter(None, listed.split("\0"))))
