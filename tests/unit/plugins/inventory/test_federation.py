# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugin as ansible-inventory and AWX run it."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.release import __version__
from ansible_collections.grey.distributed.tests.unit.harness import ROOT, program
from ansible_collections.grey.distributed.tests.unit.plugins.inventory.plane import (
    FEDERATION,
    Plane,
    Trust,
    document,
)

PROGRAM = str(Path(sys.executable).with_name("ansible-inventory"))
HOSTS = {
    "aws-east": {"east-1": "192.0.2.1"},
    "gcp-west": {"west-1": {"grey_address": "192.0.2.2", "rack": "r7"}},
}
GRAPH = """\
@all:
  |--@ungrouped:
  |--@grey:
  |  |--@cluster_aws_east:
  |  |  |--east-1
  |  |--@cluster_gcp_west:
  |  |  |--west-1
  |  |--@cluster_edge_chicago:
  |--@role_primary:
  |  |--@cluster_aws_east:
  |  |  |--east-1
  |--@role_replica:
  |  |--@cluster_gcp_west:
  |  |  |--west-1
  |  |--@cluster_edge_chicago:
  |--@role_source_live:
  |--@role_source_cache:
  |--@role_source_file:
  |  |--@cluster_aws_east:
  |  |  |--east-1
  |  |--@cluster_gcp_west:
  |  |  |--west-1
  |  |--@cluster_edge_chicago:
  |--@capability_read_only:
  |  |--@cluster_edge_chicago:
  |--@capability_cache:
  |  |--@cluster_edge_chicago:
  |--@region_us_east_1:
  |  |--@cluster_aws_east:
  |  |  |--east-1
  |--@region_us_west1:
  |  |--@cluster_gcp_west:
  |  |  |--west-1
  |--@region_edge_chicago:
  |  |--@cluster_edge_chicago:
"""


