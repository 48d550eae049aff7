# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - messages stand in one piece, so that they can be searched for
"""What the schema refuses, in words; and that the schema itself is sound and complete for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from grey.config import federation, schema, yamlfile
from grey.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Edited

NAMES = ["schema.json", "node_schema.json", "ctl_schema.json"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    detection_time: 30s", "    detection_tme: 30s", "46: federation.failover.detection_tme: unknown key; did you mean detection_time?"),
        ("      region: us-west1", "      detection_time: 30s", "23: federation.clusters[1].detection_time: unknown key; it belongs in federation.failover"),
        ("  name: global-grey", "  name: global-grey\n  federation: x", "4: federation.federation: unknown key; it belongs at the top of the file"),
        ("      region: us-west1", "      colour: red", "23: federation.clusters[1].colour: unknown key; known in federation.clusters[1]: name, endpoint, region, role, weight, capabilities, voter"),
        ("  name: global-grey\n", "", "2: federation.name: the key is missing; add it, for example name: global-grey"),
        ("      role: replica\n      weight: 50\n", "", "21: federation.clusters[1].role: the key is missing; add it, for example role: primary"),
        ("role: primary", "role: leader", '18: federation.clusters[0].role: expected one of primary, replica; found "leader"'),
        ("role: primary", "role: primry", '18: federation.clusters[0].role: expected one of primary, replica; found "primry"; did you mean primary?'),
        ("- read-only", "- readonly", '33: federation.clusters[2].capabilities[0]: expected one of read-only, cache; found "readonly"; did you mean read-only?'),
        ("- read-only", "- cache", "32: federation.clusters[2].capabilities: expected every entry once, found one twice; remove the second"),
        ("detection_time: 30s", "detection_time: 30", "46: federation.failover.detection_time: expected a duration, found the number 30; write a number and ms, s, m, h or d, for example 30s"),
        ("detection_time: 30s", "detection_time: 30sec", '46: federation.failover.detection_time: expected a duration, found "30sec"; write a number and ms, s, m, h or d, for example 100ms, 30s or 24h'),
        ("interval: 100ms", "interval: 4Gi", '40: federation.replication.interval: expected a duration, found "4Gi"; write a number and ms, s, m, h or d, for example 100ms, 30s or 24h'),
        ("auto_failover: true", "auto_failover: yes", '45: federation.failover.auto_failover: expected true or false, found "yes"'),
        ("weight: 50", "weight: heavy", '25: federation.clusters[1].weight: expected a whole number, found "heavy"'),
        ("weight: 50", "weight: 50.5", "25: federation.clusters[1].weight: expected a whole number, found the number 50.5"),
        ("weight: 50", "weight: 1001", "25: federation.clusters[1].weight: expected at most 1000, found 1001"),
        ("weight: 50", "weight: -1", "25: federation.clusters[1].weight: expected at least 0, found -1"),
        ("batch_size: 1000", "batch_size: 1000.5", "39: federation.replication.batch_size: expected a whole number, found the number 1000.5"),
        ("batch_size: 1000", "batch_size: 1000.0", "39: federation.replication.batch_size: expected a whole number, found the number 1000.0"),
        ("batch_size: 1000", "batch_size: -0.5", "39: federation.replication.batch_size: expected a whole number, found the number -0.5"),
        ("batch_size: 1000", "batch_size: 0", "39: federation.replication.batch_size: expected at least 1, found 0"),
        ("federation:\n", "api: {limits: {connections: 7}}\nfederation:\n", "2: api.limits.connections: expected at least 8, found 7"),
        ("weight: 50", "weight: true", "25: federation.clusters[1].weight: expected a whole number, found true"),
        ("weight: 50", "weight:", "25: federation.clusters[1].weight: expected a whole number, found nothing"),
        ("region: us-west1", "region: ''", "23: federation.clusters[1].region: expected 1 to 63 characters, found 0"),
        ("name: gcp-west", "name: gcp_west", '21: federation.clusters[1].name: expected a name of 1 to 63 characters a-z, 0-9 and - (not first or last), found "gcp_west"; write gcp-west'),
        ("name: gcp-west", "name: 7", "21: federation.clusters[1].name: expected a name, found the number 7; write 1 to 63 characters a-z, 0-9 and - (not first or last)"),
        ("grey-west.example.com:8080", "grey-west.example.com", '22: federation.clusters[1].endpoint: expected HOST:PORT, found "grey-west.example.com"; add the port, for example host:8080'),
        ("/etc/grey/federation-ca.pem", "federation-ca.pem", '11: federation.control_plane.tls.ca_file: expected an absolute path, found "federation-ca.pem"; begin with / and use no .. and no / at the end'),
        ("last-write-wins", "[lww]", "41: federation.replication.conflict_resolution: expected a text or a mapping, found a list"),
        ("last-write-wins", "last-write-win", '41: federation.replication.conflict_resolution: expected one of last-write-wins, lww, primary-wins, crdt-merge, custom; found "last-write-win"; did you mean last-write-wins?'),
        ("last-write-wins", "{defualt: lww}", "41: federation.replication.conflict_resolution.defualt: unknown key; did you mean default?"),
        ("last-write-wins", "{rules: [{strategy: x}]}", None),
    ],
)  # fmt: skip
def test_refused(edited: Edited, old: str, new: str, expected: str | None) -> None:
    found = edited((old, new)).faults()
    if expected is None:
        assert found == [
            "f.yaml:41: federation.replication.conflict_resolution.rules[0].pattern: the key is missing; add it, for example pattern: inventory/*",
            'f.yaml:41: federation.replication.conflict_resolution.rules[0].strategy: expected one of last-write-wins, lww, primary-wins, crdt-merge, custom; found "x"',
        ]
    else:
        assert found == [f"f.yaml:{expected}"]


def test_all_faults_are_reported_in_the_order_of_the_file(edited: Edited) -> None:
    found = edited(
        ("mode: async", "mode: fast"), ("role: primary", "rol: primary"), ("  name: global-grey\n", "")
    ).faults()
    assert [fault.split(": ")[:2] for fault in found] == [
        ["f.yaml:2", "federation.name"],
        ["f.yaml:17", "federation.clusters[0].rol"],
        ["f.yaml:37", "federation.replication.mode"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", ["f.yaml:1: federation: the key is missing; add it, with name, control_plane, clusters"]),
        ("federation:", ["f.yaml:1: federation: expected a mapping, found nothing"]),
        ("federation: [a]", ["f.yaml:1: federation: expected a mapping, found a list"]),
        ("federation: {name: a, control_plane: {endpoint: 'a.b:1'}, clusters: []}", ["f.yaml:1: federation.clusters: expected at least one entry, found none"]),
        ("federation: {name: a, control_plane: {endpoint: 'a.b:1'}, clusters: {}}", ["f.yaml:1: federation.clusters: expected a list, found a mapping"]),
    ],
)  # fmt: skip
def test_wrong_from_the_start(edited: Edited, text: str, expected: list[str]) -> None:
    assert type(edited)(text).faults() == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema(name))


def parts(part: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        for name, child in part.get("properties", {}).items():
            yield f"{path}.{name}", child
        for name, child in part.items():
            if name != "if":  # a condition names keys, and describes none
                yield from parts(child, f"{path}.{name}")
    elif isinstance(part, list):
        for index, child in enumerate(part):
            yield from parts(child, f"{path}[{index}]")


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_described_with_an_example_and_a_right_default(name: str) -> None:
    root = schema.schema(name)
    found = list(parts(root, ""))
    assert found
    for path, part in found:
        full = schema.resolved(part, root)
        assert full.get("title"), path
        assert full.get("description"), path
        validator = jsonschema.Draft202012Validator({"$defs": root["$defs"], **full})
        if full.get("type") not in ("object", "array"):
            assert full.get("examples"), path
        for example in full.get("examples", []):
            assert validator.is_valid(example), path
        if full.get("default", {}) != {}:
            assert validator.is_valid(full["default"]), path


@pytest.mark.parametrize("name", NAMES)
def test_mappings_are_closed(name: str) -> None:
    def mappings(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict):
            if part.get("type") == "object":
                yield part
            for child in part.values():
                yield from mappings(child)
        elif isinstance(part, list):
            for child in part:
                yield from mappings(child)

    for part in mappings(schema.schema(name)):
        assert part.get("additionalProperties") is False or "propertyNames" in part, part.get("title")


def test_the_document_s_file_is_right_for_editors_too(verbatim: str) -> None:
    data = YAML(typ="safe", pure=True).load(verbatim)
    jsonschema.Draft202012Validator(schema.schema("schema.json")).validate(data)


# Random files: whatever they hold, they are read or refused with ConfigError.

KEYS = st.sampled_from(
    sorted({path.rpartition(".")[2] for path, _ in parts(schema.schema("schema.json"), "")})
) | st.text(max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["primary", "replica", "lww", "30s", "a", "a.b:1", "http://a", "/x", "read-only", "sync", "off"]
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5)
)


def read_or_refuse(content: bytes) -> None:
    try:
        federation.to_plain(federation.read(yamlfile.parse("f.yaml", content)))
    except ConfigError as error:
        assert error.faults
        assert all(fault.message for fault in error.faults)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_random_bytes(content: bytes) -> None:
    read_or_refuse(content)


@settings(deadline=None)
@given(st.text("{}[]:,-?&*!|>'\"%@`#\\ \n\tUxa1~=<ud8", max_size=60))
def test_random_yaml(text: str) -> None:
    read_or_refuse(text.encode())


@settings(deadline=None)
@given(VALUES)
def test_random_values(value: Any) -> None:
    document = yamlfile.Document("f.yaml", {"federation": value, "security": value, "replication": value}, {})
    try:
        federation.to_plain(federation.read(document))
    except ConfigError as error:
        assert error.faults


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_document_s_file_with_random_values_in_it(verbatim: str, data: st.DataObject) -> None:
    plain = yamlfile.parse("f.yaml", verbatim.encode()).data
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = plain
        while True:
            steps = sorted(place) if isinstance(place, dict) else range(len(place))
            if not steps:
                break
            step = data.draw(st.sampled_from(steps))
            if not isinstance(place[step], dict | list) or data.draw(st.booleans()):
                place[step] = data.draw(VALUES)
                break
            place = place[step]
    try:
        federation.to_plain(federation.read(yamlfile.Document("f.yaml", plain, {})))
    except ConfigError as error:
        assert error.faults


@pytest.mark.parametrize(
    ("old", "new", "faults"),
    [
        (
            "role: primary",
            "rolle: primary",
            ["f.yaml:18: federation.clusters[0].rolle: unknown key; did you mean role?"],
        ),
        (
            "role: primary",
            "secret: primary",
            [
                "f.yaml:15: federation.clusters[0].role: the key is missing; add it, for example role: primary",
                (
                    "f.yaml:18: federation.clusters[0].secret: unknown key; known in federation.clusters[0]: "
                    "name, endpoint, region, role, weight, capabilities, voter"
                ),
            ],
        ),
    ],
)
def test_a_misspelt_required_key_is_one_fault(edited: Edited, old: str, new: str, faults: list[str]) -> None:
    assert edited((old, new)).faults() == faults
