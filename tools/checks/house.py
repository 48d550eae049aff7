# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The house's own rules, that no linter knows: which room may import which, names, sizes, locks."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NODE = ROOT / "node" / "src" / "grey"
LONGEST_FILE_LINES = 500
LOCKS = ("node", "demo", "dev")  # each holds the one before it

# A room may import the rooms after it, never one before it (docs/ARCHITECTURE.md, "The parts").
ROOMS = ("daemon", "cli", "serve", "federation", "replicate", "data", "store", "record", "config", "link")
# The contract that the rooms on both sides of it share.
SHARED = ("grey.federation.interface",)
# The library that users install with the node: it must stay usable without the node's inside.
CLIENT_MAY = ("grey.client", "grey.link", "grey.config.model", "grey.config.ctl", "grey.record.position")


def main() -> int:
    """Check everything; 0 when no rule is broken."""
    files = [ROOT / name for name in git_files() if name.endswith(".py") and (ROOT / name).is_file()]
    breaches = [
        *check_rooms([path for path in files if path.is_relative_to(NODE)]),
        *check_sides(files),
        *check_names(files),
        *check_sizes(files),
        *check_locks(),
        *check_versions(),
    ]
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


def git_files() -> list[str]:
    """Return what is tracked or new here, and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(set(filter(None, listed.split("\0"))))


def imports(path: Path) -> Iterator[tuple[int, str, str]]:
    """Return line, module and imported name of each import of a file; relative ones absolute."""
    for statement in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield statement.lineno, alias.name, ""
        elif isinstance(statement, ast.ImportFrom):
            module = statement.module or ""
            if statement.level and path.is_relative_to(NODE):
                package = ("grey", *path.relative_to(NODE).parent.parts)[
                    : None if statement.level == 1 else 1 - statement.level
                ]
                module = ".".join([*package, *([module] if module else [])])
            for alias in statement.names:
                yield statement.lineno, module, alias.name


def check_rooms(files: list[Path]) -> Iterator[str]:
    """Imports inside the node point one way, and nobody uses another room's private names."""
    for path in files:
        room = path.relative_to(NODE).parts[0]
        if room.endswith(".py"):
            continue
        if room != "client" and room not in ROOMS:
            yield f"{path.relative_to(ROOT)}: unknown room {room!r}; name it here and in docs/ARCHITECTURE.md"
            continue
        for line, module, name in imports(path):
            parts = module.split(".")
            if parts[0] != "grey":
                continue
            target = parts[1] if len(parts) > 1 else name
            full = module if len(parts) > 2 else f"{module}.{name}"
            where = f"{path.relative_to(ROOT)}:{line}: {room} imports {full}"
            if target != room and any(
                part.startswith("_") and not part.startswith("__") for part in (*parts, name)
            ):
                yield f"{where}: that is private to {target}"
            if room == "client":
                if not any(full == allowed or full.startswith(f"{allowed}.") for allowed in CLIENT_MAY):
                    yield f"{where}: the client may import only {', '.join(CLIENT_MAY)}"
            elif (
                target in ROOMS
                and target != room
                and full not in SHARED
                and ROOMS.index(target) < ROOMS.index(room)
            ):
                yield f"{where}: imports point down: {' > '.join(ROOMS)}"


def check_sides(files: list[Path]) -> Iterator[str]:
    """The collection does not know the node's inside; the node does not know Ansible."""
    for path in files:
        top = path.relative_to(ROOT).parts[0]
        banned = {"plugins": "grey", "node": "ansible"}.get(top)
        for line, module, _ in imports(path) if banned else ():
            first = module.split(".")[0]
            if first == banned or (first == "ansible_collections" and top == "node"):
                rule = "the collection and the node know only each other's commands and files"
                yield f"{path.relative_to(ROOT)}:{line}: {top}/ imports {module}: {rule}"


def check_names(files: list[Path]) -> Iterator[str]:
    """No two modules that a message or a search path would confuse."""
    groups: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in files:
        name = str(path.relative_to(ROOT))
        if path.stem in {"__init__", "conftest"}:
            continue
        if name.startswith("plugins/action/"):
            continue  # the controller's side of the module of the same name
        if name.startswith("plugins/"):
            groups["plugins"][path.stem.lstrip("_")].append(name)
        elif name.startswith(("tools/", "tests/demo/")):
            groups["tools"][path.stem].append(name)
            if path.stem in sys.stdlib_module_names:
                yield f"{name}: hides the standard library's {path.stem}"
    for modules in groups.values():
        for paths in modules.values():
            if len(paths) > 1:
                yield f"{paths[0]}: has the same name as {', '.join(paths[1:])}"


def check_sizes(files: list[Path]) -> Iterator[str]:
    """A long file has more than one purpose."""
    for path in files:
        lines = len(path.read_bytes().splitlines())
        if lines > LONGEST_FILE_LINES:
            yield f"{path.relative_to(ROOT)}: {lines} lines, wanted at most {LONGEST_FILE_LINES}: split it"


def check_locks() -> Iterator[str]:
    """The locks agree with each other and with the node's project file, and name no place to fetch from."""
    pins = {}
    for name in LOCKS:
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        pins[name] = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))
        if re.search(r"https?://|--index|--find-links|--extra-index", text):
            yield f"requirements/{name}.txt: names a place to fetch from; that is for the user's own settings"
        for marker in re.findall(r"^[a-z0-9.-]+==\S+ ; (.*?) *\\?$", text, re.MULTILINE):
            # pip reads markers for the Python that runs it, and a wheelhouse is for another one.
            if name == "node" and re.search(r"python_version|python_full_version|platform_m|sys_pl", marker):
                yield f"requirements/node.txt: {marker!r} differs between hosts; pin what fits all of them"
    for small, large in itertools.pairwise(LOCKS):
        for package, version in pins[small].items():
            if pins[large].get(package) != version:
                found = pins[large].get(package)
                yield (
                    f"requirements/{large}.txt: {package} is {found}, wanted {version} as in {small}.txt "
                    "(make lock)"
                )
    project = (ROOT / "node" / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)\]", project, re.MULTILINE | re.DOTALL)
    for name in re.findall(r'"([A-Za-z0-9._-]+)', block[1] if block else ""):
        if re.sub(r"[-_.]+", "-", name).lower() not in pins["node"]:
            yield f"node/pyproject.toml: {name} is not in requirements/node.in (add it there, then make lock)"


def check_versions() -> Iterator[str]:
    """The collection and the node are one release."""
    places = {
        "galaxy.yml": r"^version: (\S+)",
        "node/pyproject.toml": r'^version = "(.+)"',
        "node/src/grey/__init__.py": r'^__version__ = "(.+)"',
    }
    found = {}
    for name, pattern in places.items():
        match = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else "none"
    if len(set(found.values())) > 1:
        versions = ", ".join(f"{name} {version}" for name, version in found.items())
        yield f"wanted one version everywhere, found: {versions}"


if __name__ == "__main__":
    sys.exit(main())
