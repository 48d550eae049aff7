# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call: follow the primary, repeat, keep the deadline, know what is unknown."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from grey.client import answers
from grey.client.addresses import Target
from grey.client.errors import Attempt, GreyError, NotPrimary, OutcomeUnknown, Primary, TooStale, Unavailable
from grey.client.model import ClusterEndpoint
from grey.client.route import Route, Router
from grey.client.transport import Answer, Request, SendFailed, Transport

if TYPE_CHECKING:
    import random

_KEPT_ATTEMPTS = 20

_NOTHING_DONE = frozenset({"not_primary", "fenced", "too_stale", "unavailable", "overloaded", "rate_limited"})
"""Refusals that may be over soon; each says that this request was not carried out."""

_OF_ONE_NODE = frozenset(
    {"fenced", "unavailable", "overloaded", "outcome_unknown", "internal", "500", "502", "503", "504"}
)
"""What one node of a cluster may answer while another one serves; numbers are a proxy's."""

_LEAST_SECONDS = 0.5
"""A repetition is begun only with this much time left, or a quarter of the whole: cut off right after it
was sent, it would turn a clean refusal into a doubt."""

_LEAST_SECONDS_IN_DOUBT = 0.05
"""The same for a write that is in doubt already: it has nothing to lose, and may still learn its outcome."""

_CHECK = "check with grey-ctl federation status that greyd runs there and can be reached from here"


class Plan(msgspec.Struct, frozen=True):
    """What a call wants. ``write_id`` is the request id of a write, None for a read.

    ``to_primary``: only the primary can serve it. ``only``: no other cluster may be asked.
    ``first``: the cluster to ask before the others, if that is not down. ``stream``: the answer does not end.
    """

    request: Request
    what: str
    to_primary: bool
    timeout_seconds: float
    write_id: str | None = None
    only: ClusterEndpoint | None = None
    first: str | None = None
    stream: bool = False


class Reply(msgspec.Struct, frozen=True):
    """The answer that a call ended with: a success, or ``not_found`` (status 404); ``target`` gave it."""

    cluster: str
    answer: Answer
    target: Target


class Caller:
    """Carries out plans. Any number of calls may run at a time in one event loop."""

    def __init__(
        self, transport: Transport, router: Router, *, attempt_seconds: float, dice: random.Random
    ) -> None:
        """``attempt_seconds`` bounds one request of a call."""
        self._transport = transport
        self._router = router
        self._attempt_seconds = attempt_seconds
        self._dice = dice

    async def call(self, plan: Plan) -> Reply:
        """Ask clusters until one serves the plan.

        Raises the exception of an answer that will not change, OutcomeUnknown when the deadline has passed
        (or nobody is left to ask) and the write may have been carried out, else the exception of the last
        refusal, or Unavailable when nobody answered.
        """
        return await _Call(self._transport, self._router, plan, self._attempt_seconds, self._dice).run()


