# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host, with its Python alone: asks one port in one way and prints one line, what came of it.

``probe.py ADDRESS PORT plain|tls [CERT KEY]``: ``answered FIRST-LINE``, ``refused WHY`` or ``closed``. The
server's own certificate is not looked at: what is asked is whether it lets somebody in.
"""

from __future__ import annotations

import socket
import ssl
import sys


def main(address: str, port: str, kind: str, *files: str) -> str:
    """Ask, and say what came of it."""
    # etcd and greyd both answer this: HTTP/1.1 with a status, HTTP/2 with a complaint in clear.
    request = f"GET /version HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection((address, int(port)), timeout=10) as plain:
            connection = plain
            if kind == "tls":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                if files:
                    context.load_cert_chain(*files)
                connection = context.wrap_socket(plain)
            connection.sendall(request)
            said = connection.recv(200).decode(errors="replace").split("\r\n")[0]
    except (ssl.SSLError, OSError) as error:
        return f"refused {error}"
    return f"answered {said}" if said else "closed"


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
