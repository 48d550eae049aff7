# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS contexts and the checks of the files they are made from.

Node-to-node traffic is TLS 1.3 with certificates on both ends; the key-value API also takes TLS 1.2 clients.
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Protocol

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID, NameOID

from grey.link.names import NamePatterns, PeerNames, peer_names

__all__ = [
    "CertificateExpired",
    "Leaf",
    "NamePatterns",
    "PeerNames",
    "TlsError",
    "TlsFiles",
    "check_time",
    "client_context",
    "describe",
    "inspect",
    "peer_names",
    "read_leaf",
    "server_context",
]

_REISSUE = "run deploy.yml (or rotate_certs.yml) to issue a new one"


class TlsFiles(Protocol):
    """Absolute paths of PEM files; ``grey.config.model.TlsFiles`` is one."""

    @property
    def cert_file(self) -> str:
        """The leaf certificate, followed by its intermediates."""
        ...

    @property
    def key_file(self) -> str:
        """The private key of the leaf."""
        ...

    @property
    def ca_file(self) -> str:
        """The trust bundle."""
        ...


class TlsError(Exception):
    """A file of the node's certificate cannot be used; the message says which, why and what to do."""


class CertificateExpired(TlsError):
    """The certificate is intact, but its time is over or has not come yet."""


class Leaf(msgspec.Struct, frozen=True):
    """What a leaf certificate says. Times are seconds since the Unix epoch."""

    dns: tuple[str, ...]
    common_name: str | None
    not_before: float
    not_after: float
    serial: str


def inspect(files: TlsFiles, *, identity: str | None = None) -> Leaf:
    """Check that certificate, key and bundle exist and belong together; say what the certificate says.

    ``identity`` is the DNS name that the certificate must carry. Its time is not checked here but
    by ``check_time``, since a node with an expired certificate still runs and says so. Raises TlsError.
    """
    chain = _certificates(files.cert_file, "certificate")
    bundle = _certificates(files.ca_file, "trust bundle")
    leaf = chain[0]
    _check_key(files, leaf)
    _check_chain(files, chain, bundle)
    found = describe(leaf)
    if identity is not None and identity not in found.dns:
        raise TlsError(
            f"{files.cert_file}: the certificate must carry the DNS name {identity}, "
            f"it carries {', '.join(found.dns) or 'none'}: {_REISSUE}"
        )
    return found


def read_leaf(cert_file: str) -> Leaf:
    """Return what the leaf in a file says. Raises TlsError."""
    return describe(_certificates(cert_file, "certificate")[0])


def describe(certificate: x509.Certificate) -> Leaf:
    """Return what a certificate says."""
    try:
        names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
        assert isinstance(names, x509.SubjectAlternativeName)
        dns = tuple(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        dns = ()
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Leaf(
        dns=dns,
        common_name=str(common[0].value) if len(common) == 1 else None,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        serial=f"{certificate.serial_number:x}",
    )


def check_time(files: TlsFiles, leaf: Leaf, now: float) -> None:
    """Raise CertificateExpired unless ``now`` (seconds since the Unix epoch) is in the certificate's time."""
    if now >= leaf.not_after:
        when = _date(leaf.not_after)
        raise CertificateExpired(f"{files.cert_file}: the certificate expired on {when}: {_REISSUE}")
    if now < leaf.not_before:
        when = _date(leaf.not_before)
        raise CertificateExpired(
            f"{files.cert_file}: the certificate is valid only from {when}, "
            f"the clock here says {_date(now)}: set the clock"
        )


def server_context(files: TlsFiles, *, mutual: bool, node_to_node: bool) -> ssl.SSLContext:
    """Return a context to listen with. ``mutual`` demands a client certificate of the trust bundle.

    ``node_to_node`` allows TLS 1.3 alone. Raises TlsError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, files, node_to_node=node_to_node)
    context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context to dial other nodes with: TLS 1.3, own certificate, only the trust bundle is trusted.

    Raises TlsError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, files, node_to_node=True)
    return context


def _load(context: ssl.SSLContext, files: TlsFiles, *, node_to_node: bool) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if node_to_node else ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_cert_chain(files.cert_file, files.key_file, password=_no_password)
        context.load_verify_locations(files.ca_file)
    except (OSError, ValueError) as error:
        inspect(files)
        raise TlsError(f"{files.cert_file}: OpenSSL refuses the certificate or its key: {error}") from error


def _no_password() -> str:
    raise ValueError("the private key is encrypted; greyd needs one without a password")


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise TlsError(f"{path}: the {what} does not exist: run deploy.yml to make it") from None
    except OSError as error:
        raise TlsError(
            f"{path}: the {what} cannot be read ({error.strerror}): "
            "check owner and mode, greyd runs as another user"
        ) from error


def _certificates(path: str, what: str) -> list[x509.Certificate]:
    data = _read(path, what)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise TlsError(f"{path}: the {what} holds no PEM certificate ({error}): {_REISSUE}") from error


def _check_key(files: TlsFiles, leaf: x509.Certificate) -> None:
    data = _read(files.key_file, "private key")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise TlsError(
            f"{files.key_file}: holds no unencrypted PEM private key ({type(error).__name__}): {_REISSUE}"
        ) from error
    wanted, found = (
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for public in (leaf.public_key(), key.public_key())
    )
    if wanted != found:
        raise TlsError(f"{files.key_file}: is not the key of {files.cert_file}: {_REISSUE} for this key")


def _check_chain(files: TlsFiles, chain: list[x509.Certificate], bundle: list[x509.Certificate]) -> None:
    current, rest = chain[0], chain[1:]
    for _ in range(len(chain)):
        if any(_issued_by(current, root) for root in bundle):
            return
        issuer = next((candidate for candidate in rest if _issued_by(current, candidate)), None)
        if issuer is None:
            break
        current = issuer
    raise TlsError(
        f"{files.cert_file}: was not issued by a CA of {files.ca_file} "
        f"(issuer: {current.issuer.rfc4514_string()}): {_REISSUE} by this federation's CA"
    )


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
