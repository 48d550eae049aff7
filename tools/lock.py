# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins requirements/*.in to requirements/*.txt, with hashes, for every Python and architecture in use."""

from __future__ import annotations

import subprocess
import sys

from console import ROOT, say

OPTIONS = [
    "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-emit-index-url",
    "--upgrade", "--quiet",
]  # fmt: skip


def main() -> int:
    """Pin the node's set first; the larger sets then take the same versions."""
    for name, more in (("node", []), ("demo", ["-c", "node.txt"]), ("dev", ["-c", "demo.txt"])):
        files = [f"{name}.in", "-o", f"{name}.txt"]
        command = [f"{sys.prefix}/bin/uv", "pip", "compile", *OPTIONS, *more, *files]
        code = subprocess.run(command, cwd=ROOT / "requirements", check=False).returncode
        if code != 0:
            return code
        say(f"requirements/{name}.txt is pinned")
    say("next: python3 tools/bootstrap.py dev && make test")
    return 0


if __name__ == "__main__":
    sys.exit(main())
