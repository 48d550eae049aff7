# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches the node's own certificate: says when it ends, and takes a new one without a restart."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from grey.link import tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

log = logging.getLogger("grey.daemon")


class CertificateWatch:
    """The node's leaf as it is on disk and as it is served.

    New files are taken when they are whole and fit together; until then the old ones stay in use. A new trust
    bundle adds its roots at once; roots that it lacks are dropped by a restart only (OpenSSL cannot forget).
    """

    def __init__(self, files: tls.TlsFiles, identity: str, *, wall: Callable[[], float] = time.time) -> None:
        """Check the files; raises TlsError. ``wall`` returns seconds since the Unix epoch."""
        self._files = files
        self._identity = identity
        self._wall = wall
        self._stamp = self._stamps()
        self._fault: str | None = None
        self._contexts: list[ssl.SSLContext] = []
        self.leaf = tls.inspect(files, identity=identity)

    def serve_with(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Keep the certificate of a context up to date; return the context."""
        self._contexts.append(context)
        return context

    def expiry_seconds(self) -> float:
        """Return how long the certificate is still valid; negative when it is over."""
        return self.leaf.not_after - self._wall()

    def problem(self) -> str | None:
        """Take new files if there are any; return what is wrong now, None when nothing is."""
        self._reload()
        try:
            tls.check_time(self._files, self.leaf, self._wall())
        except tls.CertificateExpired as error:
            return str(error)
        return self._fault

    def _reload(self) -> None:
        stamp = self._stamps()
        if stamp == self._stamp:
            return
        try:
            leaf = tls.inspect(self._files, identity=self._identity)
            for context in self._contexts:
                context.load_cert_chain(self._files.cert_file, self._files.key_file)
                context.load_verify_locations(self._files.ca_file)
        except (tls.TlsError, OSError) as error:
            # Two files cannot be replaced at once: a mismatch for a moment is no fault yet, so look again.
            self._fault = str(error)
            return
        self._stamp, self._fault, self.leaf = stamp, None, leaf
        log.info("certificate taken serial=%s days=%.1f", leaf.serial, self.expiry_seconds() / 86400)

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(
            _stamp(path) for path in (self._files.cert_file, self._files.key_file, self._files.ca_file)
        )


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
