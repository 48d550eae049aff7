#!/usr/bin/env python3
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the Python environment in .venv: ``python3 tools/bootstrap.py [demo|dev] [--install-missing]``.

This file parses with every Python since 2.7, so that an old one gets a sentence and not a SyntaxError.
The work itself is in environment.py.
"""

import os
import sys

OLDEST = (3, 11)
CANDIDATES = ("python3.13", "python3.12", "python3.11", "python3.14", "python3")


def newer_python():
    """Return the path of a Python that is new enough, or None."""
    for name in CANDIDATES:
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK) and is_new_enough(path):
                return path
    return None


def is_new_enough(path):
    """Tell whether this interpreter really runs (a version manager's shim may not) and is new enough."""
    import subprocess

    program = "import sys; sys.exit(sys.version_info[:2] < (%d, %d))" % OLDEST
    try:
        with open(os.devnull, "r+") as nothing:
            return subprocess.call([path, "-c", program], stdin=nothing, stdout=nothing, stderr=nothing) == 0
    except OSError:
        return False


def main():
    """Hand over to environment.py, with a newer Python when this one is too old."""
    if sys.version_info[:2] < OLDEST:
        found = "%d.%d" % sys.version_info[:2]
        path = newer_python()
        if path is None:
            sys.stderr.write(
                "bootstrap: Python %d.%d or newer is wanted, found %s (%s), and no newer one in PATH.\n"
                "  next: install one (and name it if not in PATH: make demo PYTHON=/path/to/python3.11)\n"
                "        (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv;\n"
                "        Ubuntu 22.04: apt-get install python3.11 python3.11-venv)\n"
                % (OLDEST + (found, sys.executable))
            )
            return 2
        sys.stderr.write("bootstrap: %s is Python %s, using %s instead\n" % (sys.executable, found, path))
        os.execv(path, [path, os.path.abspath(__file__)] + sys.argv[1:])
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import environment

    return environment.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
