# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python environments from the locks in ``requirements/``, made once and kept in .cache/install."""

from __future__ import annotations

import hashlib
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from machine import ROOT, as_user

LOCKS = Path(__file__).parent / "requirements"
KEPT = ROOT / ".cache" / "install"


def environment(name: str, python: str, user: pwd.struct_passwd | None, home: Path) -> Path:
    """Return the folder of the environment of a lock, for an account that has to run what is in it."""
    lock = LOCKS / f"{name}.txt"
    version = subprocess.run([python, "-VV"], check=True, capture_output=True).stdout
    digest = hashlib.sha256(lock.read_bytes() + version + python.encode()).hexdigest()[:12]
    base = KEPT if can_enter(ROOT, user) else home / "environments"
    folder = base / f"{name}-{digest}"
    if (folder / "whole").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    base.mkdir(parents=True, exist_ok=True)
    # Without pip: what is proven is that ansible-core is enough.
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    command = [
        sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet",
        "--no-input", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:",
        "-r", str(lock),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=600, stdin=subprocess.DEVNULL)
    (folder / "whole").touch()
    return folder


def can_enter(folder: Path, user: pwd.struct_passwd | None) -> bool:
    """Tell whether an account can run what lies below a folder."""
    command = ["test", "-x", str(folder)]
    return subprocess.run(command, cwd="/", check=False, **as_user(user)).returncode == 0
