# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms of single values: endpoints, names, addresses, paths. Each reader raises BadValue.

They are the formats of the schemas (``"format": "grey-..."``), and what reads the values afterwards.
"""

from __future__ import annotations

import ipaddress
import re

from grey.config.errors import BadValue, quoted
from grey.config.model import Endpoint

LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_LABEL = re.compile(LABEL.removesuffix("$"))
_PATTERN_LABEL = re.compile(r"[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?")
_NODE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SOCKET = re.compile(r"unix:(/[^/\s]+)+/[A-Za-z0-9._-]+:[0-9]{1,5}")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_MAX_SOCKET = 107
_MAX_FILE_NAME = 255 - 15  # bytes; files are written beside their place under a longer name
_MAX_PATH = 1024
_MAX_NAME = 253
_MAX_DOMAIN = _MAX_NAME - 64  # room for a cluster's name and a dot before it

MTLS_ALWAYS = "traffic between clusters is always mTLS"


def endpoint(text: str) -> Endpoint:
    """Read ``HOST:PORT``; the host is a DNS name, an IPv4 address, or an IPv6 address in brackets."""
    found = f"expected HOST:PORT, found {quoted(text)}"
    if url := _SCHEME.fullmatch(text):
        rest = url[2].split("/")[0]
        if url[1].lower() == "http":
            raise BadValue(f"plain http is refused: {MTLS_ALWAYS}", f"write {quoted(rest)} without http://")
        raise BadValue(found, f"write {quoted(rest)} without {url[1]}://")
    name, colon, port = text.rpartition(":")
    if not colon or (":" in name and not name.startswith("[")):
        hint = "put an IPv6 address in brackets" if text.count(":") > 1 else "add the port"
        raise BadValue(
            found, f"{hint}, for example {'[2001:db8::1]' if text.count(':') > 1 else 'host'}:8080"
        )
    if re.fullmatch(r"[1-9][0-9]{0,4}", port) is None or int(port) > 65535:
        raise BadValue(f"expected a port from 1 to 65535, found {quoted(port)}", "write HOST:PORT")
    bracketed = name.startswith("[") and name.endswith("]")
    host = _address(name[1:-1], found, version=6) if bracketed else _host(name, found)
    if what := _nobodys(host):
        raise BadValue(found, f"{host} is {what}: write the name or address by which others reach the host")
    return Endpoint(host, int(port))


def engine_endpoint(text: str) -> str:
    """Read ``unix:/FOLDER/NAME:NUMBER``, the form in which etcd names its sockets, or ``HOST:PORT``."""
    if not text.startswith("unix:"):
        return str(endpoint(text))
    if _SOCKET.fullmatch(text) is None or ".." in text.split("/"):
        raise BadValue(
            f"expected a unix socket, found {quoted(text)}",
            "write unix:/FOLDER/NAME:NUMBER, for example unix:/run/grey/engine/etcd:0",
        )
    if len(text.removeprefix("unix:").encode()) > _MAX_SOCKET:
        raise BadValue(
            f"expected the path of a socket, at most {_MAX_SOCKET} bytes, found {quoted(text)}",
            "choose a shorter folder",
        )
    return text


def label(text: str) -> str:
    """Read one DNS label: it becomes a part of certificate names, of groups and of paths."""
    if _LABEL.fullmatch(text) is None:
        raise BadValue(
            f"expected a name of 1 to 63 characters a-z, 0-9 and - (not first or last), found {quoted(text)}",
            _similar(text),
        )
    return text


def domain(text: str) -> str:
    """Read a DNS name in small letters, without a dot at the end."""
    if len(text) > _MAX_DOMAIN or not all(_LABEL.fullmatch(part) for part in text.split(".")):
        raise BadValue(
            f"expected a DNS name of a-z, 0-9, - and dots, found {quoted(text)}",
            f"for example grey.internal, at most {_MAX_DOMAIN} characters",
        )
    return text


def host(text: str) -> str:
    """Read a host name or an address, without a port."""
    return _host(text, f"expected a host name, found {quoted(text)}")


def address(text: str) -> str:
    """Read an IPv4 or IPv6 address."""
    return _address(text, f"expected an IP address, found {quoted(text)}")


def path(text: str) -> str:
    """Read an absolute path."""
    if not text.startswith("/") or text.endswith("/") or ".." in text.split("/"):
        raise BadValue(
            f"expected an absolute path, found {quoted(text)}",
            "begin with / and use no .. and no / at the end",
        )
    longest = max(text.split("/"), key=_bytes)
    if _bytes(longest) > _MAX_FILE_NAME:
        raise BadValue(
            f"expected at most {_MAX_FILE_NAME} bytes between two /, found {_bytes(longest)}: "
            f"{quoted(longest)}",
            "choose a shorter name",
        )
    if _bytes(text) > _MAX_PATH:
        raise BadValue(
            f"expected a path of at most {_MAX_PATH} bytes, found {_bytes(text)}", "choose a shorter folder"
        )
    return text


def name_pattern(text: str) -> str:
    """Read a pattern of certificate names, with or without ``CN=``; return it without."""
    pattern = text.removeprefix("CN=").lower()
    if len(pattern) > _MAX_NAME or not all(_PATTERN_LABEL.fullmatch(part) for part in pattern.split(".")):
        raise BadValue(
            f"expected a certificate name or a pattern, found {quoted(text)}",
            "for example CN=edge-*.grey.internal; * stays within one label",
        )
    return pattern


def node_name(text: str) -> str:
    """Read a node's name, which is its name in the inventory."""
    if _NODE.fullmatch(text) is None:
        raise BadValue(
            f"expected a name of letters, digits, dots, - and _, found {quoted(text)}",
            "use the host's name in the inventory, for example aws-east-1",
        )
    return text


def _host(text: str, found: str) -> str:
    parts = text.lower().split(".")
    if parts[-1].isdigit():
        return _address(text, found, version=4)
    if len(text) > _MAX_NAME or not all(_LABEL.fullmatch(part) for part in parts):
        raise BadValue(found, "a host is a DNS name of a-z, 0-9, - and dots, or an IP address")
    return text.lower()


def _address(text: str, found: str, version: int | None = None) -> str:
    try:
        read = ipaddress.ip_address(text)
    except ValueError:
        read = None
    if read is None or (version is not None and read.version != version) or "%" in text:
        wanted = f"an IPv{version} address" if version else "an IPv4 or IPv6 address"
        raise BadValue(found, f"{quoted(text)} is not {wanted}")
    return str(read)


def _nobodys(host: str) -> str | None:
    """Say why no single host can be reached by an address, None for a name and for any other address."""
    try:
        read = ipaddress.ip_address(host)
    except ValueError:
        return None
    read = getattr(read, "ipv4_mapped", None) or read
    if read.is_unspecified:
        return "every address of a host and the address of none"
    if read.is_multicast or read == _BROADCAST:
        return "an address of many hosts"
    return None


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _similar(text: str) -> str:
    candidate = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return f"write {candidate}" if candidate else "for example aws-east"
