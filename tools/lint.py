# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every static check, two at a time, and prints the output of those that fail.

``lint.py [NAME...]`` runs only some.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "checks"))

from house import git_files

from console import CACHE, ROOT, say, seconds
from utf8 import use_utf8

BIN = Path(sys.prefix) / "bin"
COLLECTIONS = CACHE / "lint" / "collections"
LIMIT_SECONDS = 600
DOCUMENTS_OWN = "inventories/local/federation.yaml"  # verbatim, its trailing spaces too


def main(wanted: list[str]) -> int:
    """Run the checks; 0 when all pass."""
    checks = commands()
    if unknown := set(wanted) - set(checks):
        print(f"lint: unknown: {', '.join(sorted(unknown))}; known: {', '.join(checks)}", file=sys.stderr)
        return 2
    chosen = {name: check for name, check in checks.items() if not wanted or name in wanted}
    link_collections()
    use_utf8()
    failed = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = {pool.submit(run_one, *check): (name, time.monotonic()) for name, check in chosen.items()}
        for future in as_completed(futures):
            name, started = futures[future]
            code, output = future.result()
            say(f"{'ok    ' if code == 0 else 'FAILED'} {name} (after {seconds(started)})")
            if code != 0:
                failed.append(name)
                say("\n".join("    " + line for line in output.rstrip().splitlines()[-80:]))
    say(f"lint: {len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def commands() -> dict[str, tuple[list[str], Path]]:
    """Return each check's command and working folder; the slow ones first."""
    files = git_files()
    shell = [name for name in files if name.endswith(".sh") or name == ".ci/run"]
    yaml = [
        name
        for name in files
        if name.endswith((".yml", ".yaml")) and "/data/" not in name and name != DOCUMENTS_OWN
    ]
    tools = [name for name in files if name.startswith("tools/") and name.endswith(".py")]
    typed = [
        str(ROOT / name) for name in tools if name != "tools/bootstrap.py"
    ]  # that one is for Python 2.7, too
    strict = [f"{BIN}/mypy", "--config-file", str(ROOT / "mypy.ini")]
    package = "ansible_collections.grey.distributed.plugins"
    return {
        "ansible-lint": ([f"{BIN}/ansible-lint", "--offline", "-q"], ROOT),
        "mypy node": ([f"{BIN}/mypy"], ROOT / "node"),
        "mypy collection": ([*strict, "-p", f"{package}.module_utils"], COLLECTIONS),
        "mypy tools": ([*strict, *typed], ROOT / "tools"),
        "ruff check": ([f"{BIN}/ruff", "check", "--quiet", ".", "node"], ROOT),
        "ruff format": ([f"{BIN}/ruff", "format", "--check", "--quiet", "--diff", ".", "node"], ROOT),
        "yamllint": ([f"{BIN}/yamllint", "--strict", *yaml], ROOT),
        "shellcheck": ([f"{BIN}/shellcheck", *shell], ROOT),
        "changelog": ([f"{BIN}/antsibull-changelog", "lint"], ROOT),
        "reuse": ([f"{BIN}/reuse", "lint", "--lines"], ROOT),
        "house": ([sys.executable, "tools/checks/house.py"], ROOT),
        "dependencies": ([sys.executable, "tools/checks/dependencies.py"], ROOT),
        "documentation": ([sys.executable, "tools/checks/documentation.py"], ROOT),
    }  # fmt: skip


def run_one(command: list[str], folder: Path) -> tuple[int, str]:
    """Run one check and return its exit code and output."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "MYPYPATH": str(COLLECTIONS)
        if "-p" in command
        else f"{ROOT}/tools:{ROOT}/tools/checks:{COLLECTIONS}",
        "NO_COLOR": "1",
    }
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, timeout=LIMIT_SECONDS, check=False,
            text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"not finished after {LIMIT_SECONDS} s"
    return done.returncode, done.stdout


def link_collections() -> None:
    """Give mypy the collection under its full name."""
    link = COLLECTIONS / "ansible_collections" / "grey" / "distributed"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(ROOT, target_is_directory=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
