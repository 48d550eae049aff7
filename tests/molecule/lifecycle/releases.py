# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collections of later versions, made from this checkout: one works, the greyd of one does not start."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from hosts import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from tree import build_ignore, kept_out, tracked

VERSIONED = {
    "galaxy.yml": r"^version: (\S+)$",
    "node/pyproject.toml": r'^version = "(\S+)"$',
    "node/src/grey/__init__.py": r'^__version__ = "(\S+)"$',
}
BREAKING = "\nraise RuntimeError('no greyd of this release starts')\n"


@dataclass(frozen=True)
class Collection:
    """An installed collection: its version, and what Ansible finds it by."""

    version: str
    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables that let Ansible take this one, not the checkout's."""
        return {"ANSIBLE_COLLECTIONS_PATH": str(self.path)}


def collection(folder: Path, version: str, *, broken: bool = False) -> Collection:
    """Make the collection of another version in a folder; only its node differs from this checkout's."""
    target = folder / "ansible_collections" / "grey" / "distributed"
    ignored = build_ignore()
    for name in tracked():
        if not kept_out(name, ignored) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for name, pattern in VERSIONED.items():
        text = (target / name).read_text(encoding="utf-8")
        (found,) = re.findall(pattern, text, re.MULTILINE)
        (target / name).write_text(text.replace(found, version, 1), encoding="utf-8")
    if broken:
        # Imported by `greyd run` alone: what else is done with greyd works.
        with (target / "node" / "src" / "grey" / "daemon" / "node.py").open("a", encoding="utf-8") as file:
            file.write(BREAKING)
    return Collection(version, folder)
