# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds docs/dependencies.md to what is really asked for: each package has a row, and each row a package."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = "docs/dependencies.md"
NODE = "The node"
PROGRAMS = "Engines"  # not from a package index

Required = dict[str, str]
"""A package's name, and the file that asks for it."""


def main() -> int:
    """Compare; 0 when the page says what is true."""
    wanted = required()
    breaches = list(check(rows(), wanted))
    print("\n".join(breaches) or f"{len(wanted)} dependencies have their rows")
    return 1 if breaches else 0


def required() -> Required:
    """Return each package that somebody asks for, and the file that does, the node's own ones first."""
    found: Required = {}
    project = tomllib.loads((ROOT / "node" / "pyproject.toml").read_text(encoding="utf-8"))
    for line in project["project"]["dependencies"]:
        found[name_of(line)] = "node/pyproject.toml"
    for folder in ("requirements", "tests/install/requirements"):
        for path in sorted((ROOT / folder).glob("*.in")):
            for line in path.read_text(encoding="utf-8").splitlines():
                if name := name_of(line):
                    found.setdefault(name, f"{folder}/{path.name}")
    return found


def rows() -> dict[str, list[str]]:
    """Return by section of the page the names that its tables explain; ``types-*`` is one, too."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (ROOT / PAGE).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").partition(" (")[0]
        elif line.startswith("| ") and line.split("|")[1].strip():
            cell = re.sub(r"\([^)]*\)", "", line.split("|")[1])
            found.setdefault(section, []).extend(name.strip() for name in cell.split(","))
    return found


def check(page: dict[str, list[str]], wanted: Required) -> Iterator[str]:
    """Say what has no row, what has one in the wrong section, and which rows are of nothing."""
    packages = {section: names for section, names in page.items() if section != PROGRAMS}
    for name, file in wanted.items():
        sections = [
            section
            for section, names in packages.items()
            if any(fnmatch(name, normal(pattern)) for pattern in names)
        ]
        if not sections:
            yield f"{PAGE}: {name} ({file}): wanted a row that says why and its licence, found none"
        elif file.startswith("node/") and NODE not in sections:
            yield f"{PAGE}: {name} ({file}): wanted its row in {NODE!r}, found it in {sections}"
    for section, names in packages.items():
        for pattern in names:
            if not any(fnmatch(name, normal(pattern)) for name in wanted):
                yield f"{PAGE}: {section}: {pattern}: nothing asks for it any more; drop it"


def name_of(line: str) -> str:
    """Return the package of a line of a requirements file; nothing for a comment, an option or a blank."""
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line.strip())
    return normal(match[0]) if match else ""


def normal(name: str) -> str:
    """Return a package's one name."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
