#!/usr/bin/env python3
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs Molecule's scenarios on the test fleet, one by one: ``scenario.py all|NAME... [--do COMMAND]``.

COMMAND is Molecule's, ``test`` by default: create, converge, verify, destroy, ... Docker and the image
are brought first. A failed run leaves the logs of every host in .cache/fleet/NAME/logs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import fleet
import fleet_logs
import get_docker
import image
from console import CACHE, ROOT, Failed, exclusive, report, say, seconds

SCENARIOS = ROOT / "extensions" / "molecule"
BIN = Path(sys.prefix) / "bin"
NO_DEFAULT = (
    "default/molecule.yml' glob failed"  # said as if it were critical; it only means that none has this name
)


def main(arguments: list[str]) -> int:
    """Run what is named; 0 when all passed, 1 when not, 2 when the user has to do something first."""
    known = sorted(path.parent.name for path in SCENARIOS.glob("*/molecule.yml"))
    parser = argparse.ArgumentParser(prog="scenario.py", description=f"scenarios: {', '.join(known)}")
    parser.add_argument("names", nargs="+", choices=[*known, "all"], metavar="SCENARIO")
    parser.add_argument("--do", default="test", metavar="COMMAND", help="Molecule's command (test)")
    wanted = parser.parse_args(arguments)
    names = known if "all" in wanted.names else wanted.names
    started = time.monotonic()
    counts: Counter[str] = Counter()
    try:
        say(f"docker: {get_docker.ensure()}")
        say(f"image: {image.ensure()}")
        for name in dict.fromkeys(names):
            counts += run_one(name, wanted.do)
    except Failed as failure:
        report("scenario", failure)
        counts["failed"] += 1
    except KeyboardInterrupt:
        print("\nscenario: interrupted; the fleet is removed", file=sys.stderr)
        return 130
    say(f"molecule: {counts['passed']} passed, {counts['failed']} failed ({seconds(started)})")
    return 1 if counts["failed"] else 0


def run_one(name: str, command: str) -> Counter[str]:
    """Run one scenario, whole or a part of it; a whole one leaves nothing behind but logs."""
    home = fleet.HOME / name
    with exclusive(fleet.HOME / f"{name}.lock", f"the scenario {name}"):
        fleet.remove_leftovers()
        if command == "test":
            fleet.down(name)
            shutil.rmtree(home, ignore_errors=True)
        started = time.monotonic()
        sockets = tempfile.mkdtemp(prefix="gf")  # short: the paths of unix sockets are limited
        try:
            code, counts = run_molecule([command, "--scenario-name", name], environment(name, sockets))
        except BaseException:
            fleet.down(name)
            raise
        finally:
            shutil.rmtree(sockets, ignore_errors=True)
    if code != 0 and not counts["failed"]:
        counts["failed"] = 1
    say(f"{name}: molecule {command} ended with exit code {code} after {seconds(started)}")
    if code != 0 and (standing := fleet.containers(name)):
        fleet_logs.collect(standing, home / "logs")
    if code != 0 and (home / "logs").is_dir():
        say(f"{name}: the logs of every host are in {home / 'logs'}")
    return counts


def environment(name: str, sockets: str) -> dict[str, str]:
    """Return the environment of Molecule; nothing is written to the user's home."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "MOLECULE_EPHEMERAL_DIRECTORY": str(fleet.HOME / name / "molecule"),
        "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
        "ANSIBLE_HOME": str(CACHE / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
        "PYTHONUNBUFFERED": "1",
    }


def run_molecule(arguments: list[str], variables: dict[str, str]) -> tuple[int, Counter[str]]:
    """Run Molecule and show its output as it comes; count its steps and the tests that pytest ran in them."""
    counts: Counter[str] = Counter()
    process = subprocess.Popen(
        [str(BIN / "molecule"), *arguments], cwd=ROOT, env=variables, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if NO_DEFAULT in line:
                continue
            print(line, end="", flush=True)
            counts += count(line)
    return process.returncode, counts


def count(line: str) -> Counter[str]:
    """Read a closing line of pytest, or Molecule's recap of a scenario's steps."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    if recap := re.search(r"actions=\d+\s+successful=(\d+)\b.*\bfailed=(\d+)", plain):
        # A step that failed by its tests is counted as those.
        return Counter(passed=int(recap[1]))
    if re.search(r"\bin \d[\d.]*s\b", plain):
        found = re.findall(r"(\d+) (passed|failed|errors?)\b", plain)
        return sum((Counter({"passed" if w == "passed" else "failed": int(n)}) for n, w in found), Counter())
    return Counter()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
