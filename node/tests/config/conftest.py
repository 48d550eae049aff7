# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The document's federation file and its other blocks, and short ways to change and read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from grey.config import federation, yamlfile
from grey.config.errors import ConfigError

DATA = Path(__file__).parent / "data"


@pytest.fixture
def verbatim() -> str:
    return (DATA / "federation.yaml").read_text()


@pytest.fixture
def security() -> str:
    return (DATA / "security.yaml").read_text()


@pytest.fixture
def resolution() -> str:
    return (DATA / "conflict-resolution.yaml").read_text()


class Edited:
    """The verbatim file with parts replaced and added."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, *replacements: tuple[str, str], add: str = "") -> Edited:
        text = self.text
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new)
        return Edited(text + add)

    def read(self) -> federation.Federation:
        return federation.read(yamlfile.parse("f.yaml", self.text.encode()))

    def faults(self) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.read()
        return [str(fault) for fault in caught.value.faults]


@pytest.fixture
def edited(verbatim: str) -> Edited:
    return Edited(verbatim)
