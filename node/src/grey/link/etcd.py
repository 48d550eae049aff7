# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One member of an etcd: its channel, over a unix socket or mutual TLS, and what can be asked of it.

Everything that needs gRPC or etcd's messages takes them from here: gRPC reads its verbosity when it is
loaded, and by default prints every failed handshake on standard error; what matters of that is part of our
own errors.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # type: ignore[import-untyped]
from aetcd import rpc  # type: ignore[import-untyped]

from grey.link.etcd_fault import MemberFault
from grey.link.tls import TlsError, check_time, inspect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grey.link.tls import TlsFiles

__all__ = ["MAX_ANSWER_BYTES", "NEEDS_LEADER", "Member", "Stubs", "grpc", "own_certificate_fault", "rpc"]

T = TypeVar("T")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest answer that is taken; gRPC refuses a larger one before it is read."""

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),
)

NEEDS_LEADER = (("hasleader", "true"),)
"""A member without a leader then says so at once, where it would let the call hang."""

_CONNECT_PREFIX = re.compile(
    r"^failed to connect to all addresses; last error: [A-Z]+: ((ipv[46]|unix):\S+: )?"
)

_REFUSED_CODES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
# Not "database space exceeded": who notices it first says so after the write was carried out.
_REFUSED_WORDS = frozenset(
    {
        "etcdserver: no leader",
        "etcdserver: too many requests",
        "etcdserver: corrupt cluster",
        "raft proposal dropped",
    }
)


class Stubs:
    """What etcd offers on one channel."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.kv = rpc.KVStub(channel)
        self.watch = rpc.WatchStub(channel)
        self.maintenance = rpc.MaintenanceStub(channel)
        self.cluster = rpc.ClusterStub(channel)


class Member:
    """The connection to one member. Certificates are read when a channel is made; new files, new channel."""

    def __init__(self, endpoint: str, tls: TlsFiles | None) -> None:
        """``endpoint`` is ``host:port``, which the member's certificate must name, or ``unix:/PATH``."""
        self.endpoint = endpoint
        self._tls = tls
        self._stubs: Stubs | None = None
        self._made_from: object = None
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(self, call: Callable[[Stubs, float], Awaitable[T]], *, timeout_seconds: float) -> T:
        """Carry out a call, which gets the stubs and the seconds that it may take; raises MemberFault.

        A channel that is not connected is first tried with a read that changes nothing, so that a member
        that cannot be reached is known not to have carried out anything.
        """
        try:
            return await self._ask(call, timeout_seconds)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise MemberFault(
                "the connection was closed", carried_out=None
            ) from None  # by close(), not by the caller

    async def _ask(self, call: Callable[[Stubs, float], Awaitable[T]], timeout_seconds: float) -> T:
        stubs = self._current()
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        if stubs.channel.get_state() is not grpc.ChannelConnectivity.READY:
            try:
                await stubs.kv.Range(
                    rpc.RangeRequest(key=b"\0", limit=1, keys_only=True, serializable=True),
                    timeout=timeout_seconds,
                )
            except grpc.aio.AioRpcError as fault:
                raise _named(fault, timeout_seconds, sent=False) from None
        left = deadline - asyncio.get_running_loop().time()
        try:
            return await call(stubs, max(left, 0.001))
        except grpc.aio.AioRpcError as fault:
            raise _named(fault, timeout_seconds, sent=True) from None

    async def close(self) -> None:
        """Close the connection, also those of older certificates."""
        stubs, self._stubs = self._stubs, None
        if stubs is not None:
            await stubs.channel.close()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _current(self) -> Stubs:
        """Return the stubs of a channel made from the files as they are now."""
        if self._tls is None:
            if self._stubs is None:
                self._stubs = Stubs(grpc.aio.insecure_channel(self.endpoint, options=_OPTIONS))
            return self._stubs
        files = (self._tls.ca_file, self._tls.key_file, self._tls.cert_file)
        try:
            signature = [(found.st_ino, found.st_mtime_ns, found.st_size) for found in map(os.stat, files)]
            if self._stubs is not None and signature == self._made_from:
                return self._stubs
            authority, key, chain = (Path(name).read_bytes() for name in files)
        except OSError as fault:
            raise MemberFault(f"{fault.filename}: {fault.strerror}", carried_out=False) from fault
        credentials = grpc.ssl_channel_credentials(authority, key, chain)
        older, self._stubs = (
            self._stubs,
            Stubs(grpc.aio.secure_channel(self.endpoint, credentials, options=_OPTIONS)),
        )
        self._made_from = signature
        if older is not None:
            task = asyncio.create_task(older.channel.close(grace=5.0))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return self._stubs


def own_certificate_fault(tls: TlsFiles, now: float) -> str | None:
    """Return what is wrong with the own certificate at ``now`` (Unix seconds), None if nothing is."""
    try:
        check_time(tls, inspect(tls), now)
    except TlsError as fault:
        return str(fault)
    return None


def _named(fault: Any, timeout_seconds: float, *, sent: bool) -> MemberFault:
    """Say what a failed call means, and whether what it asked for may have been carried out."""
    said = str(fault.details() or "")
    refused = not sent or fault.code() in _REFUSED_CODES or said in _REFUSED_WORDS
    return MemberFault(_describe(fault, timeout_seconds), carried_out=False if refused else None, said=said)


def _describe(fault: Any, timeout_seconds: float) -> str:
    """Say in our own words what gRPC and TLS report."""
    if fault.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {timeout_seconds:.1f} s"
    text = _CONNECT_PREFIX.sub("", str(fault.details() or fault.code().name))
    if "TSI_DATA_CORRUPTED" in text:  # the alert that follows a TLS 1.3 handshake without a good certificate
        return "it refuses our certificate"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("CERTIFICATE_VERIFY_FAILED: ")[2].removesuffix(": OK")
        return f"its certificate cannot be trusted here: {reason}"
    return text