class _Call:
    def __init__(
        self, transport: Transport, router: Router, plan: Plan, attempt_seconds: float, dice: random.Random
    ) -> None:
        self._transport = transport
        self._router = router
        self._plan = plan
        self._attempt_seconds = attempt_seconds
        self._route = Route(router, to_primary=plan.to_primary, only=plan.only, first=plan.first, dice=dice)
        self._attempts: deque[Attempt] = deque(maxlen=_KEPT_ATTEMPTS)
        self._newest: dict[str, GreyError | None] = {}
        self._maybe_done = False
        self._asked = False
        self._deadline = 0.0

    async def run(self) -> Reply:
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._plan.timeout_seconds
        while True:
            step = self._route.next(loop.time())
            if step is None:
                raise self._failure("nobody is left to ask")
            in_time = self._in_time(step.pause_seconds)
            if in_time:
                await asyncio.sleep(step.pause_seconds)
                in_time = self._in_time()  # again: a busy machine sleeps longer than told
            if not in_time:
                raise self._failure(f"not done within {self._plan.timeout_seconds:g} s")
            reply = await self._ask(step.cluster)
            if reply is not None:
                return reply

    def _in_time(self, pause_seconds: float = 0.0) -> bool:
        """Say whether a request may begin after a pause: the first one always, a repetition if it can end."""
        least = 0.0
        if self._asked:
            in_doubt = self._maybe_done and self._plan.write_id is not None
            least = _LEAST_SECONDS_IN_DOUBT if in_doubt else _LEAST_SECONDS
            least = min(least, self._plan.timeout_seconds / 4)
        return asyncio.get_running_loop().time() + pause_seconds < self._deadline - least

    async def _ask(self, cluster: ClusterEndpoint) -> Reply | None:
        """Ask one node of a cluster after the other, until one says what holds for the whole cluster."""
        targets = await self._nodes(cluster)
        lasting = bool(targets)
        for number, target in enumerate(targets):
            if not self._in_time():
                return None
            others = len(targets) - number - 1
            where = cluster.endpoint if len(targets) == 1 else f"{cluster.endpoint} at {target.address}"
            try:
                answer = await self._send(target, self._attempt_limit(others))
            except SendFailed as error:
                self._gone(cluster, where, error, last=not others)
                lasting &= error.lasting
                continue
            lasting = False
            self._router.reached(cluster)
            code = self._judge(cluster, where, answer)
            if code is None:
                return Reply(cluster.name, answer, target)
            if code not in _OF_ONE_NODE:
                return None
            if others:
                self._transport.bad(target)
        if lasting:
            self._route.hopeless(cluster)
        return None

    async def _nodes(self, cluster: ClusterEndpoint) -> list[Target]:
        left = self._deadline - asyncio.get_running_loop().time()
        try:
            return await self._transport.targets(cluster.endpoint, timeout_seconds=left)
        except SendFailed as error:
            self._gone(cluster, cluster.endpoint, error, last=True)
            if error.lasting:
                self._route.hopeless(cluster)
            return []

    def _attempt_limit(self, others: int) -> float:
        """Return the seconds that one request may take: one that hangs must leave time to ask another.

        A slow primary is not left for clusters that could only point back at it.
        """
        left = self._deadline - asyncio.get_running_loop().time()
        if others or (self._route.has_choice() and not self._plan.to_primary):
            left /= 2
        return min(self._attempt_seconds, left)

    async def _send(self, target: Target, timeout_seconds: float) -> Answer:
        self._asked = True
        request, stream = self._plan.request, self._plan.stream
        try:
            return await self._transport.send(target, request, timeout_seconds=timeout_seconds, stream=stream)
        except SendFailed as error:
            if not (error.broken and error.reused and self._in_time()):
                raise
            # The node closed a kept connection just when it was used again: that says nothing about the node.
            self._maybe_done = True
            left = min(timeout_seconds, self._deadline - asyncio.get_running_loop().time())
            return await self._transport.send(target, request, timeout_seconds=left, stream=stream)

    def _gone(self, cluster: ClusterEndpoint, where: str, error: SendFailed, *, last: bool) -> None:
        """Note that a node gave no answer; ``last``: it was the last one of its cluster."""
        self._attempts.append(Attempt(cluster.name, where, str(error)))
        self._maybe_done |= error.sent
        self._newest[cluster.name] = None
        if last and not error.broken:
            self._router.unreachable(cluster, asyncio.get_running_loop().time())
            self._transport.all_bad(cluster.endpoint)

    def _judge(self, cluster: ClusterEndpoint, where: str, answer: Answer) -> str | None:
        """Return None for what ends the call well, else the code of a refusal after which others are asked.

        Raises the exception of a refusal that is final.
        """
        if 200 <= answer.status < 300:
            if self._plan.to_primary:
                self._router.learn(Primary(cluster.name, cluster.endpoint))
            return None
        problem = answers.problem(answer)
        if problem.code == "not_found" and self._plan.write_id is None:
            return None
        error = problem.exception(cluster.name)
        code = problem.code or str(problem.status)
        self._attempts.append(Attempt(cluster.name, where, f"{code}: {problem.message}"))
        if code in _NOTHING_DONE:
            if self._plan.only is not None and isinstance(error, NotPrimary | TooStale):
                raise self._known(error)
            self._newest[cluster.name] = error
            self._move_on(answer, error)
        elif code == "outcome_unknown" or (answer.status >= 500 and code != "disk_full"):
            # A fault, or a proxy that speaks for a cluster: a write may have been carried out behind it.
            self._maybe_done = True
            self._newest[cluster.name] = error
        else:
            raise self._known(error)
        return code

    def _move_on(self, answer: Answer, error: GreyError) -> None:
        if isinstance(error, NotPrimary | TooStale) and error.primary is not None:
            self._route.told(error.primary)
        elif error.code == "rate_limited" or (error.code == "overloaded" and self._plan.to_primary):
            self._route.end_round(_retry_after(answer))

    def _known(self, error: GreyError) -> GreyError:
        """Return what this refusal means for the call, since earlier requests may have been carried out."""
        if self._maybe_done and self._plan.write_id is not None and error.code != "request_id_reused":
            return self._unknown(f"{error.cluster} refused a repetition: {error.message}")
        error.attempts = tuple(self._attempts)
        return error

    def _failure(self, why: str) -> GreyError:
        if self._maybe_done and self._plan.write_id is not None:
            return self._unknown(why)
        # Who would serve it but cannot says most, then who was not reached, then who only points elsewhere.
        refusals = [error for error in self._newest.values() if error is not None]
        telling = [error for error in refusals if not isinstance(error, NotPrimary)]
        if telling or (refusals and None not in self._newest.values()):
            error = (telling or refusals)[0]
            error.attempts = tuple(self._attempts)
            return error
        message = f"{self._plan.what}: {why}: {self._outcomes()}"
        return Unavailable(message, hint=_CHECK, attempts=tuple(self._attempts))

    def _unknown(self, why: str) -> OutcomeUnknown:
        assert self._plan.write_id is not None
        return OutcomeUnknown(
            f"{self._plan.what} may or may not have happened: {why}: {self._outcomes()}",
            request_id=self._plan.write_id,
            attempts=tuple(self._attempts),
        )

    def _outcomes(self) -> str:
        newest = {(attempt.cluster, attempt.endpoint): str(attempt) for attempt in self._attempts}
        return ", ".join(newest.values()) or "nobody was asked"


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
