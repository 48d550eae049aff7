# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's certificates: what is wrong with them, new keys made here, both exchanged together.

A new key waits as KEY.new until its certificate is there as CERT.new; then both are renamed. A crash between
the two renames is finished by the next run, which finds CERT.new.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils import _files, _x509
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError, Outcome

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping, Sequence

    from cryptography import x509

_KEY_MODE = 0o600
_PUBLIC_MODE = 0o644


@dataclass(frozen=True)
class Wanted:
    """A certificate this host should have, and whose its files are.

    ``issuer`` is its authority in PEM, empty when not made yet.
    """

    name: str
    cert_file: str
    key_file: str
    ca_file: str
    names: _x509.Names
    issuer: str
    owner: _files.Owner = _files.ANYONE

    @property
    def new_cert(self) -> Path:
        """Where a new certificate waits."""
        return Path(self.cert_file + ".new")

    @property
    def new_key(self) -> Path:
        """Where a new key waits."""
        return Path(self.key_file + ".new")


def wanted(item: Mapping[str, Any], params: Mapping[str, Any]) -> Wanted:
    """Return a certificate of a module's parameters: ``files``, ``authorities``, ``owner`` and ``group``."""
    name = item["name"]
    files = params["files"].get(name, {})
    missing = [key for key in ("cert_file", "key_file", "ca_file") if not files.get(key)]
    if missing:
        raise GreyError(
            f"files: {name}: wanted cert_file, key_file and ca_file, missing: {', '.join(missing)}"
        )
    if item["authority"] not in params["authorities"]:
        raise GreyError(
            f"authorities: wanted the certificate of {item['authority']!r}, found none of this name"
        )
    return Wanted(
        name,
        files["cert_file"],
        files["key_file"],
        files["ca_file"],
        _x509.Names(item["common_name"], frozenset(item["dns"]), frozenset(item["addresses"])),
        params["authorities"][item["authority"]],
        _files.Owner(params["owner"], params["group"]),
    )


def request(wanted: Sequence[Wanted], *, check: bool) -> Outcome:
    """Find what must be issued and make the new keys; return the signing requests, without any key."""
    outcome = Outcome()
    requests: list[dict[str, object]] = []
    stale_bundles = []
    for item in wanted:
        try:
            outcome.add(_finish_exchange(item, check=check))
            for path, mode in _modes(item):
                outcome.add(_files.ensure_owner(path, mode, item.owner, check=check))
            faults = reasons(item, _x509.now())
            if faults:
                csr, change = _new_request(item, faults, check=check)
                outcome.add(change)
                requests.append({"name": item.name, "csr": csr, "reasons": faults})
            if not item.issuer or _read(Path(item.ca_file)) != item.issuer:
                stale_bundles.append(item.name)
        except OSError as error:
            raise _files.explain(error, Path(item.key_file)) from error
    outcome.result = {
        "requests": requests,
        "stale_bundles": stale_bundles,
        "pending": bool(requests or stale_bundles),
    }
    return outcome


def install(wanted: Sequence[Wanted], issued: dict[str, str], *, check: bool) -> Outcome:
    """Put the issued certificates (name to PEM) in place with their keys, and the authorities beside them.

    In check mode a PEM may be empty: it would have been issued.
    """
    outcome = Outcome()
    unknown = sorted(set(issued) - {item.name for item in wanted})
    if unknown:
        raise GreyError(f"issued: wanted names out of 'certificates', found {', '.join(unknown)}")
    for item in wanted:
        try:
            outcome.add(
                _files.ensure_file(
                    _files.File(item.ca_file, item.issuer, _PUBLIC_MODE, owner=item.owner), check=check
                )
                if item.issuer or not check
                else Change(item.ca_file, "", "the new authority's certificate")
            )
            if item.name in issued:
                outcome.add(_exchange(item, issued[item.name], check=check))
        except OSError as error:
            raise _files.explain(error, Path(item.cert_file)) from error
    outcome.result = {"installed": [item.name for item in wanted if item.name in issued]}
    return outcome


