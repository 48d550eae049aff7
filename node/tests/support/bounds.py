# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the models run: whole, unless GREY_MODEL_PERCENT says to do with a part, as make unit does."""

from __future__ import annotations

import os

_PERCENT = int(os.environ.get("GREY_MODEL_PERCENT", "100"))


def model_runs(whole: int) -> int:
    """Return how many runs a model takes of those that CI takes."""
    return max(1, whole * _PERCENT // 100)
