# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look at the hosts found, as tables for people, as Markdown and as JSON. Pure."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

State = Literal["ok", "warning", "fault"]
_ORDER: tuple[State, ...] = ("fault", "warning", "ok")
_COLUMNS = ("state", "where", "what", "value", "wanted", "next step")
# More hosts than these are counted, not named, where they say the same.
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: where, what, its value, and, unless it is ok, the next step."""

    section: str
    state: State
    where: str
    what: str
    value: str
    wanted: str = ""
    next: str = ""


def from_sentence(section: str, where: str, sentence: str) -> Finding:
    """Make a fault of a sentence as errors are written: ``what: wanted A, found B; step``."""
    parts = re.fullmatch(r"(?s)(.*?): wanted (.*), found (.*?)(?:; (.*))?", sentence)
    if parts is None:
        return Finding(section, "fault", where, "", sentence)
    return Finding(section, "fault", where, parts[1], parts[3], parts[2], parts[4] or "")


def counted(findings: Iterable[Finding]) -> dict[State, int]:
    """Return how many findings there are of each state."""
    states = [each.state for each in findings]
    return {state: states.count(state) for state in _ORDER}


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """Make one finding of those that say the same of several hosts; the worst come first."""
    groups: dict[Finding, list[str]] = {}
    for each in findings:
        groups.setdefault(dataclasses.replace(each, where=""), []).append(each.where)
    found = [dataclasses.replace(each, where=_together(where)) for each, where in groups.items()]
    return sorted(found, key=lambda each: _ORDER.index(each.state))


def table(findings: Sequence[Finding]) -> list[str]:
    """Return one table per section, and what it comes to, line by line."""
    lines: list[str] = []
    for section, rows in _sections(findings):
        cells = [_COLUMNS, *rows]
        used = [index for index in range(len(_COLUMNS)) if any(row[index] for row in rows)]
        widths = [max(len(row[index]) for row in cells) for index in used]
        lines += ["", section.upper()]
        for row in cells:
            padded = (row[index].ljust(width) for index, width in zip(used, widths, strict=True))
            lines.append("  ".join(padded).rstrip())
    return [*lines[1:], "", _summary(findings)]


def markdown(title: str, findings: Sequence[Finding]) -> str:
    """Return the same as Markdown."""
    lines = [f"# {title}", "", _summary(findings)]
    for section, rows in _sections(findings):
        lines += ["", f"## {section.capitalize()}", ""]
        for row in (_COLUMNS, ("---",) * len(_COLUMNS), *rows):
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |")
    return "\n".join([*lines, ""])


def document(title: str, findings: Sequence[Finding], values: Any) -> str:
    """Return all findings, one by one, and the values that they are about, as JSON."""
    found = {
        "title": title,
        "summary": counted(findings),
        "findings": [dataclasses.asdict(each) for each in findings],
        "values": values,
    }
    return json.dumps(found, indent=2, sort_keys=False) + "\n"


def rendered(path: str, title: str, findings: Sequence[Finding], values: Any) -> str:
    """Return the content of a report file, in the form that its name ends with."""
    if path.endswith(".json"):
        return document(title, findings, values)
    if path.endswith(".md"):
        return markdown(title, findings)
    raise GreyError(f"report: wanted a file that ends with .json or .md, found {path}")


def _sections(findings: Sequence[Finding]) -> list[tuple[str, list[tuple[str, ...]]]]:
    names = dict.fromkeys(each.section for each in findings)
    return [
        (
            name,
            [
                tuple(
                    " ".join(cell.split())
                    for cell in (each.state, each.where, each.what, each.value, each.wanted, each.next)
                )
                for each in merged([each for each in findings if each.section == name])
            ],
        )
        for name in names
    ]


def _summary(findings: Sequence[Finding]) -> str:
    number = counted(findings)
    return f"{number['fault']} faults, {number['warning']} warnings, {number['ok']} ok"


def _together(where: Sequence[str]) -> str:
    names = list(dict.fromkeys(where))
    return ", ".join(names) if len(names) <= _NAMED else f"{names[0]} and {len(names) - 1} more"
