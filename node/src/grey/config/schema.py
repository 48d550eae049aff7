# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks a document against one of the package's JSON Schemas, and fills in their defaults."""

from __future__ import annotations

import copy
import difflib
import functools
import importlib.resources
import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError

from grey.config import units, values
from grey.config.errors import BadValue, ConfigError, Fault, quoted
from grey.config.yamlfile import Document, KeyPath, dotted

Schema = dict[str, Any]

_FORMATS: dict[str, Callable[[str], object]] = {
    "grey-address": values.address,
    "grey-domain": values.domain,
    "grey-duration": units.duration,
    "grey-endpoint": values.endpoint,
    "grey-host": values.host,
    "grey-label": values.label,
    "grey-name-pattern": values.name_pattern,
    "grey-node-name": values.node_name,
    "grey-path": values.path,
}
_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "a mapping",
    "string": "a text",
}


def text(name: str) -> str:
    """Return a schema of this package as it is shipped, for example ``schema.json``."""
    return importlib.resources.files("grey.config").joinpath(name).read_text("utf-8")


@functools.cache
def schema(name: str) -> Schema:
    """Return a schema of this package. Callers do not change it."""
    loaded: Schema = json.loads(text(name))
    return loaded


def check(document: Document, name: str) -> None:
    """Raise ConfigError with everything in which the document departs from the schema of this name."""
    faults = [
        fault
        for error in _validator(name).iter_errors(document.data)
        for fault in _faults(document, name, error)
    ]
    if faults:
        raise ConfigError(faults)


def filled(value: Any, name: str) -> Any:
    """Return a copy of checked data in which every missing key that has a default in the schema has it."""
    return _filled(value, schema(name), schema(name))


def resolved(part: Schema, root: Schema) -> Schema:
    """Return a part of a schema with its ``$ref`` followed; what stands beside the ``$ref`` wins."""
    if "$ref" not in part:
        return part
    target: Any = root
    for step in part["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    return {**target, **part}


def _filled(value: Any, part: Schema, root: Schema) -> Any:
    part = resolved(part, root)
    for choice in part.get("anyOf", []):
        choice = resolved(choice, root)
        if isinstance(value, dict) and choice.get("type") == "object":
            return _filled(value, choice, root)
    if isinstance(value, list):
        return [_filled(item, part.get("items", {}), root) for item in value]
    if not isinstance(value, dict):
        return value
    known: dict[str, Schema] = part.get("properties", {})
    defaults = {key: copy.deepcopy(child["default"]) for key, child in known.items() if "default" in child}
    other = part.get("additionalProperties") or {}
    return {key: _filled(child, known.get(key, other), root) for key, child in {**defaults, **value}.items()}


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    checker = jsonschema.FormatChecker(formats=())
    for format_name, read in _FORMATS.items():
        checker.checks(format_name, raises=BadValue)(functools.partial(_is_format, read))
    return jsonschema.Draft202012Validator(schema(name), format_checker=checker)


def _is_format(read: Callable[[str], object], value: object) -> bool:
    if isinstance(value, str):
        read(value)
    return True


def _faults(document: Document, name: str, error: ValidationError) -> Iterator[Fault]:
    part: Schema = error.schema if isinstance(error.schema, dict) else {}
    path: KeyPath = tuple(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        path = (*path, str(error.instance))
    if error.validator == "anyOf":
        yield from _choice(document, name, error)
    elif error.validator == "additionalProperties":
        for key in error.instance:
            if key not in part["properties"]:
                yield document.fault((*path, key), "unknown key", _known(key, path, part, schema(name)))
    elif error.validator == "required":
        yield from _missing(document, path, error, schema(name))
    elif error.validator != "pattern" or "format" not in part:
        # A pattern beside a format is for editors: the format says the same, and says it better.
        yield document.fault(path, *_words(error, part))


def _choice(document: Document, name: str, error: ValidationError) -> Iterator[Fault]:
    """Report the faults of that branch whose type the value has; scalar branches are all texts here."""
    wanted = "object" if isinstance(error.instance, dict) else None
    chosen = [inner for inner in error.context or [] if _branch_type(error, inner) == wanted]
    if isinstance(error.instance, dict | str):
        for inner in chosen:
            yield from _faults(document, name, inner)
    else:
        message = f"expected a text or a mapping, found {quoted(error.instance)}"
        yield document.fault(tuple(error.absolute_path), message, "")


def _branch_type(error: ValidationError, inner: ValidationError) -> str | None:
    branch: Schema = error.validator_value[inner.schema_path[0]]
    kind: str | None = branch.get("type")
    return kind


def _missing(document: Document, path: KeyPath, error: ValidationError, root: Schema) -> Iterator[Fault]:
    part: Schema = error.schema
    key = next(
        key for key in error.validator_value if key not in error.instance and f"'{key}'" in error.message
    )
    child = resolved(part["properties"][key], root)
    examples = child.get("examples")
    hint = (
        f"add it, for example {key}: {examples[0]}" if examples else f"add it: {child.get('description', '')}"
    )
    yield document.fault((*path, key), "the key is missing", hint)


def _words(error: ValidationError, part: Schema) -> tuple[str, str]:
    """Return message and hint for one value that is not what the schema wants."""
    found = quoted(error.instance)
    wanted = error.validator_value
    match error.validator:
        case "format" if isinstance(error.cause, BadValue):
            return error.cause.message, error.cause.hint
        case "type" if "patternErrorMessage" in part:
            hint: str = part["patternErrorMessage"]
            return f"expected {_article(part['title'])}, found {found}", hint[0].lower() + hint[1:]
        case "type":
            hint = "write true or false" if wanted == "boolean" and isinstance(error.instance, str) else ""
            return f"expected {_TYPES[wanted]}, found {found}", hint
        case "enum":
            close = difflib.get_close_matches(str(error.instance), wanted, 1)
            choices = f"one of {', '.join(wanted)}" if len(wanted) > 1 else wanted[0]
            return f"expected {choices}; found {found}", f"did you mean {close[0]}?" if close else ""
        case "minimum":
            return f"expected at least {wanted}, found {found}", ""
        case "maximum":
            return f"expected at most {wanted}, found {found}", ""
        case "minItems" | "minProperties":
            return "expected at least one entry, found none", ""
        case "uniqueItems":
            return "expected every entry once, found one twice", "remove the second"
        case "minLength" | "maxLength":
            return (
                f"expected {part['minLength']} to {part['maxLength']} characters, found {len(error.instance)}",
                "",
            )
    raise NotImplementedError(f"no words for the schema keyword {error.validator}")


def _article(title: str) -> str:
    first = title.split()[0]
    word = title if first.isupper() else title[0].lower() + title[1:]
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _known(key: str, path: KeyPath, part: Schema, root: Schema) -> str:
    """Say which known key was probably meant: one with this name elsewhere, or one nearly like it here."""
    places = [place for place in _places(root, root, ()) if place[-1] == key]
    if len(places) == 1:
        above = dotted(places[0][:-1])
        return f"it belongs in {above}" if above else "it belongs at the top of the file"
    close = difflib.get_close_matches(key, part["properties"], 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known in {dotted(path) or 'the file'}: {', '.join(part['properties'])}"


def _places(part: Schema, root: Schema, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    part = resolved(part, root)
    for key, child in part.get("properties", {}).items():
        yield (*path, key)
        yield from _places(child, root, (*path, key))
    if "items" in part:
        yield from _places(part["items"], root, path)
    for choice in part.get("anyOf", []):
        yield from _places(choice, root, path)
