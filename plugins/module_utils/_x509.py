# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, requests and certificates: P-256 everywhere, names compared as sets."""

from __future__ import annotations

import datetime
import ipaddress
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    MISSING = ""
except ImportError:
    MISSING = traceback.format_exc()


if TYPE_CHECKING:
    from pathlib import Path

_COMMON_NAME_LIMIT = 64
# A host's clock may be a little behind the controller's.
_BACKDATED = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Names:
    """What a certificate says about its holder."""

    common_name: str
    dns: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return ", ".join([f"CN={self.common_name}", *sorted(self.dns), *sorted(self.addresses)])


def now() -> datetime.datetime:
    """Return the present time in UTC."""
    return datetime.datetime.now(datetime.UTC)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as an unencrypted PEM file's content."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """Read a private key; None when there is no file or no P-256 key in it."""
    try:
        content = path.read_bytes()  # first: check mode asks on hosts that have neither keys nor the library
        key = serialization.load_pem_private_key(content, None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return key if _is_p256(key) and isinstance(key, ec.EllipticCurvePrivateKey) else None


def load_certificate(path: Path) -> x509.Certificate | None:
    """Read a certificate; None when there is no file or no certificate in it."""
    try:
        content = path.read_bytes()
        return x509.load_pem_x509_certificate(content)
    except (FileNotFoundError, ValueError):
        return None


def parse_certificate(pem: str) -> x509.Certificate:
    """Read a certificate from text. Fails when it is none."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise GreyError(f"wanted a certificate in PEM, found something else: {error}") from error


def certificate_to_pem(certificate: x509.Certificate) -> str:
    """Return a certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def request(key: ec.EllipticCurvePrivateKey, names: Names) -> str:
    """Return a signing request in PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(names.common_name))
    if names.dns or names.addresses:
        builder = builder.add_extension(_alternative_names(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def parse_request(pem: str) -> x509.CertificateSigningRequest:
    """Read a signing request and check that its sender holds the key, a P-256 one."""
    try:
        parsed = x509.load_pem_x509_csr(pem.encode())
    except ValueError as error:
        raise GreyError(f"wanted a signing request in PEM, found something else: {error}") from error
    if not parsed.is_signature_valid:
        raise GreyError("wanted a request signed by its own key, found a wrong signature")
    if not _is_p256(parsed.public_key()):
        raise GreyError("wanted a request for a P-256 key, found another kind of key")
    return parsed


def holder_key(parsed: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    """Return the public key of a checked request."""
    key = parsed.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise GreyError("wanted a P-256 key, found another kind")
    return key


def names_of(holder: x509.Certificate | x509.CertificateSigningRequest) -> Names:
    """Return the names in a certificate or a request."""
    common = holder.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    try:
        extension = holder.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names(_text(common[0].value) if common else "")
    return Names(
        _text(common[0].value) if common else "",
        frozenset(extension.get_values_for_type(x509.DNSName)),
        frozenset(str(address) for address in extension.get_values_for_type(x509.IPAddress)),
    )


def same_key(
    left: x509.Certificate | x509.CertificateSigningRequest | ec.EllipticCurvePrivateKey,
    right: x509.Certificate | x509.CertificateSigningRequest | ec.EllipticCurvePrivateKey,
) -> bool:
    """Whether two things belong to one key pair."""
    return _public(left) == _public(right)


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether an authority signed a certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def make_authority(
    key: ec.EllipticCurvePrivateKey, common_name: str, life: datetime.timedelta
) -> x509.Certificate:
    """Sign a root certificate that may sign leaves only."""
    subject = _subject(common_name)
    return (
        _builder(subject, key.public_key(), life)
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def make_leaf(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    holder: ec.EllipticCurvePublicKey,
    names: Names,
    life: datetime.timedelta,
    *,
    server: bool,
) -> x509.Certificate:
    """Sign a leaf for exactly these names: for clients, and for servers too when ``server``."""
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if server:
        purposes.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    builder = (
        _builder(_subject(names.common_name), holder, life)
        .issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    if names.dns or names.addresses:
        builder = builder.add_extension(_alternative_names(names), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _builder(
    subject: x509.Name, holder: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    begin = now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(holder)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _BACKDATED)
        .not_valid_after(begin + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(holder), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(common_name: str) -> x509.Name:
    if not 0 < len(common_name) <= _COMMON_NAME_LIMIT:
        raise GreyError(
            f"common name {common_name!r}: wanted 1 to {_COMMON_NAME_LIMIT} characters, found "
            f"{len(common_name)}; "
            "choose a shorter cluster or host name"
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_names(names: Names) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [
            *(x509.DNSName(name) for name in sorted(names.dns)),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(names.addresses)),
        ]
    )


def _public(
    holder: x509.Certificate | x509.CertificateSigningRequest | ec.EllipticCurvePrivateKey,
) -> bytes:
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _is_p256(key: object) -> bool:
    return isinstance(key, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)) and isinstance(
        key.curve, ec.SECP256R1
    )


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