class Project:
    """A folder with a federation file and a source file, as a project in AWX has them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        self.federation = copy.deepcopy(FEDERATION)
        self.trust = Trust(folder / "trust")
        self.environment: dict[str, str] = {}
        self._stack = stack
        self.collections = folder / "collections"
        (self.collections / "ansible_collections" / "grey").mkdir(parents=True)
        (self.collections / "ansible_collections" / "grey" / "distributed").symlink_to(ROOT)

    def write(self, name: str = "grey.yml", **options: Any) -> None:
        source = {"plugin": "grey.distributed.federation", "grey_ctl": "", "hosts": HOSTS, **options}
        (self.folder / "federation.yaml").write_text(yaml.safe_dump(self.federation))
        (self.folder / name).write_text(yaml.safe_dump(source))

    def plane(self, answer: Any) -> Plane:
        """Start the control plane; the environment then has what an AWX credential gives."""
        plane = Plane(self.trust.issue("node", "gcp-west.grey.internal"), answer)
        self._stack.callback(plane.close)
        self.federation["federation"]["control_plane"]["endpoint"] = f"federation.grey.internal:{plane.port}"
        operator = self.trust.issue("operator")
        for name in ("cert_file", "key_file", "ca_file"):
            self.environment[f"GREY_{name.upper()}"] = getattr(operator, name)
        return plane

    def run(self, *arguments: str, source: str = "grey.yml") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            # As AWX has it.
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true",
            # The ansible-core that these tests are run with, when it is not the environment's own.
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
            **self.environment,
        }
        return subprocess.run(
            [PROGRAM, "-i", source, *arguments],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def list(self, *arguments: str, source: str = "grey.yml") -> dict[str, Any]:
        done = self.run("--list", *arguments, source=source)
        assert done.returncode == 0, done.stderr
        self.said = done.stderr
        return dict(json.loads(done.stdout))

    def fails(self) -> str:
        done = self.run("--list")
        assert done.returncode != 0, done.stdout
        return re.sub(r"\s+", " ", done.stderr)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with ExitStack() as stack:
        yield Project(tmp_path, stack)


def flush(project: Project) -> list[str]:
    """Return the option that asks anew; before ansible-core 2.19 the file is what can be taken away."""
    if tuple(map(int, __version__.split(".")[:2])) >= (2, 19):
        return ["--flush-cache"]
    shutil.rmtree(project.folder / "cache")
    return []


def roles(listed: dict[str, Any]) -> dict[str, tuple[str, str]]:
    found = listed["_meta"]["hostvars"]
    return {host: (values["grey_role"], values["grey_role_source"]) for host, values in found.items()}


def test_the_plugin_is_run_by_the_ansible_core_under_test(project: Project) -> None:
    project.write()
    assert project.run("--version").stdout.startswith(f"ansible-inventory [core {__version__}]\n")


def test_the_graph_before_the_first_deployment(project: Project) -> None:
    project.write()
    done = project.run("--graph")
    assert done.stdout == GRAPH
    assert "roles" not in done.stderr, "nothing was asked, so nothing is to warn of"


def test_variables(project: Project) -> None:
    project.write(
        compose={"half": "(grey_cluster_weight / 2) | int"},
        groups={"heavy": "grey_cluster_weight == 100"},
        keyed_groups=[{"key": "grey_cluster_region[:2]", "prefix": "land"}],
    )
    listed = project.list()
    west = listed["_meta"]["hostvars"]["west-1"]
    assert west["ansible_host"] == west["grey_address"] == "192.0.2.2"
    assert (west["grey_cluster"], west["grey_epoch"], str(west["half"])) == ("gcp-west", None, "50")
    assert west["grey_federation_file"] == str(project.folder / "federation.yaml")
    assert listed["heavy"]["hosts"] == listed["land_us"]["hosts"] == ["east-1", "west-1"]


def test_the_live_role(project: Project) -> None:
    project.plane(document("gcp-west"))
    project.write(names={"grey-west.example.com": ["127.0.0.1"]})
    listed = project.list()
    assert roles(listed) == {"east-1": ("replica", "live"), "west-1": ("primary", "live")}
    assert listed["_meta"]["hostvars"]["west-1"]["grey_epoch"] == 7
    assert listed["role_primary"]["children"] == ["cluster_gcp_west"]


def test_no_answer_is_said_and_marked(project: Project) -> None:
    plane = project.plane(document("gcp-west", voters={"total": 3, "reachable": 1}))
    project.write(hosts={"gcp-west": {"west-1": "127.0.0.1"}}, names={"grey-west.example.com": ["127.0.0.1"]})
    assert roles(project.list()) == {"west-1": ("replica", "file")}
    said = re.sub(r"\s+", " ", project.said)
    assert "federation fleet: the roles are the federation file's and may be outdated" in said
    assert f"gcp-west.grey.internal at 127.0.0.1:{plane.port}: it reaches 1 of 3 voters" in said
    project.environment["GREY_INVENTORY_LIVE"] = "require"
    assert "live: wanted the live roles of fleet, found: the control plane did not say who" in project.fails()
    asked = plane.asked
    project.environment["GREY_INVENTORY_LIVE"] = "never"
    assert roles(project.list()) == {"west-1": ("replica", "file")}
    assert plane.asked == asked


def test_roles_from_the_cache_are_marked(project: Project) -> None:
    plane = project.plane(document("gcp-west"))
    cache = {
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(project.folder / "cache"),
    }
    names = {"grey-west.example.com": ["127.0.0.1"]}
    project.write(names=names, **cache)
    assert roles(project.list())["west-1"] == ("primary", "live")
    asked, plane.answer = plane.asked, document("aws-east")
    cached = project.list()
    assert roles(cached) == {"east-1": ("replica", "cache"), "west-1": ("primary", "cache")}
    assert cached["role_source_cache"]["children"] and "role_source_live" not in cached
    assert plane.asked == asked
    assert roles(project.list(*flush(project)))["east-1"] == ("primary", "live")
    project.write(names=names, live="require", **cache)
    assert roles(project.list())["east-1"] == ("primary", "live")
    plane.answer = document(None)
    project.write(names=names, **cache)
    assert roles(project.list(*flush(project)))["east-1"] == ("primary", "file")
    assert roles(project.list())["east-1"][1] == "file", "an answer that is missing is not kept"


def test_hosts_of_another_source(project: Project) -> None:
    project.write("b.grey.yml", hosts={}, compose={"fits": "grey_cluster == 'gcp-west' and own == 'value'"})
    (project.folder / "a.yml").write_text(
        yaml.safe_dump({"cluster_gcp_west": {"hosts": {"west-9": {"own": "value"}}}})
    )
    listed = project.list("-i", "b.grey.yml", source="a.yml")
    assert roles(listed) == {"west-9": ("replica", "file")}
    assert listed["_meta"]["hostvars"]["west-9"]["fits"] is True


def test_a_wrong_federation_file_fails_and_adds_nothing(project: Project) -> None:
    project.federation["federation"]["clusters"][0]["role"] = "leader"
    project.write()
    said = project.fails()
    wanted = "federation.clusters[0].role: wanted primary or replica, found 'leader'"
    assert f"federation.yaml: {wanted}" in said
    project.environment["ANSIBLE_INVENTORY_UNPARSED_FAILED"] = "false"
    assert project.run("--graph").stdout == "@all:\n  |--@ungrouped:\n"


def test_grey_ctl_checks_the_whole_file(project: Project) -> None:
    errors = {
        "errors": [
            {"file": "f.yaml", "line": 3, "key": "federation.x", "message": "unknown", "hint": "drop it"}
        ]
    }
    body = f"import json, sys\nprint(json.dumps({errors!r}))\nsys.exit(2)\n"
    project.write(grey_ctl=program(project.folder / "grey-ctl", body))
    assert "f.yaml:3: federation.x: unknown (drop it)" in project.fails()
    project.write(grey_ctl=str(project.folder / "none"))
    assert "none: wanted a program that can be started" in project.fails()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"federation_fil": "x"}, "found 'federation_fil'; the nearest is federation_file"),
        ({"federation_file": "none.yaml"}, "federation_file: wanted the federation file, found no file"),
        ({"timeout": 0, "cert_file": "x"}, "timeout: wanted 0.1 to 60 seconds, found 0"),
        ({"hosts": {"aws-eats": {}}}, "the nearest is aws-east"),
        ({"strict": True, "compose": {"x": "missing.y"}}, "Could not set x for host east-1"),
        ({"ctl_config": "none"}, "ctl_config: wanted grey-ctl's file, found no file"),
    ],
)  # fmt: skip
def test_a_wrong_source_file(project: Project, options: dict[str, Any], said: str) -> None:
    project.write(**options)
    assert said in project.fails()


def test_another_name_is_not_ours(project: Project) -> None:
    project.write("fleet.yml")
    done = project.run("--list", source="fleet.yml")
    assert done.returncode != 0 and "could not be verified" in re.sub(r"\s+", " ", done.stderr)
