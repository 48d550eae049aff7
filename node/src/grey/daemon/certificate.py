# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches the node's own certificate: says when it ends, and takes new files without a restart."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from grey.link import tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    MakeContext = Callable[[tls.TlsFiles], ssl.SSLContext]

log = logging.getLogger("grey.daemon")


class CertificateWatch:
    """The node's certificate, key and trust bundle as they are on disk and as they are used.

    New files are taken when they are whole and fit together; until then the old ones stay in use. Contexts
    that are asked for from then on have the new certificate and trust the roots of the new bundle alone.
    ``taken`` counts the times; ``roots_changed`` says whether the last time the bundle was another one.
    """

    def __init__(self, files: tls.TlsFiles, identity: str, *, wall: Callable[[], float] = time.time) -> None:
        """Check the files; raises TlsError. ``wall`` returns seconds since the Unix epoch."""
        self._files = files
        self._identity = identity
        self._wall = wall
        self._stamp = self._stamps()
        self._fault: str | None = None
        self.leaf = tls.inspect(files, identity=identity)
        self._newest: dict[MakeContext, ssl.SSLContext] = {tls.client_context: tls.client_context(files)}
        self.taken = 0
        self.roots_changed = False

    def client(self) -> ssl.SSLContext:
        """Return the context for a new connection to another node."""
        return self._newest[tls.client_context]

    def server(self, *, mutual: bool, node_to_node: bool) -> Callable[[], ssl.SSLContext]:
        """Return what gives the newest context to listen with. Raises TlsError."""

        def make(files: tls.TlsFiles) -> ssl.SSLContext:
            return tls.server_context(files, mutual=mutual, node_to_node=node_to_node)

        self._newest[make] = make(self._files)
        return lambda: self._newest[make]

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
            self._fault = None
            return
        try:
            leaf = tls.inspect(self._files, identity=self._identity)
            newest = {make: make(self._files) for make in self._newest}
        except tls.TlsError as error:
            # Two files cannot be replaced at once: a mismatch for a moment is no fault yet, so look again.
            self._fault = str(error)
            return
        if self._stamps() != stamp:
            return
        self.roots_changed = stamp[-1] != self._stamp[-1]
        self._stamp, self._fault, self.leaf, self._newest = stamp, None, leaf, newest
        self.taken += 1
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
