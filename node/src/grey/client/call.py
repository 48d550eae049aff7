# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call: follow the primary, repeat, keep the deadline, know what is unknown."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from grey.client import answers
from grey.client.errors import Attempt, GreyError, NotPrimary, OutcomeUnknown, Primary, TooStale, Unavailable
from grey.client.model import ClusterEndpoint
from grey.client.route import Route, Router
from grey.client.transport import Answer, Request, SendFailed, Transport

if TYPE_CHECKING:
    import random

_KEPT_ATTEMPTS = 20

_NOTHING_DONE = frozenset({"not_primary", "fenced", "too_stale", "unavailable", "overloaded"})
"""Refusals that may be over soon; each says that this request was not carried out."""

_LEAST_SECONDS = 0.5
"""A repetition is begun only with this much time left, or a quarter of the whole: cut off right after it was sent,
it would turn a clean refusal into a doubt."""

_CHECK = "check with grey-ctl federation status that greyd runs there and can be reached from here"


class Plan(msgspec.Struct, frozen=True):
    """What a call wants. ``write_id`` is the request id of a write, None for a read.

    ``to_primary``: only the primary can serve it. ``only``: no other cluster may be asked.
    ``first``: the cluster to ask before the others, if that is not down.
    """

    request: Request
    what: str
    to_primary: bool
    timeout_seconds: float
    write_id: str | None = None
    only: ClusterEndpoint | None = None
    first: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """The answer that a call ended with: a success, or ``not_found`` (status 404)."""

    cluster: str
    answer: Answer


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

    async def run(self) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._plan.timeout_seconds
        last_start = deadline
        while True:
            step = self._route.next(loop.time())
            if step is None:
                raise self._failure("nobody is left to ask")
            if loop.time() + step.pause_seconds >= last_start:
                raise self._failure(f"not done within {self._plan.timeout_seconds:g} s")
            await asyncio.sleep(step.pause_seconds)
            last_start = deadline - min(_LEAST_SECONDS, self._plan.timeout_seconds / 4)
            reply = await self._ask(step.cluster, min(self._attempt_seconds, deadline - loop.time()))
            if reply is not None:
                return reply

    async def _ask(self, cluster: ClusterEndpoint, timeout_seconds: float) -> Reply | None:
        try:
            answer = await self._transport.send(
                cluster.endpoint, self._plan.request, timeout_seconds=timeout_seconds
            )
        except SendFailed as error:
            self._note(cluster, str(error))
            if not error.broken:
                self._router.unreachable(cluster, asyncio.get_running_loop().time())
            self._maybe_done |= error.sent
            self._newest[cluster.name] = None
            if error.lasting:
                self._route.hopeless(cluster)
            return None
        self._router.reached(cluster)
        if 200 <= answer.status < 300:
            if self._plan.to_primary:
                self._router.learn(Primary(cluster.name, cluster.endpoint))
            return Reply(cluster.name, answer)
        return self._refused(cluster, answer)

    def _refused(self, cluster: ClusterEndpoint, answer: Answer) -> Reply | None:
        problem = answers.problem(answer)
        if problem.code == "not_found" and self._plan.write_id is None:
            return Reply(cluster.name, answer)
        error = problem.exception(cluster.name)
        self._note(cluster, f"{problem.code or problem.status}: {problem.message}")
        if problem.code in _NOTHING_DONE:
            if self._plan.only is not None and isinstance(error, NotPrimary | TooStale):
                raise self._known(error)
            self._newest[cluster.name] = error
            self._move_on(answer, error)
            return None
        if problem.code == "outcome_unknown" or (answer.status >= 500 and problem.code != "disk_full"):
            # A fault, or a proxy that speaks for a cluster: a write may have been carried out behind it.
            self._maybe_done = True
            self._newest[cluster.name] = error
            return None
        raise self._known(error)

    def _move_on(self, answer: Answer, error: GreyError) -> None:
        if isinstance(error, NotPrimary | TooStale) and error.primary is not None:
            self._route.told(error.primary)
        elif error.code == "overloaded" and self._plan.to_primary:
            self._route.end_round(_retry_after(answer))

    def _note(self, cluster: ClusterEndpoint, outcome: str) -> None:
        self._attempts.append(Attempt(cluster.name, cluster.endpoint, outcome))

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
        newest = {attempt.cluster: str(attempt) for attempt in self._attempts}
        return ", ".join(newest.values()) or "nobody was asked"


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
