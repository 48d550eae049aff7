# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's authorities: made once, kept in a guarded folder, signing only what a host may have."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils import _files, _x509
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator, Mapping, Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

_FOLDER_MODE = 0o700
_KEY_MODE = 0o600
_PUBLIC_MODE = 0o644


@dataclass(frozen=True)
class Entitlement:
    """What one host may have under one name: the authority that signs it and the exact names inside."""

    authority: str
    names: _x509.Names


@dataclass(frozen=True)
class Authority:
    """An authority's certificate and key; both None in check mode when they do not exist yet."""

    certificate: x509.Certificate | None
    key: ec.EllipticCurvePrivateKey | None

    @property
    def pem(self) -> str:
        """The certificate as text, empty when there is none yet."""
        return "" if self.certificate is None else _x509.certificate_to_pem(self.certificate)


class Vault:
    """The guarded folder. Use it as a context manager: one run at a time works in it."""

    def __init__(self, folder: str, *, check: bool) -> None:
        self._folder = Path(folder)
        self._check = check
        self.changes: list[Change] = []

    @contextlib.contextmanager
    def opened(self) -> Iterator[Vault]:
        """Make and close the folder, and hold its lock."""
        self._keep_closed(self._folder)
        if self._check:
            yield self
            return
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, _KEY_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield self
        finally:
            os.close(descriptor)

    def authority(self, name: str, common_name: str, life: datetime.timedelta) -> Authority:
        """Return an authority, made now if there is none; never anew beside a certificate without its key."""
        folder = self._folder / "authority" / name
        for part in (folder.parent, folder):
            self._keep_closed(part)
        cert_path, key_path = folder / "cert.pem", folder / "key.pem"
        certificate, key = _x509.load_certificate(cert_path), _x509.load_key(key_path)
        if certificate is None and cert_path.exists():
            raise GreyError(
                f"{cert_path}: wanted the authority's certificate, found something else; restore it"
            )
        if key is None and (key_path.exists() or certificate is not None):
            raise GreyError(
                f"{key_path}: wanted the key of the authority {name}, found none that can be read; "
                "restore the folder "
                "from its backup (without it no certificate can be issued)"
            )
        if certificate is not None and key is not None:
            self._keep_mode(key_path, _KEY_MODE)
            self._check_authority(name, certificate, key, cert_path)
            return Authority(certificate, key)
        self.changes.append(Change(str(cert_path), "", f"the authority {common_name}"))
        if self._check:
            return Authority(None, None)
        if key is None:
            key = _x509.new_key()
            _files.write_atomically(key_path, _x509.key_to_pem(key), _KEY_MODE)
        certificate = _x509.make_authority(key, common_name, life)
        _files.write_atomically(cert_path, _x509.certificate_to_pem(certificate).encode(), _PUBLIC_MODE)
        return Authority(certificate, key)

    def client(self, name: str, common_name: str, authority: Authority, life: datetime.timedelta) -> None:
        """Keep a client certificate for the controller: NAME-cert.pem, NAME-key.pem and NAME-ca.pem."""
        cert_path, key_path = self._folder / f"{name}-cert.pem", self._folder / f"{name}-key.pem"
        ca_path = self._folder / f"{name}-ca.pem"
        names = _x509.Names(common_name)
        certificate, key = _x509.load_certificate(cert_path), _x509.load_key(key_path)
        good = (
            authority.certificate is not None
            and certificate is not None
            and key is not None
            and _x509.same_key(certificate, key)
            and _x509.issued_by(certificate, authority.certificate)
            and _x509.names_of(certificate) == names
            and certificate.not_valid_after_utc - _x509.now()
            > (certificate.not_valid_after_utc - certificate.not_valid_before_utc) / 3
        )
        if good:
            self._keep_mode(key_path, _KEY_MODE)
        else:
            self.changes.append(Change(str(cert_path), "", f"a client certificate for {names}"))
            if not self._check and authority.certificate is not None and authority.key is not None:
                fresh = _x509.new_key()
                issued = _x509.make_leaf(
                    authority.certificate, authority.key, fresh.public_key(), names, life, server=False
                )
                _files.write_atomically(key_path, _x509.key_to_pem(fresh), _KEY_MODE)
                _files.write_atomically(cert_path, _x509.certificate_to_pem(issued).encode(), _PUBLIC_MODE)
        if authority.pem:
            change = _files.ensure_file(
                _files.File(str(ca_path), authority.pem, _PUBLIC_MODE), check=self._check
            )
        else:
            change = Change(str(ca_path), "", "the new authority's certificate")
        if change is not None:
            self.changes.append(change)

    def _check_authority(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, path: Path
    ) -> None:
        if not _x509.same_key(certificate, key):
            raise GreyError(
                f"{path}: wanted the certificate of the key beside it, found another; restore the folder"
            )
        if certificate.not_valid_after_utc <= _x509.now():
            raise GreyError(
                f"{path}: the authority {name} expired at {certificate.not_valid_after_utc:%Y-%m-%d}; "
                "move the folder away and deploy again with -e trust_replace=true to make a new one, which "
                "replaces every certificate"
            )

    def _keep_closed(self, path: Path) -> None:
        change = _files.ensure_folder(_files.Folder(str(path), _FOLDER_MODE), check=self._check)
        if change is not None:
            self.changes.append(change)
        elif path.stat().st_uid != os.geteuid():
            raise GreyError(f"{path}: wanted a folder of this user, found one of user {path.stat().st_uid}")

    def _keep_mode(self, path: Path, mode: int) -> None:
        found = stat.S_IMODE(path.stat().st_mode)
        if found != mode:
            if not self._check:
                path.chmod(mode)
            self.changes.append(Change(str(path), f"mode {found:04o}", f"mode {mode:04o}"))


