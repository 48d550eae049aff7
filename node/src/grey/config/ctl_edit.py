# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to grey-ctl's own file: whole or not at all, one at a time, comments kept, for its owner alone."""

from __future__ import annotations

import fcntl
import io
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from grey.config import ctl, yamlfile
from grey.config.errors import ConfigError, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from grey.config.ctl import CtlFederation, CtlFile

MODE = 0o600


def use(path: str | Path, context: str) -> CtlFile:
    """Make a context the current one; return the file as it is then. Raises ConfigError."""

    def change(plain: Any, known: CtlFile) -> None:
        _must_have(path, known, context)
        plain["current"] = context

    return _edit(Path(path), change)


def add(path: str | Path, context: str, entry: CtlFederation, *, replace: bool = False) -> CtlFile:
    """Add a context; the file is made when there is none. Raises ConfigError.

    A context of this name is refused, or with ``replace`` changed in place.
    """

    def change(plain: Any, known: CtlFile) -> None:
        if context in known.known and not replace:
            raise _wrong(path, f"there is a context {context} already", "give another name, or --replace")
        section = "federations" if context in known.federations else "contexts"
        plain.setdefault(section, CommentedMap())[context] = _plain(entry)

    return _edit(Path(path), change, make=True)


def remove(path: str | Path, context: str) -> CtlFile:
    """Remove a context; if it was the current one, none is afterwards. Raises ConfigError."""

    def change(plain: Any, known: CtlFile) -> None:
        _must_have(path, known, context)
        section = "federations" if context in known.federations else "contexts"
        del plain[section][context]
        if section == "contexts" and not plain[section]:
            del plain[section]
        if known.current == context:
            del plain["current"]

    return _edit(Path(path), change)


def _edit(path: Path, change: Callable[[Any, CtlFile], None], *, make: bool = False) -> CtlFile:
    # A link stays one: what it points at is replaced, not the link itself.
    target = Path(os.path.realpath(path))
    try:
        if make:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(target.parent):
            if make and not target.exists():
                plain, known = CommentedMap(federations=CommentedMap()), ctl.CtlFile({})
            else:
                known = ctl.load(target)
                plain = _round_trip().load(target.read_bytes())
            change(plain, known)
            content = _written(plain)
            # What is written was read by the rules of reading: no change can leave a file that is refused.
            after = ctl.read(yamlfile.parse(str(path), content))
            _replace(target, content)
            return after
    except OSError as error:
        raise _wrong(
            path, f"cannot be changed: {error.strerror}", "check the path and its permissions"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change files of a folder, so that no change is lost."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(target: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), MODE)
            with suppress(FileNotFoundError):
                # Root may change a file of another user, who must be able to read it afterwards.
                before = target.stat()
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _round_trip() -> YAML:
    reader = YAML(typ="rt")
    reader.preserve_quotes = True
    reader.width = 4096
    reader.indent(mapping=2, sequence=4, offset=2)
    return reader


def _written(plain: Any) -> bytes:
    out = io.BytesIO()
    _round_trip().dump(plain, out)
    return out.getvalue()


def _plain(entry: CtlFederation) -> CommentedMap:
    tls = {"cert_file": entry.tls.cert_file, "key_file": entry.tls.key_file, "ca_file": entry.tls.ca_file}
    plain = CommentedMap(federation_file=entry.federation_file, tls=CommentedMap(tls))
    if entry.names:
        plain["names"] = CommentedMap({name: list(addresses) for name, addresses in entry.names.items()})
    return plain


def _must_have(path: str | Path, known: CtlFile, context: str) -> None:
    if context not in known.known:
        names = ", ".join(known.known) or "none"
        raise _wrong(path, f"it has no context {context}, it names: {names}", "see grey-ctl context list")


def _wrong(path: str | Path, message: str, hint: str) -> ConfigError:
    return ConfigError([Fault(str(path), 0, "", message, hint)])
