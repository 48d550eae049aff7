# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where grey-ctl's own file is."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "GREY_CTL_CONFIG"


def file_path(config: str | None) -> Path:
    """Return the file that was named, else that of the variable, else the one in the home folder."""
    given = config or os.environ.get(VARIABLE)
    return Path(given) if given else Path.home() / ".config" / "grey" / "ctl.yaml"
