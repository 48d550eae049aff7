# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet that Molecule made, for all its tests. They run as a part of a scenario: make molecule."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from deployed import Federation
from hosts import Fleet


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """The hosts by name, as their administrator has them."""
    with Fleet.of_scenario() as fleet:
        yield fleet


@pytest.fixture(scope="session")
def federation(fleet: Fleet) -> Federation:
    """What was deployed on them."""
    return Federation(fleet)
