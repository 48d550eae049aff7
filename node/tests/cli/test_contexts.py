# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl context``, and the file that it keeps."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from grey.cli.main import cli
from grey.config import ctl, ctl_edit
from grey.config.errors import ConfigError
from grey.config.model import TlsFiles

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Site

ENTRY = ctl.CtlFederation("/f.yaml", TlsFiles("/c", "/k", "/a"), {"h.example": ("127.0.0.1",)})


def run(config: Path, *args: str) -> Result:
    runner = CliRunner(env={"GREY_CTL_CONFIG": str(config)})
    return runner.invoke(cli, list(args), prog_name="grey-ctl")


@pytest.fixture
def audit(site: Site) -> list[str]:
    """The options that add a context with another certificate for the site's federation."""
    tls = site.authority.issue(site.folder / "audit", "audit", dns=["audit.test"])
    names = [
        f"--name={host}={site.fake[name].host}" for name, host in (("aws-east", "grey-east.example.com"),)
    ]
    return [
        f"--federation-file={site.folder}/federation.yaml",
        f"--cert={tls.cert_file}",
        f"--key={tls.key_file}",
        f"--ca={tls.ca_file}",
        *names,
    ]


def test_a_file_from_nothing(site: Site, audit: list[str]) -> None:
    mine = site.folder / "new" / "ctl.yaml"
    done = run(mine, "context", "add", "audit", *audit, "--use")
    assert (done.stdout, done.stderr, done.exit_code) == (
        "audit reaches the federation global-grey, and is in use\n",
        "",
        0,
    )
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600
    assert stat.S_IMODE(mine.parent.stat().st_mode) == 0o700
    site.fake.put(b"k", b"v")
    assert run(mine, "kv", "get", "k").stdout == "v"
    assert run(mine, "--federation", "global-grey", "kv", "get", "k").stdout == "v"
    done = run(mine, "kv", "get", "k", "--federation", "mars")
    assert f"{mine}: it has no federation mars, it names: audit" in done.stderr


def test_what_the_collection_writes_is_kept(site: Site, audit: list[str]) -> None:
    before = "# by deploy.yml\n" + site.config.read_text(encoding="utf-8")
    site.config.write_text(before, encoding="utf-8")
    assert site.run("context", "add", "audit", *audit).exit_code == 0
    after = site.config.read_text(encoding="utf-8")
    assert after.startswith("# by deploy.yml\nfederations:\n  global-grey:\n")
    assert ctl.load(site.config).federations["global-grey"].names["grey-east.example.com"] == ("127.91.0.1",)
    done = site.run("kv", "list")
    assert "it names these contexts: global-grey, audit; choose one with --context" in done.stderr
    assert done.exit_code == 2
    assert site.run("kv", "list", "--context", "audit").exit_code == 0
    assert site.run("--context", "audit", "kv", "list").exit_code == 0
    # What the collection's modules call has always been enough.
    assert site.run("federation", "status", "--federation", "global-grey", "-o", "json").exit_code == 0
    assert site.run("context", "use", "audit").stdout == "audit is in use\n"
    assert site.run("kv", "list").exit_code == 0
    done = site.run("context", "remove", "audit")
    assert (done.stdout, done.exit_code) == ("audit is removed; left: global-grey\n", 0)
    assert ctl.load(site.config) == ctl.CtlFile(ctl.load(site.config).federations)


def test_the_current_context_counts_for_its_own_federation(site: Site, audit: list[str]) -> None:
    site.run("context", "add", "audit", *audit, "--use")
    assert ctl.access(site.config, "global-grey").context == "audit"
    assert ctl.access(site.config, "global-grey", context="global-grey").context == "global-grey"
    with pytest.raises(ConfigError, match="the context audit is of the federation global-grey, not of mars"):
        ctl.access(site.config, "mars", context="audit")


def test_list_and_show(site: Site, audit: list[str]) -> None:
    site.run("context", "add", "audit", *audit, "--use")
    listed = json.loads(site.run("context", "list", "-o", "json").stdout)
    assert [(each["name"], each["current"], each["federation"], each["certificate"]) for each in listed] == [
        ("global-grey", False, "global-grey", "operator"),
        ("audit", True, "global-grey", "audit"),
    ]
    table = site.run("context", "list").stdout
    assert "│ *      │ audit       │ global-grey │ audit       │" in table
    shown = json.loads(site.run("context", "show", "-o", "json").stdout)
    assert (shown["name"], shown["problem"]) == ("audit", None)
    assert shown["tls"]["cert_file"] == f"{site.folder}/audit/cert.pem"
    (site.folder / "audit" / "key.pem").unlink()
    done = site.run("context", "show", "audit", "--query", "problem", "-o", "json")
    assert "the private key does not exist" in json.loads(done.stdout)
    assert site.run("context", "show", "mars").exit_code == 2


