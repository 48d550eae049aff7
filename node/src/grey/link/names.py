# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names in certificates, and the patterns that admit them (design, section 6)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class PeerNames(msgspec.Struct, frozen=True):
    """Whom a verified peer certificate names: its DNS names and its common name (None without one)."""

    dns: tuple[str, ...]
    common_name: str | None


def peer_names(certificate: Mapping[str, Any] | None) -> PeerNames:
    """Read the form that ``ssl.SSLSocket.getpeercert()`` returns; None (no certificate) names nobody."""
    if not certificate:
        return PeerNames((), None)
    dns = tuple(value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")
    common = [value for rdn in certificate.get("subject", ()) for kind, value in rdn if kind == "commonName"]
    return PeerNames(dns, common[0] if len(common) == 1 else None)


class NamePatterns:
    """Anchored patterns for DNS names; ``*`` stands for one or more characters of a single label."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._compiled = tuple(_compile(pattern) for pattern in self.patterns)

    def match(self, name: str) -> bool:
        """Whether the whole name matches one of the patterns; letter case does not count."""
        return any(pattern.fullmatch(name) for pattern in self._compiled)

    def first(self, names: Iterable[str]) -> str | None:
        """Return the first of the names that matches."""
        return next((name for name in names if self.match(name)), None)


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", r"[^.*]+"), re.IGNORECASE | re.ASCII)
