# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reference/api.md says what the OpenAPI document says, which other tests hold to the node."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from grey.serve import control, documents, errors, openapi

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^##+ ([^\n]+)\n(.*?)(?=^##+ |\Z)", PAGE, re.MULTILINE | re.DOTALL))
DOCUMENT = openapi.document()
ROW = re.compile(r"^\| `(GET|PUT|POST|DELETE) (/[^`?]+)(?:\?([^`]+))?`(.*?) \|(.*)\|$", re.MULTILINE)
OUTSIDE = {(404, "no_such_path"), (405, "bad_request")}
"""Of no operation: these are what is answered where there is none."""


class Row:
    """What the page says of one operation."""

    def __init__(self, match: re.Match[str]) -> None:
        self.name = (match[1].lower(), match[2])
        self.query = dict(pair.partition("=")[::2] for pair in (match[3] or "").split("&") if pair)
        self.body = match[4]
        self.answer = match[5]


def rows(section: str) -> dict[tuple[str, str], Row]:
    return {row.name: row for row in map(Row, ROW.finditer(SECTIONS[section]))}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method in sorted(item.keys() - {"parameters"}):
            yield method, path, item[method]


def parameters(operation: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each["schema"] for each in operation["parameters"] if each["in"] == where}


def properties(schema: dict[str, Any]) -> set[str]:
    """Return the names of all fields of a document, those inside of others too."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found = set(schema.get("properties", {}))
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    return found.union(*map(properties, [*inner, *([schema["items"]] if "items" in schema else [])]))


def quoted(text: str) -> set[str]:
    """Return the fields of a document as the page shows them."""
    return set(re.findall(r'"(\w+)"', text))


KEYS = rows("Key-value API (8080)")
_HEALTH = SECTIONS["Health (8080 and 9090, on 9090 without TLS)"]
HEALTH = dict(re.findall(r"`/(\w+)(?:\?(\w+)=\S+)?` \(200", _HEALTH))
NAMES = [(method, path) for method, path, _ in operations() if path.startswith("/v1")]


def test_the_page_has_every_path_and_no_other() -> None:
    assert sorted(KEYS) == sorted(NAMES)
    assert {f"/{name}" for name in HEALTH} == {path for _, path, _ in operations() if path[:3] != "/v1"}


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_a_path_takes_what_the_page_says(name: tuple[str, str]) -> None:
    row, operation = KEYS[name], DOCUMENT["paths"][name[1]][name[0]]
    known = parameters(operation, "query")
    assert set(row.query) == set(known)
    for parameter, shown in row.query.items():
        if "|" in shown:
            wanted = known[parameter].get("enum", ["true", "false"])
            assert shown.split("\\|") == wanted, parameter
    if '"op"' in row.body:
        for kind in ("put", "delete"):
            (fields,) = [part for part in re.findall(r"\{[^{}]+\}", row.body) if f'"{kind}"' in part]
            schema = {"put": documents.PutOperation, "delete": documents.DeleteOperation}[kind]
            assert quoted(fields) - {kind} == {"op", *schema.__struct_encode_fields__}


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_a_path_answers_what_the_page_says(name: tuple[str, str]) -> None:
    good = DOCUMENT["paths"][name[1]][name[0]]["responses"]["200"]
    schema = good["content"].get("application/json", {}).get("schema")
    shown = re.search(r"200 `([^`]+)`", KEYS[name].answer)
    assert quoted(shown[1] if shown else "") == (properties(schema) if schema else set())


def test_health_takes_and_answers_what_the_page_says() -> None:
    for name, parameter in HEALTH.items():
        operation = DOCUMENT["paths"][f"/{name}"]["get"]
        assert set(parameters(operation, "query")) == ({parameter} if parameter else set())
    (shown,) = re.findall(r"`(\{[^`]+\})`", _HEALTH)
    assert quoted(shown) == properties({"$ref": "#/Health"})


def test_every_header_is_on_the_page_and_no_other_of_ours() -> None:
    sent = {name for _, _, each in operations() for name in parameters(each, "header")}
    answers = [answer for _, _, each in operations() for answer in each["responses"].values()]
    known = sent.union(*(answer.get("headers", {}) for answer in answers))
    assert {name for name in known if f"`{name}" not in PAGE} == set()
    assert set(re.findall(r"`(Grey-[A-Za-z-]+)", PAGE)) <= known


def test_the_errors_are_those_of_the_page() -> None:
    known = set(OUTSIDE)
    for _, _, each in operations():
        for status, answer in each["responses"].items():
            for content in answer.get("content", {}).values():
                if "allOf" in content["schema"]:
                    codes = content["schema"]["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"]
                    known |= {(int(status), code) for code in codes}
    shown = re.findall(r"^\| (\d+) \| `(\w+)` \|", SECTIONS["Errors"], re.MULTILINE)
    assert sorted((int(status), code) for status, code in shown) == sorted(known)
    fields = {field.name for field in msgspec.structs.fields(openapi.ErrorDetail)} - {"message"}
    assert {field for field in fields if f"`{field}" not in SECTIONS["Errors"].replace('"', "`")} == set()
    # Those that only the control plane answers stand in its own section.
    own = set(re.findall(r'ApiError\(\s*(\d+), "(\w+)"', inspect.getsource(errors)))
    assert {
        code for status, code in own if (int(status), code) not in known and f"{status} `{code}`" not in PAGE
    } == set()


def test_the_ends_of_a_watch_are_those_of_the_page() -> None:
    description = DOCUMENT["paths"]["/v1/watch"]["get"]["responses"]["200"]["description"]
    codes = set(re.findall(r"\w+", description.partition("its code is ")[2])) - {"or"}
    (row,) = re.findall(r"^\| `end` .*$", SECTIONS["Watches"], re.MULTILINE)
    assert {code for code in codes if f"`{code}`" not in row} == set()


def test_the_limits_are_those_of_the_page() -> None:
    text = SECTIONS["Key-value API (8080)"]
    for limit in (documents.MAX_KEY_BYTES, documents.MAX_VALUE_BYTES, documents.MAX_PAGE_ITEMS):
        assert f"to {limit:,} " in text
    assert f"`limit` 1 to {documents.MAX_PAGE_ITEMS:,} ({documents.DEFAULT_PAGE_ITEMS})" in text
    assert f"1 to {documents.MAX_BATCH_OPERATIONS} operations" in text


def test_the_control_plane_has_the_paths_of_the_page() -> None:
    known = set(re.findall(r'"(/v1/[^"]+)"', inspect.getsource(control)))
    shown = {path.removesuffix("/{cluster}") for _, path in rows("Control plane (8443, mutual TLS always)")}
    assert shown == known
