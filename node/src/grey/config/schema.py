# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks a document against one of the package's JSON Schemas, and fills in their defaults."""

from __future__ import annotations

import copy
import difflib
import functools
import importlib.resources
import json
from typing import TYPE_CHECKING, Any

import jsonschema

from grey.config import units, values
from grey.config.errors import BadValue, Fault, FormError, quoted
from grey.config.yamlfile import Document, KeyPath, dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jsonschema.exceptions import ValidationError

Schema = dict[str, Any]

FORMATS: dict[str, Callable[[str], object]] = {
    "grey-address": values.address,
    "grey-domain": values.domain,
    "grey-duration": units.duration,
    "grey-endpoint": values.endpoint,
    "grey-engine-endpoint": values.engine_endpoint,
    "grey-host": values.host,
    "grey-label": values.label,
    "grey-name-pattern": values.name_pattern,
    "grey-node-name": values.node_name,
    "grey-path": values.path,
    "grey-size": units.size,
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
    """Raise FormError with everything in which the document departs from the schema of this name."""
    faults = [
        fault
        for error in _first(_validator(name).iter_errors(document.data))
        for fault in _faults(document, name, error)
    ]
    if faults:
        raise FormError(dict.fromkeys(faults))


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
    for format_name, read in FORMATS.items():
        checker.checks(format_name, raises=BadValue)(functools.partial(_is_format, read))
    return _Validator(schema(name), format_checker=checker)


def _is_integer(_checker: object, value: object) -> bool:
    """JSON Schema takes 1000.0 for an integer; what counts and slices with it does not."""
    return isinstance(value, int) and not isinstance(value, bool)


_Validator: type[jsonschema.Draft202012Validator] = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


def _is_format(read: Callable[[str], object], value: object) -> bool:
    if isinstance(value, str):
        read(value)
    return True


def _first(errors: Iterable[ValidationError]) -> list[ValidationError]:
    """Leave out what else is wrong with a value that has the wrong type: nobody measures a text."""
    errors = list(errors)
    mistyped = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    return [
        error for error in errors if error.validator == "type" or tuple(error.absolute_path) not in mistyped
    ]


def _faults(document: Document, name: str, error: ValidationError) -> Iterator[Fault]:
    part: Schema = error.schema if isinstance(error.schema, dict) else {}
    found: Any = error.instance
    path: KeyPath = tuple(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        path = (*path, found)
    if error.validator == "anyOf":
        yield from _choice(document, name, error, path)
    elif error.validator == "additionalProperties":
        for key in found:
            if key not in part["properties"]:
                yield document.fault((*path, key), "unknown key", _known(key, path, part, schema(name)))
    elif error.validator == "required":
        yield from _missing(document, name, part, found, path)
    elif error.validator != "pattern" or "format" not in part:
        # A pattern beside a format is for editors: the format says the same, and says it better.
        yield document.fault(path, *_words(error, part, found))


def _missing(document: Document, name: str, part: Schema, found: Any, path: KeyPath) -> Iterator[Fault]:
    required = part["required"]
    if "properties" not in part:
        # What one of two forms needs stands apart from what both may have.
        part = _part_at(path, schema(name))
    for key in required:
        if key not in found and not _is_misspelt(key, found, part, schema(name)):
            yield document.fault((*path, key), "the key is missing", _example(key, part, schema(name)))


def _part_at(path: KeyPath, root: Schema) -> Schema:
    """Return the part of a schema for the mapping at a path of mappings."""
    part = root
    for step in path:
        part = resolved(part["properties"][step], root)
    return part


def _choice(document: Document, name: str, error: ValidationError, path: KeyPath) -> Iterator[Fault]:
    """Report the faults of the branch for the value's type: each choice is one of a text and a mapping."""
    found: Any = error.instance
    if not isinstance(found, dict | str):
        yield document.fault(path, f"expected a text or a mapping, found {quoted(found)}", "")
        return
    branches: Any = error.validator_value
    wanted = "object" if isinstance(found, dict) else None
    for inner in _first(
        inner for inner in error.context or [] if branches[inner.schema_path[0]].get("type") == wanted
    ):
        yield from _faults(document, name, inner)


def _example(key: str, part: Schema, root: Schema) -> str:
    child = resolved(part["properties"][key], root)
    if "examples" in child:
        return f"add it, for example {key}: {child['examples'][0]}"
    needed = ", ".join(child.get("required", []))
    return f"add it, with {needed}" if needed else "add it"


def _words(error: ValidationError, part: Schema, found: Any) -> tuple[str, str]:
    """Return message and hint for one value that is not what the schema wants."""
    wanted: Any = error.validator_value
    match error.validator:
        case "format" if isinstance(error.cause, BadValue):
            return error.cause.message, error.cause.hint
        case "type" if "patternErrorMessage" in part:
            hint = part["patternErrorMessage"]
            return f"expected {_article(part['title'])}, found {quoted(found)}", hint[0].lower() + hint[1:]
        case "type":
            return f"expected {_TYPES[wanted]}, found {quoted(found)}", ""
        case "enum":
            close = difflib.get_close_matches(str(found), wanted, 1)
            choices = f"one of {', '.join(wanted)}" if len(wanted) > 1 else wanted[0]
            return f"expected {choices}; found {quoted(found)}", f"did you mean {close[0]}?" if close else ""
        case "minimum" | "maximum":
            side = "least" if error.validator == "minimum" else "most"
            return f"expected at {side} {wanted}, found {found}", ""
        case "minItems" | "minProperties":
            return "expected at least one entry, found none", ""
        case "uniqueItems":
            return "expected every entry once, found one twice", "remove the second"
        case "minLength" | "maxLength":
            low, high = part["minLength"], part["maxLength"]
            return f"expected {low} to {high} characters, found {len(found)}", ""
    raise NotImplementedError(f"no words for the schema keyword {error.validator}")


def _article(title: str) -> str:
    first = title.split()[0]
    word = title if first.isupper() else title[0].lower() + title[1:]
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _known(key: str, path: KeyPath, part: Schema, root: Schema) -> str:
    """Say which known key was probably meant: one with this name elsewhere, or one nearly like it here."""
    if place := _elsewhere(key, root):
        above = dotted(place[:-1])
        return f"it belongs in {above}" if above else "it belongs at the top of the file"
    if meant := _like(key, part):
        return f"did you mean {meant}?"
    return f"known in {dotted(path) or 'the file'}: {', '.join(part['properties'])}"


def _is_misspelt(key: str, found: Any, part: Schema, root: Schema) -> bool:
    """Say whether a missing key is there under a name of which ``_known`` asks whether it was meant."""
    unknown = [other for other in found if other not in part["properties"]]
    return part.get("additionalProperties") is False and any(
        _like(other, part) == key and not _elsewhere(other, root) for other in unknown
    )


def _like(key: str, part: Schema) -> str | None:
    return next(iter(difflib.get_close_matches(key, part["properties"], 1)), None)


def _elsewhere(key: str, root: Schema) -> tuple[str, ...] | None:
    """Return the one place of the file that has a key of this name, None unless there is exactly one."""
    places = [place for place in _places(root, root, ()) if place[-1] == key]
    return places[0] if len(places) == 1 else None


def _places(part: Schema, root: Schema, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    part = resolved(part, root)
    for key, child in part.get("properties", {}).items():
        yield (*path, key)
        yield from _places(child, root, (*path, key))
    if "items" in part:
        yield from _places(part["items"], root, path)
    for choice in part.get("anyOf", []):
        yield from _places(choice, root, path)
