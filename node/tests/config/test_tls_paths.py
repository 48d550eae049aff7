# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, ISC004 - messages stand in one piece, so that they can be searched for
"""No file of the control plane lies where another file is, was or will be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from grey.config.tls_paths import OWNED

if TYPE_CHECKING:
    from .conftest import Edited

CERT, KEY, CA = (f"/etc/grey/federation-{kind}.pem" for kind in ("cert", "key", "ca"))
TLS = "f.yaml:{}: federation.control_plane.tls.{}: expected a path of its own, found {}; for example {}"
WAITS = "one that differs only by .new, where a new file waits, from"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([(KEY, CERT)], [TLS.format(10, "key_file", "that of cert_file", KEY)]),
        ([(CA, KEY)], [TLS.format(11, "ca_file", "that of key_file", CA)]),
        ([(KEY, "/etc//grey/./federation-cert.pem")], [TLS.format(10, "key_file", "that of cert_file", KEY)]),
        ([(KEY, f"{CERT}/key.pem")], [TLS.format(10, "key_file", "one below cert_file", KEY)]),
        ([(KEY, "/tls"), (CERT, "/tls/cert")], [TLS.format(10, "key_file", "a folder above cert_file", KEY)]),
        (
            [(CERT, KEY), (CA, KEY)],
            [
                TLS.format(10, "key_file", "that of cert_file", "/etc/grey/control-plane-key.pem"),
                TLS.format(11, "ca_file", "that of cert_file", CA),
            ],
        ),
        ([(KEY, f"{CERT}.new")], [TLS.format(10, "key_file", f"{WAITS} cert_file", KEY)]),
        ([(CERT, f"{CA}.new")], [TLS.format(11, "ca_file", f"{WAITS} cert_file", "/etc/grey/control-plane-ca.pem")]),
        (
            [(KEY, "/etc/grey/grey.yaml")],
            [TLS.format(10, "key_file", "that of /etc/grey/grey.yaml, which the deployment writes", KEY)],
        ),
        (
            [(CERT, "/etc/grey")],
            [TLS.format(9, "cert_file", "a folder above /etc/grey/engine, which the deployment writes", CERT)],
        ),
        (
            [(CA, "/var/lib/grey/data/ca.pem")],
            [TLS.format(11, "ca_file", "one below /var/lib/grey, which the deployment writes", CA)],
        ),
    ],
)  # fmt: skip
def test_what_is_not_apart_is_refused(
    edited: Edited, changes: list[tuple[str, str]], expected: list[str]
) -> None:
    assert edited(*changes).faults() == expected


def test_the_fault_is_at_the_key_that_the_file_has(edited: Edited) -> None:
    without = edited((f"      ca_file: {CA}\n", ""))
    assert without((CERT, CA)).faults() == [TLS.format(9, "cert_file", "that of ca_file", CERT)]
    assert without((CERT, f"{CA}/x")).faults() == [TLS.format(9, "cert_file", "one below ca_file", CERT)]


@pytest.mark.parametrize("path", OWNED)
def test_everything_that_the_deployment_writes_is_kept_free(edited: Edited, path: str) -> None:
    (fault,) = edited((KEY, f"{path}/tls/key.pem")).faults()
    assert f"found one below {path}, which the deployment writes; for example {KEY}" in fault


@pytest.mark.parametrize(
    "path",
    ["/etc/grey/tls/key.pem", "/etc/ssl/private/grey.pem", "/etc/grey/grey.yaml.pem", "/etc/grey-key.pem"],
)
def test_other_places_are_fine(edited: Edited, path: str) -> None:
    assert edited((KEY, path)).read().control_plane.tls.key_file == path


def test_a_name_that_no_file_system_takes_is_refused(edited: Edited) -> None:
    assert edited((KEY, f"/etc/grey/{'k' * 256}.pem")).faults() == [
        "f.yaml:10: federation.control_plane.tls.key_file: expected at most 240 bytes between two /, found 260: "
        f'"{"k" * 57}..."; choose a shorter name'
    ]
