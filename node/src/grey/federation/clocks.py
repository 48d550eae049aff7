# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock that deadlines are measured with."""

from __future__ import annotations

import time


def boottime_seconds() -> float:
    """Return CLOCK_BOOTTIME: it goes on while the process or the machine sleeps, and nobody sets it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
