# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package of Debian or Ubuntu, fetched and unpacked into a private folder; no root is needed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils._download import (
    CONNECT_SECONDS,
    DOWNLOAD_SECONDS,
    Unusable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_KIND = "distribution's package"


@dataclass(frozen=True)
class Package:
    """The package's file name, and the folder that it is unpacked in."""

    name: str
    tree: Path


@contextlib.contextmanager
def package(names: Sequence[str], work: Path, tell: Callable[[str], None]) -> Iterator[Package]:
    """Fetch the first of some packages that can be had, and unpack it; all of it is removed afterwards."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unusable(f"{_KIND}: only Debian's and Ubuntu's can be had so, and apt-get is not here")
    shutil.rmtree(work, ignore_errors=True)
    (work / "archives").mkdir(parents=True)
    try:
        said: list[str] = []
        found = _download(names, work, said, tell, system_lists=True) or _download(
            names, work, said, tell, system_lists=False
        )
        if found is None:
            faults = [line for line in "".join(said).splitlines() if re.match(r"E:|W:", line)]
            raise Unusable("\n".join([f"{_KIND}: apt-get download failed:", *faults[-4:]]))
        tell(f"unpacking {found.name}")
        code, output = _run(["dpkg-deb", "-x", str(found), str(work / "tree")], work)
        if code != 0:
            raise Unusable(f"{_KIND}: {found.name} cannot be unpacked: {output.strip()}")
        yield Package(found.name, work / "tree")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(
    names: Sequence[str], work: Path, said: list[str], tell: Callable[[str], None], *, system_lists: bool
) -> Path | None:
    """Return the package's file, by the system's lists or by private ones; ``said`` gets apt's words."""
    options = [
        f"Dir::Cache={work}", "Dir::State::status=/var/lib/dpkg/status", "Debug::NoLocking=1",
        "APT::Sandbox::User=", "Acquire::Retries=1",
        f"Acquire::http::Timeout={CONNECT_SECONDS:.0f}", f"Acquire::https::Timeout={CONNECT_SECONDS:.0f}",
    ]  # fmt: skip
    if not system_lists:
        (work / "state" / "lists").mkdir(parents=True)
        options += [
            f"Dir::State={work / 'state'}",
            f"Dir::State::Lists={work / 'state' / 'lists'}",
            "Acquire::Languages=none",
        ]
    apt = ["apt-get", *(word for option in options for word in ("-o", option))]
    if not system_lists:
        # The exit code says nothing: one dead third-party source, or a hook that wants root, fails it all.
        tell("fetching package lists")
        said.append(_run([*apt, "update"], work)[1])
    for name in names:
        tell(f"fetching the package {name}")
        code, output = _run([*apt, "download", name], work)
        found = sorted(work.glob("*.deb"))
        if code == 0 and found:
            return found[0]
        said.insert(0, output)
    return None


def _run(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run apt or dpkg with this process's environment: proxies are set there."""
    try:
        done = subprocess.run(  # noqa: S603 (a list of words, no shell)
            list(command), cwd=folder, text=True, errors="replace", check=False, timeout=DOWNLOAD_SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"E: {command[0]} took longer than {DOWNLOAD_SECONDS:.0f} s\n"
    return done.returncode, done.stdout
