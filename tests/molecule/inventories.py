# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a scenario's inventory, as an operator edits one: other hosts, or another place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from hosts import ROOT, Fleet


def copied(fleet: Fleet, target: Path, **clusters: Sequence[str]) -> Path:
    """Copy a fleet's inventory; return the folder. ``clusters`` names the hosts of groups in their order."""
    shutil.copytree(fleet.inventory[1], target)
    file = target / "hosts.yml"
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    groups = document["all"]["children"]["fleet"]["children"]["grey"]["children"]
    for name, hosts in clusters.items():
        held = groups[f"cluster_{name}"]["hosts"]
        groups[f"cluster_{name}"]["hosts"] = {host: held[host] for host in hosts}
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return target


def variables(fleet: Fleet) -> str:
    """Return the extra variables that a copy needs: it cannot tell any more which fleet it is of."""
    return json.dumps({"fleet_name": fleet.home.name, "fleet_checkout": str(ROOT)})
