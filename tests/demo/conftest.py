# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One demo for all tests: a copy of the checkout in a folder of its own, for an account without rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from machine import ROOT, Demo, account, free_network, usable_python


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """A fresh copy of what git knows here, with nothing made in it yet. Everything is gone afterwards."""
    user = account()
    python = usable_python(user)
    # A short name: the paths of unix sockets below it are limited.
    home = Path(tempfile.mkdtemp(prefix="gd", dir="/tmp"))
    demo = Demo(home, free_network(), user, python)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in sorted(set(filter(None, os.fsdecode(listed.stdout).split("\0")))):
        if (ROOT / name).is_file():
            (demo.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, demo.checkout / name)
    if user is not None:
        for path in (home, *home.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    try:
        yield demo
    finally:
        demo.kill()
        shutil.rmtree(home)
