# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation file as grey-ctl understands it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._command import run
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOW_SECONDS = 30.0
_WRONG_FILE = 2


def read(grey_ctl: str, path: str) -> dict[str, Any]:
    """Return the checked federation with all defaults. Fails with one line per fault in the file."""
    if not Path(path).is_file():
        raise GreyError(
            f"{path}: wanted the federation file, found no file; name another one with -e "
            "grey_federation_file=PATH",
            errors=[],
        )
    answer = run((grey_ctl, "config", "show", path, "-o", "json"), timeout_seconds=_SHOW_SECONDS)
    if answer.code == 0:
        federation = answer.json()
        if not isinstance(federation, dict):
            raise GreyError(f"grey-ctl config show: wanted a federation, found: {answer.said()}", errors=[])
        return federation
    errors = _errors(answer.json()) if answer.code == _WRONG_FILE and answer.output.strip() else []
    if not errors:
        raise GreyError(
            f"grey-ctl config show {path}: wanted the checked file, found exit {answer.code}: "
            f"{answer.said()}",
            errors=[],
        )
    lines = [rendered(error, path) for error in errors]
    raise GreyError("the federation file is wrong; no host was touched\n" + "\n".join(lines), errors=errors)


def rendered(error: Mapping[str, Any], path: str) -> str:
    """Render one of grey-ctl's faults as FILE:LINE: KEY: MESSAGE (HINT)."""
    place = ":".join(str(part) for part in (error.get("file") or path, error.get("line")) if part is not None)
    parts = [place, *(str(error[key]) for key in ("key", "message") if error.get(key))]
    return ": ".join(parts) + (f" ({error['hint']})" if error.get("hint") else "")


def content(path: str) -> str:
    """Return the file's text, to be copied to the hosts as it is."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GreyError(f"{path}: wanted text in UTF-8, found: {error}") from error


def name_of(path: str) -> str | None:
    """Return the federation's name out of a file that may be wrong otherwise; None when none can be seen."""
    try:
        text = Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    match = re.search(
        r"^federation:.*\n(?:[ \t]*(?:#.*)?\n)*[ \t]+name:[ \t]*[\"']?([\w.-]+)", text, re.MULTILINE
    )
    return match.group(1) if match else None


def _errors(answer: Any) -> list[dict[str, Any]]:
    found = answer.get("errors", []) if isinstance(answer, dict) else []
    return [error for error in found if isinstance(error, dict)]
