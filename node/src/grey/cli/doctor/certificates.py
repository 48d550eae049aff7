# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates: time, chain, names, the key and who may read it."""

from __future__ import annotations

import grp
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from grey.cli.doctor.findings import Area
from grey.link.names import NamePatterns
from grey.link.tls import TlsError, check_time, inspect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from grey.cli.doctor.findings import Finding
    from grey.link.tls import Leaf, TlsFiles

AREA = Area("certificates")

_ISSUE = "run deploy.yml (or rotate_certs.yml) to issue a new one"
_LONGEST_WARNING_SECONDS = 30 * 86_400.0


def look(
    what: str, files: TlsFiles, now: float, *, identity: str | None = None, hosts: Sequence[str] = ()
) -> Iterator[Finding]:
    """Look at one certificate. ``what`` names its use; ``now`` is in seconds since the Unix epoch.

    ``identity`` is the DNS name that others look for in it, ``hosts`` are those that clients use.
    """
    yield from _key(what, files)
    try:
        leaf = inspect(files, identity=identity)
        check_time(files, leaf, now)
    except TlsError as error:
        if isinstance(error.__cause__, PermissionError):
            yield AREA.unreadable(what, str(error.__cause__.filename), error.__cause__)
            return
        found, _, hint = str(error).rpartition(": ")
        yield AREA.problem(what, found, hint)
        return
    yield _expiry(what, files, leaf, now)
    yield from _roots(what, files, now)
    yield from _hosts(what, files, leaf, hosts)


def _expiry(what: str, files: TlsFiles, leaf: Leaf, now: float) -> Finding:
    left, life = leaf.not_after - now, leaf.not_after - leaf.not_before
    found = f"{files.cert_file} is valid until {date(leaf.not_after)}, {span(left)} from now"
    if left < min(life / 3, _LONGEST_WARNING_SECONDS):
        return AREA.warning(what, found, f"it should have been renewed: {_ISSUE}")
    return AREA.ok(what, found)


def _roots(what: str, files: TlsFiles, now: float) -> Iterator[Finding]:
    roots = x509.load_pem_x509_certificates(Path(files.ca_file).read_bytes())
    over = [root for root in roots if not _in_time(root, now)]
    if not over:
        return
    names = ", ".join(root.subject.rfc4514_string() for root in over)
    found = f"{files.ca_file}: not in their time: {names}"
    if len(over) == len(roots):
        yield AREA.problem(what, found, "rotate the authority: every certificate that it issued is refused")
    else:
        yield AREA.warning(what, found, "drop these from the bundle once no certificate is of them")


def _hosts(what: str, files: TlsFiles, leaf: Leaf, hosts: Sequence[str]) -> Iterator[Finding]:
    patterns = NamePatterns(leaf.dns)
    addresses = _addresses(files)
    missing = [host for host in hosts if not patterns.match(host) and host not in addresses]
    if missing:
        carried = ", ".join([*leaf.dns, *sorted(addresses)]) or "none"
        found = (
            f"{files.cert_file} does not carry {', '.join(missing)}, by which it is called; only {carried}"
        )
        yield AREA.problem(what, found, _ISSUE)


def _key(what: str, files: TlsFiles) -> Iterator[Finding]:
    path = Path(files.key_file)
    try:
        found = path.stat()
    except OSError:
        return  # inspect says so
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o007:
        yield AREA.problem(
            what,
            f"the private key {path} can be used by everybody (mode {mode:04o})",
            f"chmod 600 {path}, and issue a new key: this one is no secret any more",
        )
    elif mode & 0o070:
        yield AREA.warning(
            what,
            f"the private key {path} can be read by the group {_group(found.st_gid)} (mode {mode:04o})",
            f"chmod 600 {path}",
        )


def _addresses(files: TlsFiles) -> set[str]:
    leaf = x509.load_pem_x509_certificates(Path(files.cert_file).read_bytes())[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(each) for each in names.get_values_for_type(x509.IPAddress)}


def _in_time(certificate: x509.Certificate, now: float) -> bool:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin.timestamp() <= now < end.timestamp()


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def date(seconds: float) -> str:
    """Return an instant in words."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def span(seconds: float) -> str:
    """Return a time span, in the unit that fits."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
