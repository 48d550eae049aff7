# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl context``: which federation, with which certificate."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from grey.cli import complete
from grey.cli.errors import WRONG, CliError, wrong_file
from grey.cli.output import output_options
from grey.cli.target import file_options
from grey.cli.teach import Command, Exit, Group, exits
from grey.config import ctl, ctl_edit, values
from grey.config import federation as federation_file
from grey.config.errors import BadValue, ConfigError
from grey.config.model import TlsFiles
from grey.link.tls import TlsError, check_time, inspect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grey.cli.output import Output

_EXITS = exits(Exit.WRONG)
_path = click.Path(exists=True, dir_okay=False, path_type=Path)
_ADD = """\
grey-ctl context add audit --federation-file federation.yaml \\
      --cert audit.pem --key audit-key.pem --ca ca.pem"""
_name = click.argument("name", shell_complete=complete.contexts, help="The context's name.")


@click.group(
    cls=Group,
    examples=[
        ("what there is, and which one is in use", "grey-ctl context list"),
        ("use another one from now on", "grey-ctl context use global-grey"),
        ("use another one once", "grey-ctl --context audit kv list"),
    ],
)
def context() -> None:
    """Say which federation is meant, and the certificate for it.

    A context is a federation file, a certificate and a name map. Every federation of grey-ctl's file is a
    context of its name; more are added under names of their own.
    """


@context.command(
    name="list",
    cls=Command,
    examples=[
        ("all contexts", "grey-ctl context list"),
        ("the name of the one in use", "grey-ctl context list -o json --query '[?current].name'"),
    ],
    exits=_EXITS,
    then=["Make one the default with grey-ctl context use NAME."],
)
@file_options
@output_options("table")
def list_contexts(path: Path, out: Output) -> None:
    """List the contexts."""
    known = _load(path)
    plain = [_plain(known, name) for name in known.known]
    if not out.own:
        out.show(plain)
        return
    rows = [
        ("*" if each["current"] else "", each["name"], each["federation"] or "?", each["certificate"] or "?")
        for each in plain
    ]
    out.screen.table(("in use", "name", "federation", "certificate"), rows)


@context.command(
    cls=Command,
    examples=[
        ("the context in use", "grey-ctl context show"),
        ("where its certificate is", "grey-ctl context show audit -o json --query tls.cert_file"),
    ],
    exits=_EXITS,
    then=["What is wrong with it stands in the line problem; correct that, then ask again."],
)
@click.argument("name", required=False, shell_complete=complete.contexts, help="The context's name.")
@file_options
@output_options("table")
def show(name: str | None, path: Path, out: Output) -> None:
    """Show one context; without NAME the one in use."""
    known = _load(path)
    chosen = name or known.current or (next(iter(known.known)) if len(known.known) == 1 else None)
    if chosen is None:
        names = ", ".join(known.known) or "none"
        raise CliError(f"{path}: no context is in use, it names: {names}", "name one", code=WRONG)
    if chosen not in known.known:
        raise _unknown(path, known, chosen)
    entry = known.known[chosen]
    out.show(
        {
            **_plain(known, chosen),
            "federation_file": entry.federation_file,
            "tls": {
                "cert_file": entry.tls.cert_file,
                "key_file": entry.tls.key_file,
                "ca_file": entry.tls.ca_file,
            },
            "names": {host: list(addresses) for host, addresses in entry.names.items()},
        }
    )


@context.command(
    cls=Command,
    examples=[("from now on", "grey-ctl context use global-grey")],
    exits=_EXITS,
    then=["See that it answers: grey-ctl federation status."],
)
@_name
@file_options
def use(name: str, path: Path) -> None:
    """Make NAME the context that counts when none is named."""
    try:
        ctl_edit.use(path, name)
    except ConfigError as error:
        raise wrong_file(error) from None
    click.echo(f"{name} is in use")


