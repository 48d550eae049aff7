# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which wheelhouse a Python can use: its version, architecture and C library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._command import run
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
ARCHITECTURES = ("x86_64", "aarch64")
# The oldest C library that all wheels run with: Debian 10, RHEL 8, Ubuntu 20.04 and newer have it.
GLIBC = (2, 28)
_SECONDS = 30.0
_QUESTIONS = """\
import json, os, sys
try:
    import venv
except ImportError:
    venv = None
names = getattr(os, "confstr_names", {})
libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in names else ""
print(json.dumps(["%d.%d" % sys.version_info[:2], os.uname()[4], libc or "", venv is not None]))
"""


@dataclass(frozen=True)
class Target:
    """What a wheelhouse is for: a Python (``3.11``) and an architecture (``x86_64``)."""

    python: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.python}-{self.architecture}"


@dataclass(frozen=True)
class Interpreter:
    """A Python on this machine. ``glibc`` is empty with another C library."""

    path: str
    target: Target
    glibc: str
    makes_environments: bool

    def faults(self) -> list[str]:
        """Say why no release can be installed with it; nothing when one can."""
        found = []
        if self.target.python not in PYTHONS:
            found.append(
                f"{self.path}: wanted Python {PYTHONS[0]} to {PYTHONS[-1]} for the node, found "
                f"{self.target.python}; "
                "install one and name it with grey_python"
            )
        if tuple(int(part) for part in self.glibc.split(".") if part.isdigit()) < GLIBC:
            found.append(
                f"C library: wanted glibc {'.'.join(map(str, GLIBC))} or newer, found "
                f"{self.glibc or 'another one'}"
            )
        if not self.makes_environments:
            found.append(f"{self.path}: wanted its module venv, found none; install the whole of Python")
        return found


def look(path: str) -> Interpreter:
    """Ask a Python what it is. Fails when it cannot be run."""
    answer = run([path, "-I", "-c", _QUESTIONS], timeout_seconds=_SECONDS)
    if answer.code != 0:
        raise GreyError(f"{path}: wanted a Python that runs, found exit {answer.code}: {answer.said()}")
    version, machine, libc, makes = json.loads(answer.output)
    name, _separator, number = libc.partition(" ")
    return Interpreter(path, Target(version, machine), number if name == "glibc" else "", bool(makes))


def targets(items: Iterable[Mapping[str, Any]]) -> list[Target]:
    """Return the targets of a module's parameter, each once, in order."""
    return list(dict.fromkeys(_target(item["python"], item["architecture"]) for item in items))


def _target(python: str, architecture: str) -> Target:
    for word, known, name in ((python, PYTHONS, "python"), (architecture, ARCHITECTURES, "architecture")):
        if word not in known:
            raise GreyError(f"targets: {name}: wanted one of {', '.join(known)}, found {word!r}")
    return Target(python, architecture)
