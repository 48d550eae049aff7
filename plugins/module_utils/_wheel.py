# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's wheel, made from its sources with the standard library: same sources, same bytes, no build tool.

So every way to build the collection works: ``make collection`` puts the wheel in, and what comes from
``ansible-galaxy collection build`` or from git carries the sources, of which the controller makes the same.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tomllib
import zipfile
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PACKAGE = "grey"
_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold
_MODE = 0o100644 << 16
_TAG = "py3-none-any"
_WHEEL_FILE = f"Wheel-Version: 1.0\nGenerator: {_PACKAGE}\nRoot-Is-Purelib: true\nTag: {_TAG}\n".encode()


def build(node: Path) -> tuple[str, bytes]:
    """Return the name and the bytes of the wheel of the sources in ``node`` (pyproject.toml and src/)."""
    project = _project(node)
    name = project["name"].replace("-", "_")
    info = f"{name}-{project['version']}.dist-info"
    files = dict(_sources(node / "src"))
    files |= {
        f"{info}/METADATA": _metadata(project),
        f"{info}/WHEEL": _WHEEL_FILE,
        f"{info}/entry_points.txt": _entry_points(project),
    }
    record = [f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in files.items()]
    files[f"{info}/RECORD"] = f"{''.join(record)}{info}/RECORD,,\n".encode()
    held = io.BytesIO()
    # Stored, not deflated: compressors differ between machines, and the bytes name the release.
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, _TIME)
            entry.external_attr = _MODE
            archive.writestr(entry, content)
    return f"{name}-{project['version']}-{_TAG}.whl", held.getvalue()


def _project(node: Path) -> dict[str, Any]:
    try:
        project: dict[str, Any] = tomllib.loads((node / "pyproject.toml").read_text(encoding="utf-8"))[
            "project"
        ]
    except (OSError, ValueError, KeyError) as error:
        raise GreyError(
            f"{node}: wanted the node's sources with pyproject.toml, found: {error}; "
            "install the collection again, from the file that make collection writes"
        ) from error
    return project


def _sources(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((folder / _PACKAGE).rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and "__pycache__" not in inside.parts and not path.name.startswith("."):
            yield inside.as_posix(), path.read_bytes()


def _metadata(project: dict[str, Any]) -> bytes:
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"License-Expression: {project['license']}",
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {dependency}" for dependency in sorted(project["dependencies"])),
    ]
    return ("\n".join(lines) + "\n").encode()


def _entry_points(project: dict[str, Any]) -> bytes:
    scripts = [f"{name} = {target}" for name, target in project["scripts"].items()]
    return ("\n".join(["[console_scripts]", *scripts]) + "\n").encode()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
