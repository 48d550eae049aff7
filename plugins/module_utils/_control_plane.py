# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the control plane for the live roles with the standard library alone, in bounded time.

A controller need not have the node's programs. Whoever answers must prove by its certificate the name of the
cluster that was asked, so a wrong address can delay an answer but never misdirect it.
"""

from __future__ import annotations

import http.client
import json
import queue
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STATUSES = ("primary", "replica", "copying", "refused", "offline", "unknown")
_PATH = "/v1/federation/status"
_MOST_BYTES = 4 * 1024 * 1024
_AT_ONCE = 16


@dataclass(frozen=True)
class Endpoint:
    """Where a control plane answers; ``identity`` is the DNS name that its certificate must carry."""

    identity: str
    host: str
    port: int

    def __str__(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.identity} at {shown}:{self.port}"


@dataclass(frozen=True)
class Tls:
    """PEM files: the operator's certificate, its key, and the authorities that are trusted."""

    cert_file: str
    key_file: str
    ca_file: str


@dataclass(frozen=True)
class Live:
    """The roles as the control plane knows them.

    ``clusters`` has the status of each cluster and whether it is online; ``asked_at``: seconds since 1970.
    """

    federation: str
    epoch: int
    primary: str
    answered_by: str
    asked_at: int
    clusters: Mapping[str, tuple[str, bool]]

    def plain(self) -> dict[str, Any]:
        """Return what a cache can keep; ``restored`` reads it back."""
        clusters = {name: list(state) for name, state in self.clusters.items()}
        return {**self.__dict__, "clusters": clusters}


@dataclass(frozen=True)
class Silence:
    """Nobody gave an answer that counts. ``reasons`` says for each that was asked why not."""

    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.reasons) or "there was nobody to ask"


def restored(plain: Any, federation: str) -> Live | None:
    """Read what ``Live.plain`` made; None when it is not that, or of another federation."""
    try:
        clusters = {str(name): (str(word), bool(up)) for name, (word, up) in plain["clusters"].items()}
        kept = Live(
            federation=str(plain["federation"]),
            epoch=int(plain["epoch"]),
            primary=str(plain["primary"]),
            answered_by=str(plain["answered_by"]),
            asked_at=int(plain["asked_at"]),
            clusters=clusters,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return kept if kept.federation == federation else None


def context(tls: Tls) -> ssl.SSLContext:
    """Return the operator's TLS 1.3 context. Fails with the file that cannot be used; never prompts."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.hostname_checks_common_name = False
    try:
        made.load_verify_locations(tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise GreyError(
            f"{tls.ca_file}: wanted the authorities of the federation in PEM, found: {_said(error)}"
        ) from error
    try:
        made.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    except (OSError, ValueError, ssl.SSLError) as error:
        raise GreyError(
            f"{tls.cert_file}, {tls.key_file}: wanted a certificate and its key in PEM, without a password, "
            f"found: {_said(error)}"
        ) from error
    return made


def ask(
    endpoints: Sequence[Endpoint],
    tls: ssl.SSLContext,
    names: Mapping[str, Sequence[str]],
    *,
    federation: str,
    timeout_seconds: float,
) -> Live | Silence:
    """Ask all endpoints side by side; return the first answer that counts, after at most ``timeout_seconds``.

    An answer counts when it is of this federation, a majority of the voters is reachable from there and there
    is a primary: a node that is cut off only remembers what was.
    """
    deadline = time.monotonic() + timeout_seconds
    waiting: queue.SimpleQueue[Endpoint] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[Endpoint, Live | str]] = queue.SimpleQueue()
    places = [place for endpoint in endpoints for place in _places(endpoint, names)]
    for place in places:
        waiting.put(place)

    def work() -> None:
        while time.monotonic() < deadline:
            try:
                place = waiting.get_nowait()
            except queue.Empty:
                return
            answers.put((place, _ask_one(place, tls, federation, deadline)))

    for number in range(min(_AT_ONCE, len(places))):
        # Not joined: a resolver that hangs must not hold the answer back, nor the end of the program.
        threading.Thread(target=work, name=f"grey-ask-{number}", daemon=True).start()
    reasons = {place: f"{place}: no answer within {timeout_seconds:g} s" for place in places}
    for _number in places:
        try:
            place, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(answer, Live):
            return answer
        reasons[place] = f"{place}: {answer}"
    return Silence(tuple(dict.fromkeys(reasons.values())))


def _places(endpoint: Endpoint, names: Mapping[str, Sequence[str]]) -> list[Endpoint]:
    known = names.get(endpoint.host.rstrip(".").lower())
    return [Endpoint(endpoint.identity, address, endpoint.port) for address in known] if known else [endpoint]


class _Connection(http.client.HTTPSConnection):
    """Connects to an address and wants the certificate of a name; every wait ends at the deadline."""

    def __init__(self, place: Endpoint, tls: ssl.SSLContext, deadline: float) -> None:
        super().__init__(place.host, place.port, context=tls)
        self._place = place
        self._tls = tls
        self._deadline = deadline

    def connect(self) -> None:
        """Connect and shake hands."""
        plain = socket.create_connection((self._place.host, self._place.port), timeout=self._left())
        try:
            plain.settimeout(self._left())
            self.sock = self._tls.wrap_socket(plain, server_hostname=self._place.identity)
        except BaseException:
            plain.close()
            raise
        self.sock.settimeout(self._left())

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time was over")
        return left


def _ask_one(place: Endpoint, tls: ssl.SSLContext, federation: str, deadline: float) -> Live | str:
    connection = _Connection(place, tls, deadline)
    asked_at = int(time.time())
    try:
        connection.request("GET", _PATH, headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        return _said(error)
    finally:
        connection.close()
    try:
        document = json.loads(body)
    except ValueError:
        return f"wanted the status in JSON, found status {response.status} and {len(body)} other bytes"
    if response.status != 200:
        return _refusal(document, response.status)
    return read(document, federation, asked_at)


def read(document: Any, federation: str, asked_at: int) -> Live | str:
    """Read a status document (docs/reference/api.md); return why it does not count, when it does not."""
    try:
        voters = document["voters"]
        total, reachable = int(voters["total"]), int(voters["reachable"])
        found = {
            str(each["name"]): (_word(each["status"]), bool(each["online"])) for each in document["clusters"]
        }
        epoch, primary = document["epoch"], document["primary"]
        name, answered_by = str(document["federation"]), str(document["answered_by"])
    except (KeyError, TypeError, ValueError) as error:
        return f"wanted the status document, found one without {error}"
    if name != federation:
        return (
            f"wanted the federation {federation}, found {name}; check the federation file and the addresses"
        )
    if reachable * 2 <= total:
        return f"it reaches {reachable} of {total} voters, so its roles may be outdated"
    if not isinstance(primary, str) or not isinstance(epoch, int):
        return "there has been no primary yet"
    return Live(name, epoch, primary, answered_by, asked_at, found)


def _word(status: Any) -> str:
    return str(status) if status in STATUSES else "unknown"


def _refusal(document: Any, status: int) -> str:
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return f"status {status}"
    return f"{error.get('code', status)}: {error.get('message', 'no reason given')}"


def _said(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted for that name: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error)
    return str(text) or type(error).__name__


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
