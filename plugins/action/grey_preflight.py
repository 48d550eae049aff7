# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's side of grey_preflight: how far the host's clock is from the one here."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.grey.distributed.plugins.module_utils import _clock


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs the module, and compares the clocks before and after."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module returned, with the offset of the clocks."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        asked = time.time()
        result.update(self._execute_module(task_vars=task_vars))
        answered = time.time()
        clock = result.get("clock")
        if isinstance(clock, dict) and "began" in clock:
            found = [_clock.bounds(asked, clock.pop("began"), clock.pop("ended"), answered), *self._more()]
            self._judge(result, clock, _clock.narrowed(found))
        return result

    def _more(self) -> list[_clock.Bounds]:
        """Ask for the host's clock again, where it matters that the answer is narrow."""
        return []

    def _judge(self, result: dict[str, Any], clock: dict[str, Any], found: _clock.Bounds | None) -> None:
        clock["offset"] = None if found is None else {"least": found.least, "most": found.most}
        allowed = self._task.args.get("max_clock_offset")
        if allowed is None:
            return
        fault = _clock.fault(found, float(allowed), kept=clock["synchronised"])
        if fault is not None:
            fault = f"{self._task.args.get('host')}: {fault}"
            if self._task.args.get("clock", "refuse") == "refuse":
                result["faults"] = [*result.get("faults", []), fault]
            else:
                Display().warning(fault)
