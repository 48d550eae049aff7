# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.tests.unit.harness import fails, passes, program

GROUPS = {"cluster_aws_east": ["a"], "cluster_gcp_west": ["g"], "grey": ["a", "g"]}
ADDRESSES = {"a": "127.77.1.1", "g": "127.77.2.1"}
FEDERATION = {
    "name": "global-grey",
    "domain": "grey.internal",
    "control_plane": {"endpoint": {"host": "federation.grey.internal", "port": 8443}},
    "clusters": [
        {"name": "aws-east", "endpoint": {"host": "grey-east.example.com", "port": 8080}, "voter": True},
        {"name": "gcp-west", "endpoint": {"host": "127.77.2.1", "port": 8081}, "voter": False},
    ],
    "witnesses": [],
}
WITNESS = {"name": "w-1", "endpoint": {"host": "witness.example.com", "port": 2379}}


class Fake:
    """A grey-ctl that answers what it is told, and the module's parameters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "federation.yaml"
        self.file.write_text("federation:\n  name: global-grey\n")
        self.says(FEDERATION)

    def says(self, answer: Any, code: int = 0) -> None:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self.grey_ctl = program(
            self.folder / "grey-ctl",
            f"import sys\nassert sys.argv[1:3] == ['config', 'show']\nprint({text!r})\nsys.exit({code})\n",
        )

    def args(self, **changed: Any) -> dict[str, Any]:
        return {
            "path": str(self.file),
            "grey_ctl": self.grey_ctl,
            "groups": GROUPS,
            "addresses": ADDRESSES,
            **changed,
        }


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def test_hosts_and_members_come_from_the_inventory(fake: Fake) -> None:
    answer = passes("grey_federation_config", fake.args(sources={"a": ["127.0.0.1"]}))
    assert not answer["changed"]
    assert answer["name"] == "global-grey"
    assert answer["content"] == fake.file.read_text()
    assert answer["members"] == [{"name": "a", "cluster": "aws-east", "address": "127.77.1.1"}]
    names = {
        "name": "federation",
        "authority": "federation",
        "common_name": "aws-east.grey.internal",
        "dns": ["aws-east.grey.internal", "federation.grey.internal", "grey-east.example.com"],
        "addresses": [],
    }
    raft = {
        "name": "federation-store",
        "authority": "federation-store",
        "common_name": "a",
        "dns": ["a", "federation-store.grey.internal"],
        "addresses": ["127.0.0.1", "127.77.1.1"],
    }
    assert answer["hosts"]["a"] == {
        "cluster": "aws-east",
        "address": "127.77.1.1",
        "identity": "aws-east.grey.internal",
        "engine": "sqlite",
        "engine_group": None,
        "voter": True,
        "member": True,
        "api_port": 8080,
        "control_port": 8443,
        "certificates": [names, raft],
    }
    [west] = answer["hosts"]["g"]["certificates"]
    assert west["addresses"] == ["127.77.2.1"]
    assert not answer["hosts"]["g"]["member"]


def test_check_mode_answers_the_same(fake: Fake) -> None:
    assert passes("grey_federation_config", fake.args(), check=True)["hosts"].keys() == {"a", "g"}


def test_wrong_parameters(fake: Fake) -> None:
    assert fails("grey_federation_config", {}) == "missing required arguments: path"
    assert fails("grey_federation_config", {"path": "x"}) == (
        "name_only is False but all of the following are missing: groups, addresses"
    )


def test_every_fault_of_the_file_is_one_line(fake: Fake) -> None:
    fault = {
        "file": "f.yaml",
        "line": 7,
        "key": "federation.nmae",
        "message": "unknown key",
        "hint": "did you mean name?",
    }
    fake.says(
        {"errors": [fault, {"file": "f.yaml", "line": None, "key": "", "message": "empty", "hint": None}]}, 2
    )
    assert fails("grey_federation_config", fake.args()) == (
        "the federation file is wrong; no host was touched\n"
        "f.yaml:7: federation.nmae: unknown key (did you mean name?)\n"
        "f.yaml: empty"
    )


def test_a_missing_file_says_how_to_name_another(fake: Fake) -> None:
    fake.file.unlink()
    assert fails("grey_federation_config", fake.args()) == (
        f"{fake.file}: wanted the federation file, found no file; "
        "name another one with -e grey_federation_file=PATH"
    )


def test_a_broken_grey_ctl_is_shown(fake: Fake) -> None:
    fake.says("Traceback", 1)
    assert "found exit 1: Traceback" in fails("grey_federation_config", fake.args())
    fake.says("not json")
    assert "wanted JSON on standard output, found (exit 0): not json" in fails(
        "grey_federation_config", fake.args()
    )


@pytest.mark.parametrize(
    ("groups", "addresses", "fault"),
    [
        (
            {"cluster_gcp_west": []},
            {},
            "cluster gcp-west: wanted hosts in the group cluster_gcp_west, found none; add them",
        ),
        (
            {"cluster_gcp_west": ["g", "a"]},
            {},
            "host a: wanted it in one cluster, found it in aws-east and gcp-west; remove it from one",
        ),
        (
            {"cluster_gcp_wset": ["x"]},
            {},
            (
                "group cluster_gcp_wset: wanted a group of a cluster in the federation file, found no "
                "such cluster; "
                "the nearest is cluster_gcp_west"
            ),
        ),
        (
            {"grey": ["a"]},
            {},
            "host g: wanted it in the group grey, found it outside; make its group a child of it",
        ),
        (
            {"grey": ["a", "g", "z"]},
            {},
            "host z: wanted it in the group of a cluster, found it only in grey",
        ),
        ({}, {"g": ""}, "host g: wanted an IP address in grey_address, found ''; set it in the inventory"),
        (
            {},
            {"g": "127.77.1.1"},
            "hosts a and g: both have the address 127.77.1.1; each needs its own",
        ),
    ],
)
def test_an_inventory_that_does_not_fit_is_refused(
    fake: Fake, groups: dict[str, list[str]], addresses: dict[str, str], fault: str
) -> None:
    message = fails(
        "grey_federation_config",
        fake.args(groups={**GROUPS, **groups}, addresses={**ADDRESSES, **addresses}),
    )
    head, *lines = message.splitlines()
    assert head == "the inventory does not fit the federation file; no host was touched"
    assert fault in lines


SEVERAL = {
    "groups": {**GROUPS, "cluster_gcp_west": ["g", "h"], "grey": ["a", "g", "h"]},
    "addresses": {**ADDRESSES, "h": "127.77.2.2"},
}


def test_a_cluster_of_several_hosts_shares_an_etcd_of_its_own_authority(fake: Fake) -> None:
    answer = passes("grey_federation_config", fake.args(**SEVERAL, sources={"h": ["127.0.0.1"]}))
    assert answer["groups"] == [
        {"name": "federation-store", "token": "global-grey", "members": {"a": "127.77.1.1:2380"}},
        {
            "name": "engine-gcp-west",
            "token": "global-grey-gcp-west",
            "members": {"g": "127.77.2.1:2390", "h": "127.77.2.2:2390"},
        },
    ]
    assert answer["authorities"] == [
        {"name": "federation", "common_name": "Grey federation"},
        {"name": "federation-store", "common_name": "Grey federation store"},
        {"name": "engine-gcp-west", "common_name": "Grey engine gcp-west"},
    ]
    host = answer["hosts"]["h"]
    assert host["engine"] == "etcd"
    assert host["certificates"][-1] == {
        "name": "engine",
        "authority": "engine-gcp-west",
        "common_name": "h",
        "dns": ["gcp-west.grey.internal"],
        "addresses": ["127.0.0.1", "127.77.2.2"],
    }


def test_a_witness_has_a_member_of_the_federation_store_and_nothing_else(fake: Fake) -> None:
    fake.says({**FEDERATION, "witnesses": [WITNESS]})
    groups = {**GROUPS, "witness_w_1": ["w"], "grey": ["a", "g", "w"]}
    answer = passes(
        "grey_federation_config", fake.args(groups=groups, addresses={**ADDRESSES, "w": "127.77.3.1"})
    )
    assert answer["members"][-1] == {"name": "w", "cluster": None, "address": "127.77.3.1"}
    store = answer["groups"][0]
    assert store["members"] == {"a": "127.77.1.1:2380", "w": "127.77.3.1:2380"}
    witness = answer["hosts"]["w"]
    assert (witness["cluster"], witness["engine"], witness["member"]) == (None, None, True)
    assert [(each["name"], each["dns"]) for each in witness["certificates"]] == [
        ("federation-store", ["w", "federation-store.grey.internal"])
    ]
    replaced = passes(
        "grey_federation_config",
        fake.args(groups=groups, addresses={**ADDRESSES, "w": "127.77.3.1"}, replaced=["w"]),
    )
    assert replaced["departures"] == [{"host": "w", "group": "federation-store", "peer": "127.77.3.1:2380"}]


@pytest.mark.parametrize(
    ("hosts", "port", "fault"),
    [
        ([], 2379, "witness w-1: wanted one host in the group witness_w_1, found none"),
        (["w", "x"], 2379, "witness w-1: wanted one host in the group witness_w_1, found 2: w, x"),
        (["a"], 2379, "host a: wanted it in one cluster, found it in aws-east and w-1; remove it from one"),
        (
            ["w"],
            2479,
            (
                "witness w-1: wanted the port that all members of the federation store have for greyd, 2379 "
                "(grey_federation_store_client_port), found 2479 in its endpoint; correct one of them"
            ),
        ),
    ],
)
def test_a_witness_that_cannot_have_its_host_is_refused(
    fake: Fake, hosts: list[str], port: int, fault: str
) -> None:
    fake.says(
        {**FEDERATION, "witnesses": [{**WITNESS, "endpoint": {"host": "witness.example.com", "port": port}}]}
    )
    groups = {**GROUPS, "witness_w_1": hosts, "grey": ["a", "g", *(each for each in hosts if each != "a")]}
    addresses = {**ADDRESSES, "w": "127.77.3.1", "x": "127.77.3.2"}
    assert fault in fails("grey_federation_config", fake.args(groups=groups, addresses=addresses)).split("\n")


def test_a_group_of_a_witness_that_is_not_in_the_file_is_refused(fake: Fake) -> None:
    said = fails("grey_federation_config", fake.args(groups={**GROUPS, "witness_w": ["a"]}))
    assert (
        "group witness_w: wanted a group of a witness in the federation file, found no such witness" in said
    )


def test_a_host_that_leaves_counts_as_gone_and_its_members_go(fake: Fake) -> None:
    answer = passes(
        "grey_federation_config", fake.args(**SEVERAL, leaving=["g"], engines={"g": "etcd", "h": "etcd"})
    )
    assert "g" not in answer["hosts"]
    assert answer["groups"][1]["members"] == {"h": "127.77.2.2:2390"}
    assert answer["departures"] == [{"host": "g", "group": "engine-gcp-west", "peer": "127.77.2.1:2390"}]


def test_a_host_that_is_replaced_stays_and_its_members_go(fake: Fake) -> None:
    answer = passes("grey_federation_config", fake.args(**SEVERAL, replaced=["a"]))
    assert "a" in answer["hosts"]
    assert answer["departures"] == [
        {"host": "a", "group": "engine-aws-east", "peer": "127.77.1.1:2390"},
        {"host": "a", "group": "federation-store", "peer": "127.77.1.1:2380"},
    ]


def test_a_cluster_of_one_host_may_have_an_etcd_to_grow_on(fake: Fake) -> None:
    answer = passes("grey_federation_config", fake.args(engines={"a": "etcd", "g": "sqlite"}))
    assert [answer["hosts"][host]["engine"] for host in "ag"] == ["etcd", "sqlite"]


@pytest.mark.parametrize(
    ("engines", "fault"),
    [
        (
            {"g": "sqlite", "h": "sqlite"},
            (
                "cluster gcp-west: its data lives in one embedded store, so wanted one host in the group "
                "cluster_gcp_west, found 2: g, h; set grey_engine: etcd, or remove the others"
            ),
        ),
        (
            {"g": "etcd"},
            (
                "cluster gcp-west: wanted one grey_engine for all its hosts, found g etcd, h auto; "
                "set it in the variables of the group cluster_gcp_west"
            ),
        ),
        (
            {"g": "mysql", "h": "mysql"},
            "host g: wanted one of auto, sqlite, etcd in grey_engine, found 'mysql'",
        ),
    ],
)
def test_an_engine_that_cannot_have_its_hosts_is_refused(
    fake: Fake, engines: dict[str, str], fault: str
) -> None:
    message = fails("grey_federation_config", fake.args(**SEVERAL, engines=engines))
    assert fault in message.splitlines()


def test_two_programs_of_a_host_on_one_port_are_refused(fake: Fake) -> None:
    east, west = FEDERATION["clusters"]
    fake.says({**FEDERATION, "clusters": [east, {**west, "endpoint": {"host": "west", "port": 2379}}]})
    assert fails("grey_federation_config", fake.args()).splitlines()[1:] == [
        (
            "cluster gcp-west: wanted a port of its own for the federation store "
            "(grey_federation_store_client_port), found 2379, which is that of the key-value API (endpoint "
            "in the federation file); choose another one"
        )
    ]


def test_clusters_whose_groups_would_be_one_are_refused(fake: Fake) -> None:
    east = FEDERATION["clusters"][0]
    fake.says({**FEDERATION, "clusters": [east, {**east, "name": "aws_east"}]})
    assert "clusters aws-east and aws_east: both have the group cluster_aws_east; rename one" in fails(
        "grey_federation_config", fake.args()
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("federation:\n  name: global-grey\n", "global-grey"),
        ("# c\nfederation:  # here\n\n  # more\n  name: 'x'\n  [broken", "x"),
        ("federation: {name: x}", None),
        ("\xff", None),
    ],
)
def test_the_name_is_found_in_a_broken_file(fake: Fake, text: str, name: str | None) -> None:
    fake.file.write_text(text)
    assert passes("grey_federation_config", {"path": str(fake.file), "name_only": True})["name"] == name
