# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority and a host's certificates, played together as the role does."""

from __future__ import annotations

import datetime
import os
import pwd
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _certificates, _x509
from ansible_collections.grey.distributed.tests.unit.harness import Script, fails, passes, tree
from cryptography import x509

SPEC = {
    "name": "federation",
    "authority": "federation",
    "common_name": "aws-east.grey.internal",
    "dns": ["aws-east.grey.internal", "grey-east.example.com"],
    "addresses": ["127.77.1.1"],
}


class World:
    """A controller's folder and one host's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.controller, self.host = root / "controller", root / "host"
        self.host.mkdir()
        self.files = {name + "_file": str(self.host / f"{name}.pem") for name in ("cert", "key", "ca")}
        self.spec: dict[str, Any] = dict(SPEC)
        self.life = 259200.0
        self.owner = ""

    def authority(self, requests: list[dict[str, str]] | None = None) -> dict[str, Any]:
        return {
            "directory": str(self.controller),
            "authorities": [{"name": "federation", "common_name": "Grey federation"}],
            "clients": [{"name": "operator", "common_name": "operator", "authority": "federation"}],
            "entitlements": {"aws-east-1": [self.spec]},
            "requests": {"aws-east-1": requests} if requests else {},
            "leaf_seconds": self.life,
        }

    def certificates(self, state: str, pem: str, issued: dict[str, str] | None = None) -> dict[str, Any]:
        return {
            "state": state,
            "certificates": [self.spec],
            "files": {"federation": self.files},
            "authorities": {"federation": pem},
            "issued": issued or {},
            "owner": self.owner,
        }

    def pem(self) -> str:
        return str(passes("grey_authority", self.authority())["authorities"]["federation"])

    def deploy(self) -> list[str]:
        """Do what the role does; return the reasons for which something was issued."""
        pem = self.pem()
        requested = passes("grey_certificates", self.certificates("requested", pem))
        issued = {}
        if requested["requests"]:
            signed = passes("grey_authority", self.authority(requested["requests"]))
            issued = signed["certificates"]["aws-east-1"]
        if requested["pending"]:
            passes("grey_certificates", self.certificates("installed", pem, issued))
        return [reason for item in requested["requests"] for reason in item["reasons"]]

    def cert(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(Path(self.files["cert_file"]).read_bytes())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_authority_script(world: World) -> None:
    wanted = world.authority()
    Script(
        "grey_authority",
        lambda: tree(world.root),
        wrong=[
            ({"authorities": []}, "missing required arguments: directory"),
            (
                {**wanted, "clients": [{**wanted["clients"][0], "authority": "x"}]},
                "clients: wanted an authority out of ['federation'], found 'x'",
            ),
        ],
        create=wanted,
        update={
            **wanted,
            "authorities": [
                *wanted["authorities"],
                {"name": "federation-store", "common_name": "Grey store"},
            ],
        },
    ).play()
    modes = {name: f"{mode & 0o777:04o}" for name, (mode, _text) in tree(world.controller).items()}
    assert modes["authority"] == modes["authority/federation"] == "0700"
    assert modes["authority/federation/key.pem"] == modes["operator-key.pem"] == "0600"


def test_certificates_script(world: World) -> None:
    pem = world.pem()
    Script(
        "grey_certificates",
        lambda: tree(world.host),
        wrong=[
            ({"state": "requested"}, "missing required arguments: authorities, certificates, files"),
            (
                {**world.certificates("requested", pem), "files": {}},
                (
                    "files: federation: wanted cert_file, key_file and ca_file, "
                    "missing: cert_file, key_file, ca_file"
                ),
            ),
            (
                {**world.certificates("requested", pem), "authorities": {}},
                "authorities: wanted the certificate of 'federation', found none of this name",
            ),
        ],
        create=world.certificates("requested", pem),
    ).play()
    request = passes("grey_certificates", world.certificates("requested", pem))["requests"]
    signed = passes("grey_authority", world.authority(request))["certificates"]["aws-east-1"]
    install = world.certificates("installed", pem, signed)
    before = tree(world.host)
    assert passes("grey_certificates", install, check=True)["changed"]
    assert tree(world.host) == before
    assert passes("grey_certificates", install)["changed"]
    assert world.deploy() == []


def test_check_mode_on_a_clean_controller_and_host_says_what_would_be_made(world: World) -> None:
    kept = passes("grey_authority", world.authority(), check=True)
    assert kept["changed"]
    assert kept["authorities"] == {"federation": ""}
    requested = passes("grey_certificates", world.certificates("requested", ""), check=True)
    assert requested["changed"]
    assert requested["pending"]
    assert requested["requests"] == [{"name": "federation", "csr": "", "reasons": ["missing"]}]
    signed = passes("grey_authority", world.authority(requested["requests"]), check=True)
    assert signed["certificates"] == {"aws-east-1": {"federation": ""}}
    installed = passes(
        "grey_certificates",
        world.certificates("installed", "", signed["certificates"]["aws-east-1"]),
        check=True,
    )
    assert installed["changed"]
    assert not world.controller.exists()
    assert list(world.host.iterdir()) == []


def test_check_mode_on_a_clean_host_needs_no_library(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release brings it, and before the first run there is none."""
    pem = world.pem()
    names = _x509.Names(SPEC["common_name"], frozenset(SPEC["dns"]), frozenset(SPEC["addresses"]))
    files = [world.files[f"{name}_file"] for name in ("cert", "key", "ca")]
    for library in ("x509", "serialization", "hashes", "ec"):
        monkeypatch.delattr(_x509, library)
    outcome = _certificates.request([_certificates.Wanted("federation", *files, names, pem)], check=True)
    assert outcome.result["requests"] == [{"name": "federation", "csr": "", "reasons": ["missing"]}]


