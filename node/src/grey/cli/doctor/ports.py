# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's own ports: does greyd answer there, with the certificate that is on disk, and is it well?"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from cryptography import x509

from grey.cli.doctor import listeners
from grey.cli.doctor.findings import Area
from grey.link.tls import TlsError, client_context, describe, inspect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grey.cli.doctor.findings import Finding
    from grey.config.model import Federation
    from grey.config.node import NodeFile

PORTS = Area("ports")
HEALTH = Area("health")

_START = "start greyd (systemctl start greyd, or supervisorctl), then read its log"

_WAIT = "wait while it starts or copies; if it stays, the areas below and greyd's log say why"


async def look(node: NodeFile, federation: Federation | None, timeout_seconds: float) -> list[Finding]:
    """Look at the three ports and at greyd's health pages."""
    listen = node.listen
    plain_api = federation is not None and federation.security.api_tls == "off"
    found = await asyncio.gather(
        _port(listen.address, listen.api, timeout_seconds),
        _port(listen.address, listen.control, timeout_seconds),
        _port(listen.address, listen.metrics, timeout_seconds),
    )
    findings = [
        _down(node, name, port)
        for (name, port), answer in zip(_named(node), found, strict=True)
        if answer is None
    ]
    if all(each is None for each in found):
        # One cause, one problem, unless something is in the way of the ports too.
        blocked = [finding for finding in findings if finding.next != _START]
        free = ", ".join(str(port) for _, port in _named(node))
        ports = blocked or [PORTS.ok("free", f"{listen.address}: {free} are free for greyd")]
        return [*ports, HEALTH.problem("greyd", "greyd does not run", _START)]
    for (name, port), answer in zip(_named(node), found, strict=True):
        if isinstance(answer, str):
            findings.append(PORTS.problem(name, f"{listen.address}:{port}: {answer}", _START))
    if found[0] is True:
        findings += [] if plain_api else await _served(node, "api", listen.api, timeout_seconds)
        if plain_api:
            findings.append(PORTS.ok("api", f"{listen.address}:{listen.api} answers"))
    if found[1] is True:
        findings += await _served(node, "control", listen.control, timeout_seconds)
    if found[2] is True:
        findings += await _pages(node, timeout_seconds)
    return findings


def _named(node: NodeFile) -> list[tuple[str, int]]:
    return [("api", node.listen.api), ("control", node.listen.control), ("metrics", node.listen.metrics)]


async def _port(address: str, port: int, timeout_seconds: float) -> bool | str | None:
    """True when somebody listens, None when nobody does, else what is in the way."""
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return None
    except TimeoutError:
        return f"no connection within {timeout_seconds:g} s: the program there hangs"
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)
    writer.close()
    return True


def _down(node: NodeFile, name: str, port: int) -> Finding:
    address = node.listen.address
    blocked = _bind_error(address, port)
    if blocked == errno.EADDRNOTAVAIL:
        step = "correct node.listen.address, or bring the interface up that has it"
        return PORTS.problem(name, f"{address} is no address of this host", step)
    if blocked == errno.EADDRINUSE:
        holder = listeners.holder(address, port) or "another program"
        step = "end that program, or give greyd another port"
        return PORTS.problem(name, f"{address}:{port} is held by {holder}, but nobody answers there", step)
    return PORTS.problem(name, f"nobody listens on {address}:{port}", _START)


def _bind_error(address: str, port: int) -> int | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            return error.errno
    return None