def test_a_context_from_the_file_of_a_deployment(site: Site) -> None:
    mine = site.folder / "mine.yaml"
    done = run(mine, "context", "add", "prod", "--from", str(site.config))
    assert done.stdout == "prod reaches the federation global-grey\n"
    assert ctl.load(mine).contexts["prod"] == ctl.load(site.config).federations["global-grey"]
    done = run(mine, "context", "add", "prod", "--from", str(site.config))
    assert f"{mine}: there is a context prod already" in done.stderr
    assert done.exit_code == 2
    assert run(mine, "context", "add", "prod", "--from", str(site.config), "--replace").exit_code == 0
    done = run(mine, "context", "add", "x", "--from", str(site.config), "--source-context", "mars")
    assert "it has no context mars" in done.stderr
    done = run(mine, "context", "add", "x", "--from", str(site.config), "--cert", str(site.config))
    assert "--from brings file and certificate along" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda args: ["Bad_Name", *args], "expected a name of 1 to 63 characters"),
        (lambda args: ["x", *args[:-2]], "a context needs --ca"),
        (lambda args: ["x", *args, "--name", "host"], "--name host: "),
        (lambda args: ["x", *args[:1], *args[2:], f"--cert={args[2][6:]}"], "holds no PEM certificate"),
        (lambda args: ["x", f"--federation-file={args[1][7:]}", *args[1:]], "cert.pem:"),
    ],
)
def test_a_context_that_cannot_work_is_not_added(
    site: Site, audit: list[str], change: object, said: str
) -> None:
    assert callable(change)
    before = site.config.read_bytes()
    done = site.run("context", "add", *change(audit))
    assert said in done.stderr
    assert (done.exit_code, site.config.read_bytes()) == (2, before)


def test_names_that_are_not_there(site: Site) -> None:
    for verb in ("use", "remove"):
        done = site.run("context", verb, "mars")
        assert (done.stderr, done.exit_code) == (
            (
                f"grey-ctl: {site.config}: it has no context mars, it names: global-grey; "
                "see grey-ctl context list\n"
            ),
            2,
        )
    done = site.run("kv", "get", "k", "--context", "mars")
    assert "it has no context mars" in done.stderr


def test_a_file_that_is_not_plain_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "ctl.yaml"
    path.write_text("federations: 5\n")
    with pytest.raises(ConfigError, match="expected a mapping"):
        ctl_edit.add(path, "a", ENTRY)
    assert path.read_text() == "federations: 5\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    ctl_edit.add(tmp_path / "real.yaml", "a", ENTRY)
    (tmp_path / "ctl.yaml").symlink_to("real.yaml")
    ctl_edit.use(tmp_path / "ctl.yaml", "a")
    assert (tmp_path / "ctl.yaml").is_symlink()
    assert ctl.load(tmp_path / "real.yaml").current == "a"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change a file of another user")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "ctl.yaml"
    ctl_edit.add(path, "a", ENTRY)
    os.chown(path, 65534, 65534)
    ctl_edit.use(path, "a")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65534, 0o600)


def test_names_that_yaml_could_misread_come_back(tmp_path: Path) -> None:
    names = ["123", "1e3", "off", "null", "0x10", "a" * 63]
    for name in names:
        ctl_edit.add(tmp_path / "ctl.yaml", name, ENTRY)
        ctl_edit.use(tmp_path / "ctl.yaml", name)
        assert ctl.load(tmp_path / "ctl.yaml").current == name
    assert ctl.load(tmp_path / "ctl.yaml").contexts == dict.fromkeys(names, ENTRY)


ADD_MANY = """\
import sys
from grey.config import ctl, ctl_edit
entry = ctl.load(sys.argv[1]).contexts["first"]
for number in range(10):
    ctl_edit.add(sys.argv[1], f"lane-{sys.argv[2]}-{number}", entry)
"""


def test_no_change_is_lost_to_another_one(tmp_path: Path) -> None:
    path = tmp_path / "ctl.yaml"
    ctl_edit.add(path, "first", ENTRY)
    lanes = [subprocess.Popen([sys.executable, "-c", ADD_MANY, str(path), str(lane)]) for lane in range(3)]
    assert [lane.wait(60) for lane in lanes] == [0, 0, 0]
    assert len(ctl.load(path).contexts) == 31
    assert [each.name for each in tmp_path.iterdir()] == ["ctl.yaml"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be changed: "):
        ctl_edit.add(tmp_path / "file" / "ctl.yaml", "a", ENTRY)