def test_a_leaf_carries_exactly_its_names_and_purposes(world: World) -> None:
    assert world.deploy() == ["missing"]
    cert = world.cert()
    assert _x509.names_of(cert) == _x509.Names(
        SPEC["common_name"], frozenset(SPEC["dns"]), frozenset(SPEC["addresses"])
    )
    purposes = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {purpose._name for purpose in purposes} == {"serverAuth", "clientAuth"}
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    life = cert.not_valid_after_utc - _x509.now()
    assert datetime.timedelta(hours=71, minutes=59) < life <= datetime.timedelta(hours=72)
    operator = x509.load_pem_x509_certificate((world.controller / "operator-cert.pem").read_bytes())
    purposes = operator.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {purpose._name for purpose in purposes} == {"clientAuth"}


def test_keys_stay_on_the_host_and_closed(world: World) -> None:
    pem = world.pem()
    requested = passes("grey_certificates", world.certificates("requested", pem))
    signed = passes("grey_authority", world.authority(requested["requests"]))
    issued = signed["certificates"]["aws-east-1"]
    installed = passes("grey_certificates", world.certificates("installed", pem, issued))
    assert "PRIVATE KEY" not in repr((requested, signed, installed))
    key = Path(world.files["key_file"])
    assert key.stat().st_mode & 0o777 == 0o600
    lines = [line for line in key.read_text().splitlines() if not line.startswith("-----")]
    assert not any(line in repr((requested, signed, installed)) for line in lines)
    assert not list(world.host.glob("*.new"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda world: Path(world.files["cert_file"]).unlink(), r"missing"),
        (lambda world: Path(world.files["cert_file"]).write_text("rubbish"), r"unreadable"),
        (lambda world: Path(world.files["key_file"]).unlink(), r"key missing"),
        (
            lambda world: Path(world.files["key_file"]).write_bytes(_x509.key_to_pem(_x509.new_key())),
            r"key mismatch",
        ),
        (
            lambda world: world.spec.update(dns=["other.grey.internal"]),
            r"other names: wanted CN=aws-east.grey.internal, other.grey.internal, 127.77.1.1, found .*",
        ),
    ],
)
def test_what_is_wrong_is_named_and_issued_anew(world: World, spoil: Any, reason: str) -> None:
    world.deploy()
    serial = world.cert().serial_number
    spoil(world)
    [found] = world.deploy()
    assert re.fullmatch(reason, found)
    assert world.cert().serial_number != serial
    assert world.deploy() == []


