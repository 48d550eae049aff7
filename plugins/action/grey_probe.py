# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's side of grey_probe: the host's clock, asked in the way that takes the least time."""

from __future__ import annotations

import time

from ansible_collections.grey.distributed.plugins.action.grey_preflight import ActionModule as Timed
from ansible_collections.grey.distributed.plugins.module_utils import _clock

_SAMPLES = 4


class ActionModule(Timed):
    """Runs the module, and compares the clocks closely."""

    def _more(self) -> list[_clock.Bounds]:
        found = []
        for _sample in range(_SAMPLES):
            asked = time.time()
            said = self._low_level_execute_command("date +%s.%N", sudoable=False)
            answered = time.time()
            try:
                there = float(said["stdout"].strip())
            except (KeyError, ValueError):  # another date than that of GNU
                break
            found.append(_clock.bounds(asked, there, there, answered))
        return found
