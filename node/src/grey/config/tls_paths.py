# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the control plane's certificate, its key and its authorities may lie on every host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.config.model import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grey.config.errors import Fault
    from grey.config.model import Federation
    from grey.config.yamlfile import Document

OWNED = (
    "/etc/grey/engine",
    "/etc/grey/federation.yaml",
    "/etc/grey/fedstore",
    "/etc/grey/grey.yaml",
    "/etc/grey/identity.json",
    "/etc/grey/programs",
    "/etc/grey/supervisord.conf",
    "/run/grey",
    "/var/lib/grey",
    "/var/log/grey",
)
"""What a deployment writes on a host besides the three files (docs/reference/node-file.md, playbooks.md)."""

_TLS = ("federation", "control_plane", "tls")
_EXAMPLES = ("/etc/grey/federation-{}.pem", "/etc/grey/control-plane-{}.pem")
_WAITING = ".new"  # a new certificate and its key wait beside the old ones under this suffix


def distinct_paths(federation: Federation, document: Document) -> Iterator[Fault]:
    """The control plane's certificate, key and authorities lie apart, and not among the node's own files."""
    files = {key: getattr(federation.control_plane.tls, key) for key in TlsFiles.__struct_fields__}
    apart: list[str] = []
    for key in files:
        for other in (*OWNED, *apart):
            # Of two keys it is the later one, unless that is a default, which the file does not have.
            swap = other in files and document.has(*_TLS, other) and not document.has(*_TLS, key)
            mine, theirs = (other, key) if swap else (key, other)
            relation = _relation(files[mine], files.get(theirs, theirs))
            if relation is not None:
                what = theirs if theirs in files else f"{theirs}, which the deployment writes"
                message = f"expected a path of its own, found {relation} {what}"
                yield document.fault((*_TLS, mine), message, f"for example {_example(mine, files)}")
                break
        else:
            apart.append(key)


def _relation(mine: str, theirs: str) -> str | None:
    one, other = _parts(mine), _parts(theirs)
    if one == other:
        return "that of"
    if one[: len(other)] == other:
        return "one below"
    if other[: len(one)] == one:
        return "a folder above"
    if one in (_parts(theirs + _WAITING), _parts(theirs.removesuffix(_WAITING))):
        return f"one that differs only by {_WAITING}, where a new file waits, from"
    return None


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _example(key: str, files: dict[str, str]) -> str:
    """Return a path that this key may have beside the other keys."""
    others = [path for name, path in files.items() if name != key]
    candidates = [form.format(key.removesuffix("_file")) for form in _EXAMPLES]
    free = [path for path in candidates if not any(_relation(path, other) for other in others)]
    return (free or candidates)[0]
