# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this tree importable as ansible_collections.grey.distributed when no loader does."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Ansible refuses a locale that is not UTF-8, and pytest may be called from one.
os.environ["LC_ALL"] = "C.UTF-8"


def _importable() -> bool:
    try:
        return find_spec("ansible_collections.grey.distributed.plugins.module_utils") is not None
    except ImportError:
        return False


if not _importable():
    _folder = tempfile.TemporaryDirectory(prefix="collections-")
    _link = Path(_folder.name) / "ansible_collections" / "grey" / "distributed"
    _link.parent.mkdir(parents=True)
    _link.symlink_to(ROOT)
    sys.path.insert(0, _folder.name)
