# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control plane that answers what a test wants, over real mutual TLS on loopback."""

from __future__ import annotations

import datetime
import http.server
import json
import ssl
import threading
from pathlib import Path
from typing import Any

from ansible_collections.grey.distributed.plugins.module_utils import _control_plane, _x509

DAY = datetime.timedelta(days=1)
FEDERATION = {
    "federation": {
        "name": "fleet",
        "control_plane": {"endpoint": "federation.grey.internal:8443"},
        "clusters": [
            {
                "name": "aws-east",
                "endpoint": "grey-east.example.com:8080",
                "region": "us-east-1",
                "role": "primary",
            },
            {
                "name": "gcp-west",
                "endpoint": "grey-west.example.com:8080",
                "region": "us-west1",
                "role": "replica",
            },
            {
                "name": "edge-chicago",
                "endpoint": "grey-chi.edge.internal:8080",
                "role": "replica",
                "weight": 25,
                "capabilities": ["read-only", "cache"],
            },
        ],
    }
}


def document(primary: str | None, **more: Any) -> dict[str, Any]:
    """Return a status document of FEDERATION."""
    names = [cluster["name"] for cluster in FEDERATION["federation"]["clusters"]]
    return {
        "federation": "fleet",
        "epoch": 7 if primary else None,
        "primary": primary,
        "answered_by": "aws-east-1",
        "voters": {"total": 3, "reachable": 3},
        "clusters": [
            {"name": name, "status": "primary" if name == primary else "replica", "online": True}
            for name in names
        ],
        **more,
    }


class Trust:
    """An authority, and leaves of it as files."""

    def __init__(self, folder: Path, name: str = "fleet") -> None:
        self.folder = folder
        self._key = _x509.new_key()
        self.root = _x509.make_authority(self._key, name, DAY)

    def issue(self, name: str, *dns: str) -> _control_plane.Tls:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        key = _x509.new_key()
        names = _x509.Names(name, frozenset(dns))
        leaf = _x509.make_leaf(self.root, self._key, key.public_key(), names, DAY, server=True)
        files = _control_plane.Tls(*(str(folder / f"{part}.pem") for part in ("cert", "key", "ca")))
        Path(files.cert_file).write_text(_x509.certificate_to_pem(leaf))
        Path(files.key_file).write_bytes(_x509.key_to_pem(key))
        Path(files.ca_file).write_text(_x509.certificate_to_pem(self.root))
        return files


class Plane(http.server.ThreadingHTTPServer):
    """Listens from when it is made; ``answer`` and ``status`` may be changed while it does."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        tls: _control_plane.Tls,
        answer: Any,
        status: int = 200,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.answer, self.status, self.asked = answer, status, 0
        super().__init__((address, port), _Handler)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(tls.cert_file, tls.key_file)
        self._context.load_verify_locations(tls.ca_file)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread."""
        try:
            with self._context.wrap_socket(request, server_side=True) as shaken:
                super().finish_request(shaken, client_address)
        except OSError:
            return

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Plane

    def do_GET(self) -> None:
        self.server.asked += 1
        assert self.path == "/v1/federation/status"
        body = (
            self.server.answer
            if isinstance(self.server.answer, bytes)
            else json.dumps(self.server.answer).encode()
        )
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
