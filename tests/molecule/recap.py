# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-playbook prints, read back."""

from __future__ import annotations

import re


def recap(output: str) -> dict[str, dict[str, int]]:
    """Return each host's counts of a run."""
    found = re.findall(r"^(\S+)\s+: (ok=.*)$", output, re.MULTILINE)
    return {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in found}


def changes(output: str) -> int:
    """Return how many changes all hosts of a run had."""
    return sum(counts["changed"] for counts in recap(output).values())


def changed(output: str, task: str) -> list[str]:
    """Return the hosts that a task changed, in the order in which it came to them."""
    parts = re.split(r"^TASK \[", output, flags=re.MULTILINE)[1:]
    return [
        host
        for part in parts
        if part.startswith((f"{task}]", f"grey.distributed.node : {task}]"))
        for host in re.findall(r"^changed: \[([^\] ]+)", part, re.MULTILINE)
    ]