@context.command(
    cls=Command,
    examples=[
        ("another certificate for a federation", _ADD),
        (
            "what deploy.yml wrote on the controller",
            "grey-ctl context add prod --from .demo/controller/ctl.yaml",
        ),
    ],
    exits=_EXITS,
    then=["Make it the default with grey-ctl context use NAME."],
)
@click.argument("name", help="The new context's name: a-z, 0-9 and -.")
@click.option("--from", "source", type=_path, metavar="FILE", help="Take it from another file of grey-ctl.")
@click.option(
    "--source-context", metavar="NAME", help="Which context of that file; may be left out if it has one."
)
@click.option("--federation-file", type=_path, metavar="FILE", help="The federation file.")
@click.option("--cert", type=_path, metavar="FILE", help="The operator's certificate (PEM).")
@click.option("--key", type=_path, metavar="FILE", help="The certificate's private key (PEM).")
@click.option("--ca", type=_path, metavar="FILE", help="The authorities that are trusted (PEM).")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST=ADDRESS",
    help="Where a host is, asked before the resolver; again for more.",
)
@click.option("--replace", is_flag=True, help="Change a context of this name.")
@click.option("--use", "use_it", is_flag=True, help="Use it from now on.")
@file_options
def add(name: str, path: Path, *, replace: bool, use_it: bool, **given: Any) -> None:
    """Add the context NAME; grey-ctl's file is made when there is none.

    The certificate is checked first: that its files fit together and its time is not over.
    """
    try:
        values.label(name)
        entry = _entry(**given)
        federation = federation_file.load(entry.federation_file)
        check_time(entry.tls, inspect(entry.tls), time.time())
        ctl_edit.add(path, name, entry, replace=replace)
        if use_it:
            ctl_edit.use(path, name)
    except ConfigError as error:
        raise wrong_file(error) from None
    except (BadValue, TlsError) as error:
        raise CliError(str(error), code=WRONG) from None
    said = ", and is in use" if use_it else ""
    click.echo(f"{name} reaches the federation {federation.name}{said}")


@context.command(
    cls=Command,
    examples=[("one that is no longer needed", "grey-ctl context remove audit")],
    exits=_EXITS,
)
@_name
@file_options
def remove(name: str, path: Path) -> None:
    """Remove the context NAME from grey-ctl's file; no other file is touched."""
    try:
        after = ctl_edit.remove(path, name)
    except ConfigError as error:
        raise wrong_file(error) from None
    left = ", ".join(after.known) or "none"
    click.echo(f"{name} is removed; left: {left}")


def _entry(
    source: Path | None,
    source_context: str | None,
    federation_file: Path | None,
    cert: Path | None,
    key: Path | None,
    ca: Path | None,
    names: Iterable[str],
) -> ctl.CtlFederation:
    own = {"--federation-file": federation_file, "--cert": cert, "--key": key, "--ca": ca}
    missing = [option for option, value in own.items() if value is None]
    if source is not None:
        if len(missing) < len(own):
            raise CliError("--from brings file and certificate along", "leave the others out", code=WRONG)
        found = ctl.load(source)
        chosen = source_context or found.current or next(iter(found.known), "")
        if source_context is None and found.current is None and len(found.known) != 1:
            message = f"{source} names these contexts: {', '.join(found.known) or 'none'}"
            raise CliError(message, "choose one with --source-context", code=WRONG)
        if chosen not in found.known:
            raise _unknown(source, found, chosen)
        entry = found.known[chosen]
        return ctl.CtlFederation(entry.federation_file, entry.tls, {**entry.names, **_names(names)})
    if missing or federation_file is None or cert is None or key is None or ca is None:
        raise CliError(f"a context needs {', '.join(missing)}", "give them, or --from FILE", code=WRONG)
    tls = TlsFiles(str(cert.absolute()), str(key.absolute()), str(ca.absolute()))
    return ctl.CtlFederation(str(federation_file.absolute()), tls, _names(names))


def _names(given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for each in given:
        host, _, address = each.partition("=")
        try:
            found = str(ipaddress.ip_address(address))
            host = values.host(host)
        except ValueError as error:
            raise CliError(f"--name {each}: {error}", "write HOST=ADDRESS", code=WRONG) from None
        names[host] = (*names.get(host, ()), found)
    return names


def _load(path: Path) -> ctl.CtlFile:
    try:
        return ctl.load(path)
    except ConfigError as error:
        raise wrong_file(error) from None


def _plain(known: ctl.CtlFile, name: str) -> dict[str, Any]:
    entry = known.known[name]
    federation = certificate = expires = problem = None
    try:
        federation = federation_file.load(entry.federation_file).name
        leaf = inspect(entry.tls)
        certificate = leaf.common_name or ", ".join(leaf.dns)
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(leaf.not_after))
        check_time(entry.tls, leaf, time.time())
    except ConfigError as error:
        problem = str(error.faults[0])
    except TlsError as error:
        problem = str(error)
    return {
        "name": name,
        "current": name == known.current,
        "federation": federation,
        "certificate": certificate,
        "expires": expires,
        "problem": problem,
    }


def _unknown(path: Path, known: ctl.CtlFile, name: str) -> CliError:
    names = ", ".join(known.known) or "none"
    return CliError(
        f"{path}: it has no context {name}, it names: {names}", "see grey-ctl context list", code=WRONG
    )
