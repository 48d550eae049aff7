# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments with ansible-core alone and with ansible-runner, which the tests of installations make too."""

from __future__ import annotations

import sys
from pathlib import Path

for _folder in ("demo", "install"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / _folder))