def test_a_foreign_certificate_is_replaced(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = World(tmp_path / "other")
    stranger.deploy()
    for name in ("cert_file", "key_file", "ca_file"):
        Path(world.files[name]).write_bytes(Path(stranger.files[name]).read_bytes())
    assert world.deploy() == ["foreign issuer"]
    assert Path(world.files["ca_file"]).read_text() == world.pem()


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose Python has no cryptography."""
    monkeypatch.setattr(_x509, "MISSING", "ImportError: no module named cryptography")
    for name in ("x509", "serialization", "ec", "hashes"):
        monkeypatch.delattr(_x509, name)


@pytest.mark.parametrize("state", ["requested", "installed"])
@pytest.mark.usefixtures("no_library")
def test_check_mode_foresees_certificates_on_a_host_without_a_release(world: World, state: str) -> None:
    args = {**world.certificates(state, "", {"federation": ""}), "python": "/opt/grey/current/bin/python"}
    assert passes("grey_certificates", args, check=True)["changed"]
    assert "cryptography" in fails("grey_certificates", args)
    Path(world.files["cert_file"]).write_text("")
    assert "cryptography" in fails("grey_certificates", args, check=True)


def test_a_new_authority_does_not_part_hosts_that_run(world: World, tmp_path: Path) -> None:
    world.pem()
    requests = {}
    for number in (1, 2):
        (tmp_path / f"host{number}").mkdir()
        host = World(tmp_path / f"host{number}")
        host.deploy()  # by another controller
        asked = passes("grey_certificates", host.certificates("requested", world.pem()))
        requests[f"aws-east-{number}"] = asked["requests"]
    args = {**world.authority(), "requests": requests, "entitlements": {host: [SPEC] for host in requests}}
    assert fails("grey_authority", args) == (
        "authority federation: wanted the one that the hosts trust, found another one: the certificates of "
        "aws-east-1, aws-east-2 are all somebody else's. Restore the controller's folder "
        "(grey_controller_dir) from its backup. If it is lost for good, -e trust_replace=true gives all "
        "hosts new certificates; they do not hear each other meanwhile"
    )
    assert passes("grey_authority", {**args, "replace": True})["certificates"].keys() == requests.keys()
    # One host among others that are well, or that have none yet, is mended.
    one = {**requests, "aws-east-2": []}
    assert passes("grey_authority", {**args, "requests": one})["certificates"].keys() == {"aws-east-1"}


@pytest.mark.parametrize(("age", "expected"), [(0.0, 0), (0.6, 0), (0.7, 1), (1.1, 1)])
def test_a_certificate_is_renewed_in_its_last_third(
    world: World, monkeypatch: pytest.MonkeyPatch, age: float, expected: int
) -> None:
    world.deploy()
    later = _x509.now() + datetime.timedelta(seconds=world.life * age)
    monkeypatch.setattr(_x509, "now", lambda: later)
    assert len(world.deploy()) == expected


@pytest.mark.parametrize("renamed", [0, 1])
def test_an_exchange_that_was_cut_short_is_finished(world: World, renamed: int) -> None:
    pem = world.pem()
    requested = passes("grey_certificates", world.certificates("requested", pem))
    signed = passes("grey_authority", world.authority(requested["requests"]))
    fresh = signed["certificates"]["aws-east-1"]["federation"]
    Path(world.files["cert_file"] + ".new").write_text(fresh)
    if renamed:
        Path(world.files["key_file"] + ".new").rename(world.files["key_file"])
    again = passes("grey_certificates", world.certificates("requested", pem))
    assert again["changed"]
    assert again["requests"] == []
    assert _x509.certificate_to_pem(world.cert()) == fresh
    assert not list(world.host.glob("*.new"))


def test_a_key_that_others_can_read_is_closed(world: World) -> None:
    world.deploy()
    key = Path(world.files["key_file"])
    key.chmod(0o644)
    assert passes("grey_certificates", world.certificates("requested", world.pem()))["changed"]
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_keys_and_certificates_are_their_owners(world: World) -> None:
    world.owner, number = "nobody", pwd.getpwnam("nobody").pw_uid
    world.deploy()
    paths = [Path(path) for path in world.files.values()]
    assert [path.stat().st_uid for path in paths] == [number] * 3
    assert Path(world.files["key_file"]).stat().st_mode & 0o777 == 0o600
    for path in paths:
        os.chown(path, 0, -1)
        foreseen = passes("grey_certificates", world.certificates("requested", world.pem()), check=True)
        assert [part["before_header"] for part in foreseen["diff"]] == [str(path)]
        assert path.stat().st_uid == 0
        assert world.deploy() == []
        assert path.stat().st_uid == number
    # A renewal keeps the owner.
    world.spec["addresses"] = ["127.77.1.2"]
    assert world.deploy()
    assert [path.stat().st_uid for path in paths] == [number] * 3


def test_a_host_gets_no_names_but_its_own(world: World) -> None:
    world.deploy()
    greedy = _x509.request(_x509.new_key(), _x509.Names("operator", frozenset({"gcp-west.grey.internal"})))
    message = fails("grey_authority", world.authority([{"name": "federation", "csr": greedy}]))
    assert message == (
        "request 'federation' of aws-east-1: this host may have CN=aws-east.grey.internal, "
        "aws-east.grey.internal, grey-east.example.com, 127.77.1.1, but asks for CN=operator, "
        "gcp-west.grey.internal; nothing was signed"
    )


def test_an_unknown_request_is_refused(world: World) -> None:
    message = fails("grey_authority", world.authority([{"name": "other", "csr": ""}]))
    assert message == (
        "request 'other' of aws-east-1: wanted a certificate that this host may have, found an unknown one"
    )


def test_an_authority_without_its_key_is_never_made_anew(world: World) -> None:
    world.deploy()
    (world.controller / "authority" / "federation" / "key.pem").unlink()
    before = tree(world.controller)
    assert fails("grey_authority", world.authority()).startswith(
        f"{world.controller}/authority/federation/key.pem: wanted the key of the authority federation, "
        "found none that can be read"
    )
    assert tree(world.controller) == before


def test_an_authority_that_was_cut_short_is_finished_with_its_key(world: World) -> None:
    world.pem()
    folder = world.controller / "authority" / "federation"
    key = (folder / "key.pem").read_bytes()
    (folder / "cert.pem").unlink()
    world.pem()
    assert (folder / "key.pem").read_bytes() == key


def test_no_leaf_outlives_its_authority(world: World) -> None:
    world.life = 86400.0 * 4000
    requested = passes("grey_certificates", world.certificates("requested", world.pem()))
    message = fails("grey_authority", world.authority(requested["requests"]))
    assert "wanted an authority that lives longer than its leaves" in message


def test_reasons_name_a_clock_that_is_behind(world: World) -> None:
    world.deploy()
    names = _x509.Names(SPEC["common_name"], frozenset(SPEC["dns"]), frozenset(SPEC["addresses"]))
    files = [world.files[f"{name}_file"] for name in ("cert", "key", "ca")]
    wanted = _certificates.Wanted("federation", *files, names, world.pem())
    [reason] = _certificates.reasons(wanted, _x509.now() - datetime.timedelta(days=1))
    assert reason.startswith("not valid before ")
