# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A built collection, a bundle, and a machine without a network that has nothing but ansible-core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))
sys.path.insert(0, str(Path(__file__).parent))

from environments import environment
from machine import ROOT, account, usable_python
from network import Network
from user import User


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder for all of it, with a short name: the paths of unix sockets below it are limited."""
    folder = Path(tempfile.mkdtemp(prefix="gi", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def tarball(home: Path) -> Path:
    """What ``make collection`` builds."""
    command = [sys.executable, "tools/collection.py", str(home / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, stdin=subprocess.DEVNULL)
    (path,) = (home / "dist").glob("*.tar.gz")
    return path


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """A network with loopback only, for everything that has to work without another one."""
    with Network() as made:
        print(f"without a network: {made.how}")
        yield made


@pytest.fixture(scope="session")
def python() -> str:
    """A Python that the user can run."""
    return usable_python(account())


@pytest.fixture(scope="session")
def install(home: Path, tarball: Path, network: Network, python: str):
    """Make a user whose machine has one ansible-core and the installed collection."""
    made: dict[str, User] = {}

    def make(version: str) -> User:
        if version not in made:
            folder = home / version.replace(".", "")
            ansible = environment(f"ansible-{version}", python, account(), home)
            made[version] = User(folder, ansible, network, account())
            made[version].run("ansible-galaxy", "collection", "install", "--offline", str(tarball))
        return made[version]

    yield make
    for user in made.values():
        user.end()


@pytest.fixture(scope="session")
def write_bundle(home: Path, tarball: Path, python: str) -> Callable[..., Path]:
    """Write a bundle with the collection's playbook; only this may use a network."""
    programs = environment("ansible-2.19", python, account(), home) / "bin"
    variables = {**os.environ, "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}"}
    galaxy = ["ansible-galaxy", "collection", "install", "--offline", str(tarball)]
    subprocess.run(galaxy, check=True, timeout=120, env=variables, cwd=home)

    def write(path: Path, **arguments: object) -> Path:
        given = {"grey_bundle": str(path), **arguments}
        done = subprocess.run(
            ["ansible-playbook", "grey.distributed.bundle", "-e", json.dumps(given)],
            env=variables, cwd=home, check=False, timeout=900, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        path.chmod(0o644)
        return path

    return write


@pytest.fixture(scope="session")
def python_version(python: str) -> str:
    """That Python's version, for example 3.11."""
    program = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(program, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="session")
def bundle(home: Path, write_bundle: Callable[..., Path], python_version: str) -> Path:
    """A bundle for this machine."""
    return write_bundle(
        home / "bundle.tar",
        grey_cache_dir=str(ROOT / ".cache" / "install" / "cache"),
        grey_bundle_pythons=[python_version],
        grey_bundle_architectures=[os.uname().machine],
    )
