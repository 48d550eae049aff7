# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS files that are replaced while a program runs: new connections use the new ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from grey.link.tls import CertificateExpired, TlsError, TlsFiles, check_time, client_context, read_leaf

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_Stamp = tuple[int, int, int] | None


class ReloadingContext:
    """The newest TLS context that certificate, key and trust bundle make together.

    Files are taken as new when they differ (inode, time, size), have stayed so from one look to the next, and
    fit together; until then the context before stays in use, so half-written files break nothing. Each
    change makes a new context: a root that left the bundle is trusted no more.
    """

    def __init__(
        self,
        files: TlsFiles,
        make: Callable[[TlsFiles], ssl.SSLContext] = client_context,
        *,
        clock: Callable[[], float] = time.monotonic,
        look_seconds: float = 1.0,
    ) -> None:
        """``clock`` returns seconds; the files are looked at every ``look_seconds``, when they are needed.

        Raises TlsError for files that cannot be used.
        """
        self._files = files
        self._make = make
        self._clock = clock
        self._look_seconds = look_seconds
        self._looked = clock()
        self._taken = self._seen = self._stamps()
        self._context, self._leaf = make(files), read_leaf(files.cert_file)
        self.problem: str | None = None
        """What is wrong with the files that lie there now; None when they are in use."""

    def current(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        now = self._clock()
        if now - self._looked >= self._look_seconds:
            self._looked = now
            self._look(patient=True)
        return self._context

    def refresh(self) -> bool:
        """Look now, since a peer was refused or refuses: True when new files are in use from here on."""
        return self._look(patient=False)

    def expired(self, now: float) -> str | None:
        """Say that the certificate in use is not valid ``now`` (seconds since the Unix epoch), if so."""
        try:
            check_time(self._files, self._leaf, now)
        except CertificateExpired as error:
            return str(error)
        return None

    def _look(self, *, patient: bool) -> bool:
        found = self._stamps()
        before, self._seen = self._seen, found
        if found == self._taken:
            self.problem = None
            return False
        if patient and found != before:
            return False
        try:
            context, leaf = self._make(self._files), read_leaf(self._files.cert_file)
        except TlsError as error:
            self.problem = str(error)
            return False
        if self._stamps() != found:
            return False
        self._context, self._leaf = context, leaf
        self._taken, self.problem = found, None
        return True

    def _stamps(self) -> tuple[_Stamp, ...]:
        files = self._files
        return tuple(_stamp(path) for path in (files.cert_file, files.key_file, files.ca_file))


def _stamp(path: str) -> _Stamp:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
