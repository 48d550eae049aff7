# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs to keep running, whoever keeps them: what they are, the digest to compare by, and what to do.

The digest goes into the environment of the process, where the next run reads it back: what counts is what
runs, not what the files say.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.grey.distributed.plugins.module_utils._files import File

PROGRAM_DIGEST = "GREY_PROGRAM_DIGEST"

Condition = Literal["down", "outdated", "current"]


@dataclass(frozen=True)
class Program:
    """A program to keep running, with its own configuration ``files``.

    A change in one of them, or of a file in ``depends_on`` (absolute paths), restarts it. ``after`` names
    programs of this host that are started before it; ``writable`` are the folders that it may write;
    ``ready`` is a URL that answers 200 once it is of use.
    """

    name: str
    command: tuple[str, ...]
    priority: int
    stop_seconds: int
    depends_on: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    description: str = ""
    after: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    ready: str = ""


@dataclass(frozen=True)
class Plan:
    """What to start or restart now, what is left for later, and whether the manager itself starts anew."""

    stale: frozenset[str]
    deferred: frozenset[str]
    anew: bool


def decide(conditions: Mapping[str, Condition], *, anew: bool, defer: bool) -> Plan:
    """Decide what happens to programs. ``anew``: supervisord runs with an older configuration.

    ``defer``: what runs is left alone, supervisord too, because starting that anew stops every program.
    """
    down = {name for name, condition in conditions.items() if condition == "down"}
    affected = {name for name, condition in conditions.items() if condition == "outdated" or anew} - down
    if defer:
        return Plan(frozenset(down), frozenset(affected), anew=False)
    return Plan(frozenset(down | affected), frozenset(), anew)


def require_name(name: str) -> None:
    """Refuse a name that file names and unit names could not carry."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise GreyError(f"programs: wanted a name of small letters, digits and -, found {name!r}")


def program_digest(body: str, program: Program) -> str:
    """Return the digest of all that makes a program what it is; ``body`` is how its manager starts it."""
    own = "".join(f"\0{file.path}\0{file.content}" for file in program.files)
    return digest(f"{body}{own}{program.environment or ''}", program.depends_on)


def digest(text: str, paths: tuple[str, ...] = ()) -> str:
    """Return a digest of a text and of the content of some files; a file that is not there counts as that."""
    total = hashlib.sha256(text.encode())
    for path in sorted(paths):
        try:
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except FileNotFoundError:
            content = "absent"
        total.update(f"\0{path}\0{content}".encode())
    return total.hexdigest()[:32]


def written_digest(file: File) -> str:
    """Return the digest that a rendered file of supervisord or systemd carries."""
    match = re.search(rf'{PROGRAM_DIGEST}="?([0-9a-f]+)"', file.content)
    return match.group(1) if match else ""
