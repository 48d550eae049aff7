# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a certificate that are replaced while a program runs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.pki import Authority

from grey.link.reload import ReloadingContext
from grey.link.tls import TlsError, client_context

if TYPE_CHECKING:
    from grey.config.model import TlsFiles


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> TlsFiles:
    return authority.issue(tmp_path / "mine", "operator", dns=["operator.test"])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def context(files: TlsFiles, clock: Clock) -> ReloadingContext:
    return ReloadingContext(files, clock=clock)


def roots(context: ReloadingContext) -> int:
    return len(context.current().get_ca_certs())


def test_new_files_are_taken_when_they_have_settled(
    context: ReloadingContext, clock: Clock, authority: Authority, tmp_path: Path
) -> None:
    first = context.current()
    authority.issue(tmp_path / "mine", "operator", dns=["operator.test"])
    assert context.current() is first  # not looked at yet
    clock.now += 1
    assert context.current() is first  # seen, but it may be half of a change
    clock.now += 0.9
    assert context.current() is first
    clock.now += 0.1
    second = context.current()
    assert second is not first
    clock.now += 10
    assert context.current() is second


def test_what_does_not_change_is_not_read_again(files: TlsFiles, clock: Clock) -> None:
    made = []

    def make(files: TlsFiles) -> object:
        made.append(files)
        return client_context(files)

    context = ReloadingContext(files, make, clock=clock)  # type: ignore[arg-type]
    for _ in range(5):
        clock.now += 1
        context.current()
    assert len(made) == 1


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem"])
@pytest.mark.parametrize("kept", [0, 40, None])
def test_half_written_files_break_nothing(
    context: ReloadingContext,
    clock: Clock,
    authority: Authority,
    tmp_path: Path,
    name: str,
    kept: int | None,
) -> None:
    """``kept`` bytes of the new file are there; None: the file is gone."""
    first = context.current()
    authority.issue(tmp_path / "new", "operator", dns=["operator.test"])
    target = tmp_path / "mine" / name
    if kept is None:
        target.unlink()
    else:
        target.write_bytes((tmp_path / "new" / name).read_bytes()[:kept])
    for _ in range(3):
        clock.now += 1
        assert context.current() is first
    assert not context.refresh()
    assert context.problem is not None
    assert str(target) in context.problem
    for each in ("cert.pem", "key.pem", "ca.pem"):
        shutil.copyfile(tmp_path / "new" / each, tmp_path / "mine" / each)
    clock.now += 1
    assert context.current() is first
    clock.now += 1
    assert context.current() is not first
    assert context.problem is None


def test_a_new_certificate_without_its_key_waits_for_it(
    context: ReloadingContext, clock: Clock, authority: Authority, tmp_path: Path
) -> None:
    first = context.current()
    authority.issue(tmp_path / "new", "operator", dns=["operator.test"])
    (tmp_path / "new" / "cert.pem").replace(tmp_path / "mine" / "cert.pem")
    for _ in range(5):
        clock.now += 1
        assert context.current() is first
    assert context.problem is not None
    assert "is not the key of" in context.problem
    (tmp_path / "new" / "key.pem").replace(tmp_path / "mine" / "key.pem")
    clock.now += 1
    context.current()
    clock.now += 1
    assert context.current() is not first


def test_files_that_come_back_are_no_problem(
    context: ReloadingContext, files: TlsFiles, clock: Clock
) -> None:
    first = context.current()
    Path(files.key_file).rename(files.key_file + ".aside")
    for _ in range(2):
        clock.now += 1
        context.current()
    assert context.problem is not None
    Path(files.key_file + ".aside").rename(files.key_file)
    clock.now += 1
    assert context.current() is first
    assert context.problem is None


def test_a_root_that_left_the_bundle_is_trusted_no_more(
    context: ReloadingContext, files: TlsFiles, clock: Clock, authority: Authority
) -> None:
    bundle = Path(files.ca_file)
    bundle.write_bytes(authority.pem + Authority("next").pem)
    assert context.refresh()
    assert roots(context) == 2
    bundle.write_bytes(authority.pem)
    assert context.refresh()
    assert roots(context) == 1
    assert not context.refresh()


def test_files_that_cannot_be_used_at_the_start(files: TlsFiles) -> None:
    Path(files.key_file).unlink()
    with pytest.raises(TlsError, match=r"key\.pem: the private key does not exist"):
        ReloadingContext(files)


def test_says_when_the_certificate_in_use_has_expired(
    context: ReloadingContext, files: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    assert context.expired(time.time()) is None
    authority.issue(tmp_path / "mine", "operator", dns=["operator.test"], expired=True)
    assert context.expired(time.time()) is None
    assert context.refresh()
    found = context.expired(time.time())
    assert found is not None
    assert found.startswith(f"{files.cert_file}: the certificate expired on ")
