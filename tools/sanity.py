# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ``ansible-test sanity`` on the collection, in a tree of its own as ansible-test wants it.

The tree holds what git knows, less what galaxy.yml keeps out of the built collection. ansible-test makes a
small environment per test with the versions that ansible-core pins. It would fetch a script that installs
pip, so we lay one of our own where it looks first, which takes pip from Python itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from console import CACHE, ROOT, run, say, seconds, tail
from tree import build_ignore, kept_out, new, tracked
from utf8 import use_utf8

HOME = CACHE / "sanity"
TREE = HOME / "tree" / "ansible_collections" / "grey" / "distributed"
PIP_SCRIPT = """\
# Stands in for the script that ansible-test would download: pip comes with Python.
import sys, runpy
sys.argv = ["ensurepip", "--default-pip"]
runpy.run_module("ensurepip", run_name="__main__")
"""


def main(arguments: list[str]) -> int:
    """Run all sanity tests, or those named; 0 when all pass."""
    started = time.monotonic()
    copy_tree()
    seed_pip_script()
    use_utf8()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    tool = [f"{sys.prefix}/bin/ansible-test", "sanity", "--python", version, "--color", "no"]
    chosen = [word for name in arguments for word in ("--test", name)]
    environment = {
        **os.environ,
        "HOME": str(HOME / "home"),
        "PATH": f"{sys.prefix}/bin:{os.environ.get('PATH', os.defpath)}",
        # What pip was set up for by files in the real home still counts.
        "PIP_CONFIG_FILE": os.environ.get(
            "PIP_CONFIG_FILE", str(Path.home() / ".config" / "pip" / "pip.conf")
        ),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    seen: list[str] = []

    def detail(line: str) -> str | None:
        if match := re.match(r'Running sanity test "([^"]+)"', line):
            seen.append(match[1])
            return f"{len(seen)}: {match[1]}"
        return None

    code, output = run(
        "ansible-test sanity", [*tool, *chosen], HOME / "output.log", env=environment, cwd=TREE, detail=detail
    )
    names = failing(output)
    passed = [name for name in dict.fromkeys(seen) if name not in names]
    say(f"ran: {', '.join(dict.fromkeys(seen)) or 'none'}")
    if code != 0:
        errors = [line for line in output.splitlines() if line.startswith(("ERROR", "FATAL", "WARNING"))]
        say(tail("\n".join(errors) if names else output, 60))
        say(f"failed: {', '.join(names) or 'ansible-test itself'}; whole output: {HOME / 'output.log'}")
    say(f"sanity: {len(passed)} passed, {max(len(names), int(code != 0))} failed ({seconds(started)})")
    return 1 if code != 0 or not seen else 0


def failing(output: str) -> list[str]:
    """Return the names of the failed tests from ansible-test's closing lines."""
    match = re.search(
        r"^FATAL: The \d+ sanity test\(s\) listed below[^\n]*\n(.*)", output, re.DOTALL | re.MULTILINE
    )
    return re.findall(r"^([a-z0-9-]+)", match[1], re.MULTILINE) if match else []


def copy_tree() -> None:
    """Lay the collection out anew: what a build would hold, all of it known to git."""
    shutil.rmtree(HOME / "tree", ignore_errors=True)
    # And without the node, which is checked by its own tests.
    ignored = [*build_ignore(), "node", "tools", ".ci", "tests/demo", "tests/tools", "LICENSES"]
    for name in [*tracked(), *new()]:
        source = ROOT / name
        if source.is_file() and not kept_out(name, ignored):
            target = TREE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, cwd=TREE, check=True)


def seed_pip_script() -> None:
    """Put the pip script where ansible-test looks before it downloads one, for the version it will ask."""
    program = (
        "from ansible_test._internal.python_requirements import get_venv_packages as packages; "
        "from ansible_test._internal.host_configs import NativePythonConfig as Python; import sys; "
        "print(packages(Python(version='%d.%d' % sys.version_info[:2], path=sys.executable))['pip'])"
    )
    version = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()
    cache = HOME / "home" / ".ansible" / "test" / "cache" / f"get_pip_{version.replace('.', '_')}.py"
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(PIP_SCRIPT, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
