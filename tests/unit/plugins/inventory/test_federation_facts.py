# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a federation file with and without grey-ctl is the same."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.grey.distributed.plugins.module_utils import _federation_facts, _federation_file
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.tests.unit.harness import ROOT
from ansible_collections.grey.distributed.tests.unit.plugins.inventory.plane import FEDERATION

GREY_CTL = str(Path(sys.executable).with_name("grey-ctl"))


def both(path: Path) -> tuple[_federation_facts.Facts, _federation_facts.Facts]:
    checked = _federation_facts.from_checked(_federation_file.read(GREY_CTL, str(path)))
    return checked, _federation_facts.from_plain(yaml.safe_load(path.read_text()), str(path))


def test_the_documents_file(tmp_path: Path) -> None:
    checked, plain = both(ROOT / "inventories" / "local" / "federation.yaml")
    assert plain == checked
    assert plain.clusters[0].identity == "aws-east.grey.internal"


def test_defaults_are_the_same(tmp_path: Path) -> None:
    document = copy.deepcopy(FEDERATION)
    document["federation"] |= {"domain": "fleet.example"}
    document["federation"]["clusters"][1]["endpoint"] = "[2001:db8::1]:8080"
    path = tmp_path / "federation.yaml"
    path.write_text(yaml.safe_dump(document))
    checked, plain = both(path)
    assert plain == checked
    edge = plain.clusters[2]
    assert (edge.region, edge.identity, edge.group) == (
        "edge-chicago",
        "edge-chicago.fleet.example",
        "cluster_edge_chicago",
    )
    assert plain.clusters[1].endpoint == "[2001:db8::1]:8080"


def wrong(change: Any) -> list[str]:
    document = copy.deepcopy(FEDERATION)
    change(document["federation"])
    with pytest.raises(GreyError) as caught:
        _federation_facts.from_plain(document, "f.yaml")
    head, *lines = str(caught.value).splitlines()
    assert head == "the federation file is wrong"
    return lines


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("role", "leader", "role: wanted primary or replica, found 'leader'"),
        ("endpoint", "https://x:8080", "endpoint: wanted HOST:PORT, found 'https://x:8080'"),
        ("endpoint", "::1:8080", "endpoint: wanted HOST:PORT, found '::1:8080'"),
        ("endpoint", "host:0", "endpoint: wanted HOST:PORT, found 'host:0'"),
        ("weight", True, "weight: wanted a whole number from 0 to 1000, found True"),
        ("capabilities", ["fast"], "capabilities: wanted a list of read-only and cache, found ['fast']"),
        ("region", "", "region: wanted text, found ''"),
        (
            "name",
            "EU",
            "name: wanted a name (1 to 63 characters a-z, 0-9 and -, neither first nor last a -), found 'EU'",
        ),
        (
            "name",
            "aws-east",
            "name: wanted another name (and inventory group) than aws-east, found 'aws-east'",
        ),
    ],
)
def test_a_wrong_key_of_a_cluster(key: str, value: Any, line: str) -> None:
    def change(federation: Any) -> None:
        federation["clusters"][1][key] = value

    assert wrong(change) == [f"f.yaml: federation.clusters[1].{line}"]


def test_all_faults_are_named_at_once() -> None:
    def change(federation: Any) -> None:
        federation.update(name=7, control_plane={"endpoint": "localhost:8443"})
        federation["clusters"][0]["role"] = "replica"

    assert [line.split(": ")[1] for line in wrong(change)] == [
        "federation.name",
        "federation.domain",
        "federation.clusters",
    ]


@pytest.mark.parametrize("document", [None, [], {"federation": None}, {"federations": {}}])
def test_something_else_is_no_federation_file(document: Any) -> None:
    with pytest.raises(GreyError, match=r"f\.yaml: (federation: )?wanted a mapping with .*, found "):
        _federation_facts.from_plain(document, "f.yaml")


def test_no_clusters() -> None:
    assert wrong(lambda federation: federation.update(clusters=[])) == [
        "f.yaml: federation.clusters: wanted a list of clusters, found []"
    ]
