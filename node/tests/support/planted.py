# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a checker against a fault that was planted into the shipping code: it must fail, and says how."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from collections.abc import Callable

PLANTED = settings(
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"""Always the same examples; the first that fails is enough, however long it is."""


def must_be_caught(fault: str, check: Callable[[], None]) -> None:
    """Run a checker that must fail, and print which of its lines did. Any other error is no catch."""
    began = time.perf_counter()
    try:
        check()
    except AssertionError as caught:
        seconds = time.perf_counter() - began
        line = traceback.extract_tb(caught.__traceback__)[-1]
        said = line.line if (line.line or "").startswith("assert") else caught
        where = f"{Path(line.filename).name}:{line.lineno}"
        print(f"{fault}: caught in {seconds:.2f} s by {where}: {said}")  # noqa: T201 - `make mutants` shows it
        return
    pytest.fail(f"the fault {fault} passed every check")
