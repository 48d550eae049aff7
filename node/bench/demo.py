# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a newcomer waits: ``make demo`` from a clean clone, the same deployment again, and its end."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from _report import Goal, Section, Table
from _turns import calm

if TYPE_CHECKING:
    from _turns import Pace

_ROOT = Path(__file__).resolve().parents[2]
_NETWORK = "127.97"  # a developer's own demo is 127.77
_LIMIT_SECONDS = 600
_AGAIN = (".venv/bin/ansible-playbook", "playbooks/deploy.yml", "-i", "inventories/local")
_DEPLOYED = re.compile(r"(\d+) changes?: .*\((\d+\.\d+) s\)")


async def measure(pace: Pace) -> Section:
    """Deploy a clone of what is committed here, twice, and remove it."""
    busy = await calm(pace.patience_seconds)
    return await asyncio.to_thread(_measure, busy)


def _measure(busy: str) -> Section:
    with tempfile.TemporaryDirectory(prefix="grey-demo-") as name:
        clone = Path(name) / "grey"
        subprocess.run(["git", "clone", "-q", _ROOT, clone], check=True)  # noqa: S603, S607
        python = f"PYTHON={sys.base_prefix}/bin/python3"
        try:
            whole, said = _run(clone, "make", "demo", python)
            deployed = _DEPLOYED.search(said)
            if deployed is None:
                raise RuntimeError(f"make demo did not say what it changed:\n{said[-2000:]}")
            again, told = _run(clone, *_AGAIN)
            changes = sum(map(int, re.findall(r"\bchanged=(\d+)", told)))
        finally:
            removing, _ = _run(clone, "make", "demo-clean", python)
    first = float(deployed[2])
    rows = [
        ["the demo from a clean clone", "`make demo`", f"{whole:.1f}"],
        ["of that: environment, packages from the index", "", f"{whole - first:.1f}"],
        [f"of that: `deploy.yml`, {deployed[1]} changes", "", f"{first:.1f}"],
        [
            f"a second run, {changes} changes",
            f"`{Path(_AGAIN[0]).name} {' '.join(_AGAIN[1:])}`",
            f"{again:.1f}",
        ],
        ["stopping and removing it", "`make demo-clean`", f"{removing:.1f}"],
    ]
    goals = [
        Goal("`make demo` from a clean clone", 120, whole, "s", most=True),
        Goal("a second `deploy.yml`", 20, again, "s", most=True),
    ]
    return Section("demo", [Table(["what", "command", "seconds"], rows)], busy, goals)


def _run(clone: Path, *command: str) -> tuple[float, str]:
    """Return how long a command took, and what it said; raises RuntimeError when it failed."""
    root = clone.parent / "d"
    environment = {
        **os.environ,
        "GREY_DEMO_ROOT": str(root),
        "GREY_DEMO_NET": _NETWORK,
        "GREY_CTL_CONFIG": str(root / "controller" / "ctl.yaml"),
    }
    started = time.monotonic()
    done = subprocess.run(  # noqa: S603
        command,
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return time.monotonic() - started, done.stdout
