# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collections that come after the one that was deployed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from releases import Collection, collection


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The next version."""
    return collection(tmp_path_factory.mktemp("newer"), "9.1.0")


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """A version whose greyd ends right after its start."""
    return collection(tmp_path_factory.mktemp("broken"), "9.0.0", broken=True)
