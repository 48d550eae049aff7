# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module in this process, and the one script that every module is tested by."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils import basic

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


def run(name: str, args: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    """Run a module; return what it answered."""
    module = importlib.import_module(f"ansible_collections.grey.distributed.plugins.modules.{name}")
    sent = {**args, "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": "/tmp"}
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": sent}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            module.main()
    finally:
        basic._ANSIBLE_ARGS = None
    answer: dict[str, Any] = json.loads(output.getvalue())
    return answer


def passes(name: str, args: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    """Run a module that must end well."""
    answer = run(name, args, check=check)
    assert not answer.get("failed"), answer.get("msg")
    return answer


def fails(name: str, args: dict[str, Any], *, check: bool = False) -> str:
    """Run a module that must fail; return its message."""
    answer = run(name, args, check=check)
    assert answer.get("failed"), answer
    message: str = answer["msg"]
    return message


@dataclass
class Script:
    """Wrong parameters, check mode, create, again, update, again, absent.

    ``state`` returns what the module manages, in any form that can be compared.
    """

    module: str
    state: Callable[[], Any]
    create: dict[str, Any]
    wrong: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    update: dict[str, Any] | None = None
    absent: dict[str, Any] | None = None

    def play(self) -> None:
        """Run the whole script."""
        untouched = self.state()
        for args, message in self.wrong:
            assert fails(self.module, args) == message
            assert self.state() == untouched
        for args in filter(None, (self.create, self.update, self.absent)):
            self._to(args)

    def _to(self, args: dict[str, Any]) -> None:
        before = self.state()
        foreseen = passes(self.module, args, check=True)
        assert foreseen["changed"], "check mode must say what a run would change"
        assert self.state() == before, "check mode must change nothing"
        done = passes(self.module, args)
        assert done["changed"]
        assert [part["before_header"] for part in done["diff"]] == [
            part["before_header"] for part in foreseen["diff"]
        ], "check mode must foresee the same changes"
        after = self.state()
        for check in (True, False):
            again = passes(self.module, args, check=check)
            assert not again["changed"], again.get("diff")
            assert self.state() == after


def program(path: Path, body: str) -> str:
    """Write a Python program that can be run; return its path."""
    path.write_text(f"#!{sys.executable}\n{body}", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Return every path below a folder with its mode and content."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            "" if path.is_dir() else path.read_bytes().decode("utf-8", "replace"),
        )
        for path in sorted(root.rglob("*"))
    }
