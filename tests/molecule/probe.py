# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host, with its Python alone: asks ports of other hosts, and says what came of each question.

``probe.py JSON``, a list of ``[ADDRESS, PORT, "plain"|"tls", CERT, KEY]``, the last two optional. The answers
are a JSON list: ``answered FIRST-LINE``, ``refused WHY``, or ``closed``. The server's own certificate is not
looked at: what is asked is whether it lets somebody in.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys


def ask(address: str, port: int, kind: str, *files: str) -> str:
    """Ask one port, and say what came of it."""
    # etcd and greyd both answer this: HTTP/1.1 with a status, HTTP/2 with a complaint in clear.
    request = f"GET /version HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection((address, port), timeout=10) as plain:
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
    print(json.dumps([ask(*question) for question in json.loads(sys.argv[1])]))
