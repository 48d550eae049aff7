# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - messages stand in one piece, so that they can be searched for
"""The file of a host that only votes in the federation store."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from grey.config import node, yamlfile
from grey.config.errors import ConfigError
from grey.config.model import Endpoint

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "node-file.md"


@pytest.fixture
def text() -> str:
    """What the reference shows."""
    found = [
        each
        for each in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if "mode: witness" in each
    ]
    assert len(found) == 1
    return str(found[0])


def write(folder: Path, text: str) -> Path:
    path = folder / "grey.yaml"
    path.write_text(text)
    return path


def test_the_file_of_the_reference(tmp_path: Path, text: str) -> None:
    found = node.load_either(write(tmp_path, text))
    assert isinstance(found, node.WitnessFile)
    assert (found.name, found.federation_file) == ("witness-1", "/etc/grey/federation.yaml")
    assert found.federation_store.member is not None
    assert found.federation_store.member.peer == Endpoint("192.0.2.41", 2380)


def test_it_is_no_node(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        node.load(write(tmp_path, text))
    assert str(caught.value.faults[0]).endswith(
        "grey.yaml:2: node.mode: expected cluster here, found witness: such a host has neither data nor a greyd; greyd federation-store is all that runs there"
    )


@pytest.mark.parametrize(
    ("gone", "added", "expected"),
    [
        ((), {"mode": "cluster"}, [
            "node.cluster: the key is missing; add it, for example cluster: aws-east",
            "node.identity_file: the key is missing; add it, for example identity_file: /etc/grey/identity.json",
            "node.data_dir: the key is missing; add it, for example data_dir: /var/lib/grey/data",
            "node.store: the key is missing; add it, with engine",
            "node.listen: the key is missing; add it, with address",
            "node.tls: the key is missing; add it, with cert_file, key_file, ca_file",
        ]),
        ((), {"cluster": "aws-east"}, ["node.cluster: a witness has no such key; remove it, or write mode: cluster"]),
        (("federation_store",), {}, ["node.federation_store: the key is missing; add it, with endpoints, tls"]),
        (("federation_store", "member"), {}, ["node.federation_store.member: the key is missing; add it: it is what runs here"]),
    ],
)  # fmt: skip
def test_faults(
    tmp_path: Path, text: str, gone: tuple[str, ...], added: dict[str, str], expected: list[str]
) -> None:
    document = copy.deepcopy(yamlfile.parse("f.yaml", text.encode()).data)
    document["node"] |= added
    if gone:
        *above, last = gone
        holder = document["node"]
        for key in above:
            holder = holder[key]
        del holder[last]
    with pytest.raises(ConfigError) as caught:
        node.load_either(write(tmp_path, json.dumps(document)))
    assert [str(fault).partition("grey.yaml:1: ")[2] for fault in caught.value.faults] == expected