async def _served(node: NodeFile, name: str, port: int, timeout_seconds: float) -> list[Finding]:
    """Compare the certificate that is served with the file: only the served one counts for others."""
    where = f"{node.listen.address}:{port}"
    try:
        context = client_context(node.tls)
        wanted = inspect(node.tls).serial
    except TlsError:
        return [PORTS.ok(name, f"{where} answers")]  # the certificates' own findings say what is wrong there
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(
                node.listen.address, port, ssl=context, server_hostname=node.name
            )
    except (OSError, TimeoutError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else type(error).__name__
        holder = listeners.holder(node.listen.address, port)
        found = f"{where} does not speak TLS as greyd does ({str(reason).replace('_', ' ').lower()})"
        step = "see what listens there: ss -tlnp; end it, then start greyd"
        return [PORTS.problem(name, f"{found}{f'; it is {holder}' if holder else ''}", step)]
    served = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    # Not closed in the polite way of TLS: that would wait for whoever is there.
    writer.transport.abort()
    leaf = describe(x509.load_der_x509_certificate(served))
    if leaf.serial == wanted:
        return [PORTS.ok(name, f"{where} answers, with the certificate on disk")]
    found = f"{where} serves another certificate (serial {leaf.serial}) than {node.tls.cert_file} ({wanted})"
    step = "greyd takes new files by itself; if this stays, its log says why it refuses them"
    return [PORTS.warning(name, found, step)]


async def _pages(node: NodeFile, timeout_seconds: float) -> list[Finding]:
    host = f"[{node.listen.address}]" if ":" in node.listen.address else node.listen.address
    base = f"http://{host}:{node.listen.metrics}"
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    where = f"{node.listen.address}:{node.listen.metrics}"
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http:
            health = await _page(http, f"{base}/health")
            ready = await _page(http, f"{base}/ready")
            role = str(ready[1].get("role"))
            page = "/primary" if role == "primary" else "/replica"
            serving = await _page(http, f"{base}{page}")
    except TimeoutError:
        found = f"{where} takes connections but does not answer within {timeout_seconds:g} s"
        return [
            HEALTH.problem("greyd", found, "greyd hangs: look at its log and at the load, then restart it")
        ]
    except (aiohttp.ClientError, OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        holder = listeners.holder(node.listen.address, node.listen.metrics)
        found = f"{where} does not answer as greyd does ({error}){f'; it is {holder}' if holder else ''}"
        return [PORTS.problem("metrics", found, "see what listens there: ss -tlnp; end it, then start greyd")]
    return [PORTS.ok("metrics", f"{where} answers"), *_judged(node, health, ready, page, serving)]


_Page = tuple[int, dict[str, Any]]


async def _page(http: aiohttp.ClientSession, url: str) -> _Page:
    async with http.get(url, allow_redirects=False) as response:
        body = msgspec.json.decode(await response.read(), type=dict[str, Any])
        if not {"status", "node", "role"} <= body.keys():
            raise msgspec.ValidationError("its answer is no health page")
        return response.status, body


def _judged(node: NodeFile, health: _Page, ready: _Page, page: str, serving: _Page) -> Iterator[Finding]:
    name = str(health[1]["node"])
    if name != node.name:
        found = f"{name} answers on this node's ports, {node.name} was wanted"
        yield HEALTH.problem(
            "greyd", found, "end the other greyd, or correct node.listen in one of their files"
        )
        return
    epoch = serving[1].get("epoch")
    yield HEALTH.ok("greyd", f"{name} runs, role {ready[1]['role']}, epoch {epoch or 'none yet'}")
    if ready[0] != 200:
        yield HEALTH.problem("/ready", f"not ready: {_why(ready)}", _WAIT)
    else:
        yield HEALTH.ok("/ready", "serves reads of a consistent state")
    if serving[0] == 200:
        lag = serving[1].get("lag_seconds")
        said = "may write" if page == "/primary" else "follows the primary"
        yield HEALTH.ok(page, said if lag is None else f"{said}, lag {lag:.3f} s")
    elif page == "/primary":
        yield HEALTH.problem(
            page, f"may not write: {_why(serving)}", "look at the engine and at the federation store below"
        )
    else:
        yield HEALTH.warning(
            page, f"does not follow: {_why(serving)}", "look at the network below, and greyd's log"
        )
    problem = health[1].get("problem")
    if problem and problem not in {ready[1].get("problem"), serving[1].get("problem")}:
        yield HEALTH.warning("greyd", str(problem), "greyd's log says more")


def _why(page: _Page) -> str:
    return str(page[1].get("problem") or f"status {page[0]}")