def sign(
    authorities: Mapping[str, Authority],
    entitlements: Mapping[str, Mapping[str, Entitlement]],
    requests: Mapping[str, Sequence[Mapping[str, str]]],
    life: datetime.timedelta,
    *,
    replace: bool,
    check: bool,
) -> tuple[dict[str, dict[str, str]], list[Change]]:
    """Sign the requests of all hosts: host to name to PEM (empty in check mode).

    Names come from the entitlements. A request for other names is refused, and then nothing is signed. So are
    requests of hosts that all trust another authority, unless ``replace`` says that it is to go.
    """
    if not replace:
        _refuse_another_authority(entitlements, requests)
    signed: dict[str, dict[str, str]] = {}
    changes = []
    for host, items in requests.items():
        for item in items:
            name, where = item["name"], f"request {item['name']!r} of {host}"
            allowed = entitlements.get(host, {}).get(name)
            if allowed is None:
                raise GreyError(
                    f"{where}: wanted a certificate that this host may have, found an unknown one"
                )
            pem = "" if check else _sign_one(authorities, allowed, item["csr"], where, life)
            signed.setdefault(host, {})[name] = pem
            changes.append(Change(f"{host}: {name}", "", f"a certificate for {allowed.names}"))
    return signed, changes


def _refuse_another_authority(
    entitlements: Mapping[str, Mapping[str, Entitlement]],
    requests: Mapping[str, Sequence[Mapping[str, str]]],
) -> None:
    """Fail when all hosts have certificates of another authority than ours: ours was made by mistake.

    A controller whose folder was lost makes new authorities. To give their certificates to hosts that run
    would part those that have them already from those that do not yet.
    """
    foreign: dict[str, dict[str, bool]] = {}
    for host, items in requests.items():
        asked: dict[str, Sequence[str]] = {item["name"]: item.get("reasons") or () for item in items}
        for name, allowed in entitlements.get(host, {}).items():
            if "missing" not in asked.get(name, ()):
                foreign.setdefault(allowed.authority, {})[host] = "foreign issuer" in asked.get(name, ())
    for authority, hosts in foreign.items():
        if len(hosts) > 1 and all(hosts.values()):
            raise GreyError(
                f"authority {authority}: wanted the one that the hosts trust, found another one: the "
                f"certificates of {', '.join(hosts)} are all somebody else's. Restore the controller's "
                "folder (grey_controller_dir) from its backup. If it is lost for good, -e trust_replace=true "
                "gives all hosts new certificates; they do not hear each other meanwhile"
            )


def _sign_one(
    authorities: Mapping[str, Authority], allowed: Entitlement, csr: str, where: str, life: datetime.timedelta
) -> str:
    authority = authorities.get(allowed.authority)
    if authority is None or authority.certificate is None or authority.key is None:
        raise GreyError(f"{where}: wanted the authority {allowed.authority!r}, found none of this name")
    try:
        parsed = _x509.parse_request(csr)
    except GreyError as error:
        raise GreyError(f"{where}: {error}") from error
    asked = _x509.names_of(parsed)
    if asked != allowed.names:
        raise GreyError(
            f"{where}: this host may have {allowed.names}, but asks for {asked}; nothing was signed"
        )
    if authority.certificate.not_valid_after_utc < _x509.now() + life:
        raise GreyError(
            f"{where}: wanted an authority that lives longer than its leaves, found {allowed.authority!r} "
            "ending at "
            f"{authority.certificate.not_valid_after_utc:%Y-%m-%d}; roll the authority over first"
        )
    holder = _x509.holder_key(parsed)
    leaf = _x509.make_leaf(authority.certificate, authority.key, holder, allowed.names, life, server=True)
    return _x509.certificate_to_pem(leaf)
