# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A commit and a push are checked by what CI runs, and what they leave out is said where people look."""

from __future__ import annotations

import re

import yaml

import lint
from console import ROOT


def test_every_check_is_in_a_hook_or_named_as_left_to_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0][
        "hooks"
    ]
    entries = " ".join(hook["entry"] for hook in hooks)
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (left,) = re.findall(r"left to `make lint`: (.*)\.", contributing)
    checks = {"house": "checks/house.py", "changelog": "lint.py changelog"}
    for name in lint.commands():
        assert checks.get(name, name) in entries or name in left, f"{name} runs in no hook"
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)


def test_ruff_reads_the_node_too() -> None:
    """It has rules of its own, and the root's keep out of its folder."""
    for name in ("ruff check", "ruff format"):
        assert "node" in lint.commands()[name][0]
