# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example of docs/reference/client.md runs and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest
    from cli.conftest import Site

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "client.md"
BLOCK = re.compile(
    r"^```python\n(?P<program>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


def test_examples(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(site.folder)
    names: dict[str, Any] = {"__name__": "examples"}
    blocks = list(BLOCK.finditer(PAGE.read_text(encoding="utf-8")))
    assert len(blocks) == 8
    for block in blocks:
        exec(compile(block["program"], str(PAGE), "exec"), names)
        assert capsys.readouterr().out == (block["printed"] or ""), block["program"]
