# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate that a port serves, which may be another one than that in the file."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_SECONDS = 5.0


@dataclass(frozen=True)
class Served:
    """What a port serves: ``file``, the certificate of the file; ``other``, another one that is good;
    ``refused``, one that its authority did not sign or whose time is over; ``silent``, nothing.
    """

    state: Literal["file", "other", "refused", "silent"]
    problem: str = ""


def look(address: str, port: int, *, cert_file: str, key_file: str, authority: str) -> Served:
    """Shake hands with a port as its neighbours do. ``authority`` is the PEM that must have signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # names were compared in the file
    try:
        context.load_verify_locations(cadata=authority)
        context.load_cert_chain(cert_file, key_file, password=_no_password)
        wanted = leaf(cert_file)
    except (OSError, ValueError) as error:
        return Served("silent", f"the files cannot be used: {error}")
    try:
        with (
            socket.create_connection((address, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain) as secure,
        ):
            found = secure.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        return Served("refused", error.verify_message)
    except OSError as error:
        return Served("silent", error.strerror or str(error))
    return Served("file" if found == wanted else "other")


def leaf(cert_file: str) -> bytes:
    """Return the first certificate of a file, as it goes over the wire. Raises OSError, ValueError."""
    text = Path(cert_file).read_text(encoding="ascii")
    head, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    if head not in text or end not in text:
        raise ValueError(f"{cert_file}: holds no certificate in PEM")
    return ssl.PEM_cert_to_DER_cert(text[text.index(head) : text.index(end) + len(end)])


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
