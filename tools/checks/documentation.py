# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the collection with ansible-doc, as its user does, and refuses what says too little.

``documentation.py [FOLDER]``: FOLDER holds the ansible-doc to use, for another ansible-core than this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "grey.distributed"
ATTRIBUTES = ("check_mode", "diff_mode", "idempotent")
LIMIT_SECONDS = 120


def main(arguments: list[str]) -> int:
    """Check every module, plugin and role; 0 when all of them say what they should."""
    program = str(Path(arguments[0] if arguments else f"{sys.prefix}/bin") / "ansible-doc")
    breaches, read = [], 0
    for kind, names in kinds().items():
        found = documentation(program, kind, names)
        for name in names:
            if name not in found:
                breaches.append(f"{kind} {name}: ansible-doc shows nothing")
                continue
            read += 1
            check = {"module": module, "role": role}.get(kind, plugin)
            breaches += [f"{kind} {name}: {breach}" for breach in check(found[name])]
    print("\n".join(breaches) or f"{read} pages read")
    return 1 if breaches else 0


def kinds() -> dict[str, list[str]]:
    """Return the full names of everything that ansible-doc can show, by its kind."""
    folders = [path for path in sorted((ROOT / "plugins").iterdir()) if path.is_dir()]
    # An action is the controller's side of the module of the same name, whose page describes both.
    helpers = {"action", "module_utils", "doc_fragments", "plugin_utils"}
    found = {
        folder.name.removesuffix("s") if folder.name == "modules" else folder.name: [
            f"{COLLECTION}.{path.stem}" for path in sorted(folder.glob("[!_]*.py"))
        ]
        for folder in folders
        if folder.name not in helpers
    }
    found["role"] = [
        f"{COLLECTION}.{path.name}" for path in sorted((ROOT / "roles").iterdir()) if path.is_dir()
    ]
    return {kind: names for kind, names in found.items() if names}


def documentation(program: str, kind: str, names: list[str]) -> dict[str, Any]:
    """Return what ansible-doc says of some modules, plugins or roles."""
    done = subprocess.run(
        [program, "--type", kind, "--json", *names],
        capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"{program} --type {kind}: exit {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def module(page: dict[str, Any]) -> Iterator[str]:
    """Say what a module's page lacks."""
    yield from plugin(page)
    lacking = [
        name for name in ATTRIBUTES if not page["doc"].get("attributes", {}).get(name, {}).get("support")
    ]
    if lacking:
        yield f"attributes: wanted {', '.join(ATTRIBUTES)}, missing: {', '.join(lacking)}"
    values = page.get("return") or {}
    if not values:
        yield "returns: wanted every return value, found none"
    for name, value in values.items():
        for key in ("description", "returned", "type"):
            if not text(value.get(key)):
                yield f"returns: {name}: wanted its {key}, found none"


def plugin(page: dict[str, Any]) -> Iterator[str]:
    """Say what a plugin's page lacks."""
    document = page["doc"]
    for key in ("short_description", "description", "version_added", "author"):
        if not text(document.get(key)):
            yield f"{key}: wanted it, found none"
    if not text(page.get("examples")):
        yield "examples: wanted at least one, found none"
    yield from options(document.get("options", {}))


def role(page: dict[str, Any]) -> Iterator[str]:
    """Say what a role's page lacks."""
    entries = page.get("entry_points", {})
    if not entries:
        yield "wanted at least one entry point, found none"
    for name, entry in entries.items():
        for key in ("short_description", "description", "version_added", "author"):
            if not text(entry.get(key)):
                yield f"{name}: {key}: wanted it, found none"
        yield from options(entry.get("options", {}), f"{name}: ")


def options(found: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Say which options lack a description, those inside others too."""
    for name, option in found.items():
        if not text(option.get("description")):
            yield f"{prefix}{name}: wanted its description, found none"
        yield from options(option.get("suboptions") or option.get("options") or {}, f"{prefix}{name}.")


def text(value: object) -> bool:
    """Tell whether there is anything to read, in every line of a list."""
    if isinstance(value, list):
        return bool(value) and all(text(line) for line in value)
    return isinstance(value, str) and bool(value.strip())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