def reasons(wanted: Wanted, now: datetime.datetime) -> list[str]:
    """Say why a certificate must be issued anew; nothing when it is good."""
    if not Path(wanted.cert_file).exists():
        return ["missing"]
    certificate = _x509.load_certificate(Path(wanted.cert_file))
    if certificate is None:
        return ["unreadable"]
    found = []
    key = _x509.load_key(Path(wanted.key_file))
    if key is None:
        found.append("key missing")
    elif not _x509.same_key(certificate, key):
        found.append("key mismatch")
    if not wanted.issuer or not _x509.issued_by(certificate, _x509.parse_certificate(wanted.issuer)):
        found.append("foreign issuer")
    if _x509.names_of(certificate) != wanted.names:
        found.append(f"other names: wanted {wanted.names}, found {_x509.names_of(certificate)}")
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if now < certificate.not_valid_before_utc:
        found.append(f"not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC")
    elif now >= certificate.not_valid_after_utc:
        found.append(f"expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC")
    elif certificate.not_valid_after_utc - now < life / 3:
        found.append(f"expires at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC")
    return found


def _new_request(wanted: Wanted, faults: list[str], *, check: bool) -> tuple[str, Change | None]:
    key = _x509.load_key(wanted.new_key)
    change = None
    if key is None:
        change = Change(wanted.cert_file, "; ".join(faults), "a new key and a request for its certificate")
        if check:
            return "", change
        key = _x509.new_key()
        _files.write_atomically(wanted.new_key, _x509.key_to_pem(key), _KEY_MODE, wanted.owner)
    return _x509.request(key, wanted.names), change


def _exchange(wanted: Wanted, pem: str, *, check: bool) -> Change:
    before = _described(_x509.load_certificate(Path(wanted.cert_file)))
    if check:
        return Change(wanted.cert_file, before, f"a new certificate for {wanted.names}")
    certificate = _x509.parse_certificate(pem)
    key = _x509.load_key(wanted.new_key)
    if key is None or not _x509.same_key(certificate, key):
        raise GreyError(
            f"{wanted.name}: wanted a certificate for the key in {wanted.new_key}, found one for another "
            "key; "
            "run the phase 'trust' again"
        )
    if not _x509.issued_by(certificate, _x509.parse_certificate(wanted.issuer)):
        raise GreyError(f"{wanted.name}: wanted a certificate of its authority, found one of another")
    if _x509.names_of(certificate) != wanted.names:
        raise GreyError(
            f"{wanted.name}: wanted a certificate for {wanted.names}, found one for "
            f"{_x509.names_of(certificate)}"
        )
    _files.write_atomically(wanted.new_cert, pem.encode(), _PUBLIC_MODE, wanted.owner)
    _rename_both(wanted)
    return Change(wanted.cert_file, before, _described(certificate))


def _finish_exchange(wanted: Wanted, *, check: bool) -> Change | None:
    """Finish an exchange that was cut short, or clear away what cannot be finished."""
    if not wanted.new_cert.exists():
        return None
    certificate = _x509.load_certificate(wanted.new_cert)
    old_key, new_key = _x509.load_key(Path(wanted.key_file)), _x509.load_key(wanted.new_key)
    if not check:
        if certificate is not None and new_key is not None and _x509.same_key(certificate, new_key):
            _rename_both(wanted)
        elif certificate is not None and old_key is not None and _x509.same_key(certificate, old_key):
            wanted.new_cert.replace(wanted.cert_file)
            _files.sync_folder(wanted.new_cert.parent)
        else:
            wanted.new_cert.unlink()
    return Change(str(wanted.new_cert), "an exchange that was cut short", "finished")


def _rename_both(wanted: Wanted) -> None:
    wanted.new_key.replace(wanted.key_file)
    _files.sync_folder(wanted.new_key.parent)
    wanted.new_cert.replace(wanted.cert_file)
    _files.sync_folder(wanted.new_cert.parent)


def _modes(wanted: Wanted) -> tuple[tuple[str, int], ...]:
    return (wanted.key_file, _KEY_MODE), (wanted.cert_file, _PUBLIC_MODE), (wanted.ca_file, _PUBLIC_MODE)


def _described(certificate: x509.Certificate | None) -> str:
    if certificate is None:
        return ""
    return (
        f"{_x509.names_of(certificate)}, serial {certificate.serial_number:x}, "
        f"until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
