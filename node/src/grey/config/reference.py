# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference of the federation file, made from its schema and rules.

``python -m grey.config.reference > docs/reference/federation-file.md`` (in the repository's root) writes it.
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import TYPE_CHECKING, Any

from grey.config import rules, schema
from grey.config.federation import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grey.config.schema import Schema

_HEAD = """\
<!-- Made from node/src/grey/config/schema.json and rules.py by grey.config.reference: do not edit. -->
# The federation file

One `federation.yaml` drives the playbooks and every node. `grey-ctl config check FILE` checks it (exit 0, or
2 with the faults as `FILE:LINE: KEY: what was wanted, what was found; the next step`), `grey-ctl config show
FILE -o json` shows it with all defaults, and `grey-ctl config schema` prints its JSON Schema. Editors check
while you type when the file begins with `# yaml-language-server: $schema=PATH-OF-THE-SCHEMA`.

The file is one YAML 1.2 mapping in UTF-8, at most 1 MiB. `yes`, `no`, `on` and `off` are text: write `true`
or `false`. Duplicate keys, tags, merge keys (`<<`) and numbers such as `010` or `1e3` are refused; anchors
may stand for whole values.

This version serves topology `active-passive` with mode `async`; the other topologies and modes are valid, but
refused by `config check`, the playbooks and `greyd` until they can be carried out.

- A **duration** is a number and `ms`, `s`, `m`, `h` or `d`: `100ms`, `30s`, `24h`.
- An **endpoint** is `HOST:PORT`, an IPv6 address in brackets: `[2001:db8::1]:8080`. Never a URL.
- A **name** has 1 to 63 characters `a-z`, `0-9` and `-`, and neither begins nor ends with `-`.
- A **path** is absolute.
"""
_RULES = """\
## Rules between keys

They are checked once the tables above are kept: faults of that kind come first, and `grey-ctl config check`
then ends with a line that says so.
"""
_TYPES = {"boolean": "`true` or `false`", "integer": "whole number", "object": "mapping", "string": "text"}


def render() -> str:
    """Return the page in Markdown."""
    root = schema.schema(SCHEMA)
    parts = [_HEAD, *_sections(root, root, "", set()), _RULES]
    docs = [
        " ".join((inspect.getdoc(rule) or "").replace("``", "`").split())
        for rule in (rules.doubled_replication, *rules.RULES)
    ]
    return "\n".join([*parts, *(f"- {doc}" for doc in docs), ""])


def _sections(part: Schema, root: Schema, key: str, seen: set[str]) -> Iterator[str]:
    """Yield a section for a mapping and for every mapping below it; a shared definition comes once."""
    properties: dict[str, Schema] = part["properties"]
    yield f"## {f'`{key}`' if key else 'Top level'}\n"
    yield f"{part['description']}\n"
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    required = part.get("required", [])
    for name, child in properties.items():
        yield _row(name, schema.resolved(child, root), root, required=name in required)
    yield ""
    for name, child in properties.items():
        reference = child.get("$ref", "")
        full = schema.resolved(child, root)
        below, suffix = _mapping(full, root)
        if below and reference not in seen:
            seen |= {reference} - {""}
            yield from _sections(below, root, f"{key}.{name}{suffix}".lstrip("."), seen)


def _mapping(part: Schema, root: Schema) -> tuple[Schema | None, str]:
    """Return the mapping that a value is, holds a list of, or may be; and what to add to its key."""
    choices = [part, *(schema.resolved(choice, root) for choice in part.get("anyOf", []))]
    for choice in choices:
        if choice.get("type") == "object":
            return choice, ""
    items = schema.resolved(part.get("items", {}), root)
    return (items, "[]") if items.get("type") == "object" else (None, "")


def _row(name: str, part: Schema, root: Schema, *, required: bool) -> str:
    default = "required" if required else ""
    if "default" in part and part["default"] != {}:
        default = f"`{_plain(part['default'])}`"
    meaning = part["description"].replace("|", r"\|")
    example = f"`{_plain(part.get('examples', [''])[0])}`"
    if example not in ("``", default) and "enum" not in part and part.get("type") != "boolean":
        meaning += f" Example: {example}."
    return f"| `{name}` | {_value(part, root)} | {default} | {meaning} |"


def _value(part: Schema, root: Schema) -> str:
    part = schema.resolved(part, root)
    if "anyOf" in part:
        return " or ".join(_value(choice, root) for choice in part["anyOf"])
    if "enum" in part:
        return ", ".join(f"`{choice}`" for choice in part["enum"])
    if part["type"] == "array":
        return f"list: {_value(part['items'], root)}"
    if "format" in part:
        title = schema.schema(SCHEMA)["$defs"][part["format"].removeprefix("grey-").replace("-", "_")][
            "title"
        ]
        return str(title) if title.startswith("DNS") else str(title).lower()
    return _TYPES[part["type"]]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(render())
