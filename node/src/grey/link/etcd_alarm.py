# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alarms that an etcd raises, and the next step for each: said alike by the node, the API and the doctor.

docs/reference/node-file.md says more. While one is raised, no member takes writes.
"""

from __future__ import annotations

SPACE = "NOSPACE"
CORRUPT = "CORRUPT"
KNOWN = (SPACE, CORRUPT)

_STEPS = {
    SPACE: (
        "greyd compacts and defragments the engine and lifts the alarm by itself, within some minutes; if "
        "the alarm stays or returns, the data itself is too large: raise store.quota, then restart engine "
        "and greyd, one node after the other"
    ),
    CORRUPT: (
        "members hold different data: find the one that differs (etcdctl endpoint hashkv), remove it and add "
        "it anew empty; if no majority agrees, restore a backup"
    ),
}


def next_step(alarm: str) -> str:
    """Return what happens, or is to be done, about an alarm of the engine of a cluster's data."""
    return next((step for word, step in _STEPS.items() if word in alarm), "see etcdctl alarm list")
