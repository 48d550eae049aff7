# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins the *.in files to *.txt, with hashes, for every Python and architecture in use.

``lock.py check`` only tells whether all that hosts need has wheels for all of them.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from ansible_collections.grey.distributed.plugins.module_utils._interpreter import ARCHITECTURES, PYTHONS

from console import ROOT, say

UV = f"{sys.prefix}/bin/uv"
OPTIONS = [
    "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-emit-index-url",
    "--upgrade", "--quiet",
]  # fmt: skip


INSTALL = ROOT / "tests" / "install" / "requirements"


def main(arguments: list[str]) -> int:
    """Pin the node's set first; the larger sets then take the same versions. 0 when all is done."""
    if arguments not in ([], ["check"]):
        print("usage: lock.py [check]", file=sys.stderr)
        return 2
    if not arguments:
        sets: dict[str, list[str]] = {"node": [], "demo": ["-c", "node.txt"], "dev": ["-c", "demo.txt"]}
        jobs = [(ROOT / "requirements", name, more) for name, more in sets.items()]
        jobs += [(INSTALL, path.stem, []) for path in sorted(INSTALL.glob("*.in"))]
        for folder, name, more in jobs:
            command = [UV, "pip", "compile", *OPTIONS, *more, f"{name}.in", "-o", f"{name}.txt"]
            code = subprocess.run(command, cwd=folder, check=False).returncode
            if code != 0:
                return code
            say(f"{(folder / name).relative_to(ROOT)}.txt is pinned")
    if lacking := without_wheels():
        say("\n".join(lacking))
        say("next: pin a version that has wheels for all of them in requirements/node.in")
        return 1
    say("requirements/node.txt has wheels for every Python and architecture")
    if not arguments:
        say("next: python3 tools/bootstrap.py dev && make test")
    return 0


def without_wheels(lock: Path = ROOT / "requirements" / "node.txt") -> list[str]:
    """Say for which Pythons and architectures a wheelhouse could not be built, and why."""
    lacking = []
    for python, machine in itertools.product(PYTHONS, ARCHITECTURES):
        command = [
            UV, "pip", "install", "--dry-run", "--quiet", "--no-deps", "--require-hashes",
            "--only-binary", ":all:", "--target", "/nonexistent", "--python-version", python,
            "--python-platform", f"{machine}-manylinux_2_28", "-r", str(lock),
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            lacking.append(f"Python {python} on {machine}: {done.stderr.strip()}")
    return lacking


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
