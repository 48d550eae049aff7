# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls and watches against clusters that fail at random, in virtual time, the same for the same seed."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, cast

from client.scripted import Asked, Lowest, Nodes, refusal
from support.virtual_time import run_virtual

from grey.client.call import Plan
from grey.client.errors import GreyError, OutcomeUnknown
from grey.client.transport import Answer, Request, SendFailed, Stream
from grey.client.watch import Watch, WatchPlan
from grey.record.position import Position

if TYPE_CHECKING:
    from grey.client.addresses import Target

WRITES = range(600)
WATCHES = range(150)
STREAM = {"Content-Type": "text/event-stream"}


class Primary:
    """Carries a write out once per request id, now, late or never, whatever it answers."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.carried_out = 0
        self.late: set[asyncio.Task[None]] = set()

    def carry_out(self) -> Answer:
        """There is one write, so one id."""
        self.carried_out = 1
        return Answer(200, {}, b"{}")

    async def __call__(self, asked: Asked) -> Answer:
        await asyncio.sleep(self.dice.choice([0, 0.001, 0.1, 0.6]))
        if self.dice.random() < 0.5:
            return await self.fail()
        match self.dice.randrange(6):
            case 0 | 1:
                return self.carry_out()
            case 2:
                return refusal(503, self.dice.choice(["fenced", "unavailable", "overloaded"]), "1")
            case 3:
                return refusal(421, "not_primary")
            case 4 if self.dice.random() < 0.2:
                return refusal(412, "condition_failed")
        return refusal(429, "rate_limited", str(self.dice.randrange(3)))

    async def fail(self) -> Answer:
        match self.dice.randrange(6):
            case 0:
                raise SendFailed("connection refused", sent=False)
            case 1:
                self.carry_out()
            case 2:
                self.late.add(asyncio.create_task(self.carry_out_late(self.dice.uniform(0, 8))))
                await asyncio.Event().wait()
            case 3:
                self.carry_out()
                return refusal(504, "outcome_unknown")
            case 4:
                return refusal(500, "internal")
        raise SendFailed("broke", sent=True, broken=True, reused=self.dice.random() < 0.5)

    async def carry_out_late(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.carry_out()


def check_a_write(seed: int) -> None:
    """Acknowledged: carried out. Refused: never, not even later. Unknown: anything. In time, always."""
    dice = random.Random(seed)
    primary = Primary(dice)
    nodes = Nodes(
        {
            "east": dict.fromkeys([f"10.0.0.{number}" for number in range(dice.randint(1, 3))], primary),
            "west": {"10.1.0.1": primary},
        }
    )
    limit = dice.uniform(0.2, 8)
    plan = Plan(
        Request("PUT", "/v1/kv/k"), what="put k", to_primary=True, timeout_seconds=limit, write_id="w-1"
    )

    async def main() -> None:
        acknowledged: bool | None
        try:
            await nodes.caller(primary="east", attempt_seconds=dice.uniform(0.1, 5)).call(plan)
            acknowledged = True
        except OutcomeUnknown:
            acknowledged = None
        except GreyError:
            acknowledged = False
        assert asyncio.get_running_loop().time() <= limit + 1e-6
        assert not (acknowledged is True and not primary.carried_out), "acknowledged, but not carried out"
        await asyncio.gather(*primary.late)
        assert not (acknowledged is False and primary.carried_out), "refused, but carried out"

    run_virtual(main())


class History:
    """Records that come with time; each cluster shows them a while later."""

    def __init__(self, dice: random.Random) -> None:
        self.times = sorted(dice.uniform(0, 20) for _ in range(40))
        self.matches = [dice.random() < 0.7 for _ in self.times]

    def shown(self, lag: float) -> int:
        now = asyncio.get_running_loop().time()
        return sum(time + lag <= now for time in self.times)

    def event(self, sequence: int) -> bytes:
        at = f"1.{sequence}"
        if not self.matches[sequence - 1]:
            return f"event: progress\nid: {at}\ndata: {{}}\n\n".encode()
        change = {"key": "k", "position": at, "stamp": "1.1", "origin": "east"}
        return f"event: put\nid: {at}\ndata: {json.dumps(change)}\n\n".encode()


class Told:
    """A stream that gives what is shown in pieces of any size, says more than it should, and breaks."""

    def __init__(self, history: History, lag: float, after: int, dice: random.Random) -> None:
        self.history = history
        self.lag = lag
        self.told = after
        self.dice = dice
        self.waiting = b""
        self.closed = False

    async def read(self, timeout_seconds: float) -> bytes:
        dice = self.dice
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not self.waiting:
            shown = self.history.shown(self.lag)
            self.waiting = b"".join(self.history.event(each) for each in range(self.told + 1, shown + 1))
            self.told = max(self.told, shown)
            if dice.random() < 0.1 or asyncio.get_running_loop().time() > deadline:
                raise SendFailed("broke", sent=True, broken=True)
            await asyncio.sleep(0.05)
        cut = dice.randint(1, len(self.waiting))
        piece, self.waiting = self.waiting[:cut], self.waiting[cut:]
        if dice.random() < 0.1:
            self.waiting = b""
            self.told = 1_000_000  # silent from here on
        return piece

    def close(self) -> None:
        self.closed = True


class Tellers(Nodes):
    """Clusters that serve the same watch with different lags."""

    def __init__(self, history: History, dice: random.Random) -> None:
        super().__init__({name: {name: _nobody} for name in ("east", "west", "edge")})
        self.history = history
        self.dice = dice
        self.lags = {"east": 0.0, "west": 0.2, "edge": 3.0}
        self.streams: list[Told] = []

    async def send(
        self, target: Target, request: Request, *, timeout_seconds: float, stream: bool = False
    ) -> Answer:
        assert stream
        dice = self.dice
        if dice.random() < 0.3:
            raise SendFailed("connection refused", sent=False)
        _, _, after = request.path.partition("&after=1.")
        lag = self.lags[target.host]
        told = int(after) if after else self.history.shown(lag)
        if told > self.history.shown(lag):
            return refusal(503, "too_stale")
        # A node may tell again what was told: what it has it knows by transactions, not by records.
        opened = Told(self.history, lag, max(0, told - dice.randrange(3)) if after else told, dice)
        if not after:
            opened.waiting = f"event: progress\nid: 1.{told}\n\n".encode()
        self.streams.append(opened)
        return Answer(200, STREAM, b"", cast("Stream", opened))


async def _nobody(asked: Asked) -> Answer:
    raise AssertionError


def check_a_watch(seed: int) -> None:
    """Every matching change behind the start is told once, in order; nothing is left open."""
    dice = random.Random(seed)
    history, after = History(dice), dice.choice([None, Position(1, 0)])
    tellers = Tellers(history, dice)
    plan = WatchPlan(b"", values=True, timeout_seconds=60, silence_seconds=1, only=None)

    async def main() -> None:
        await asyncio.sleep(dice.uniform(0, 3))
        watch = Watch(tellers.caller(), plan, after, dice=Lowest(), shun=tellers.bad)
        await watch.connect()
        assert watch.position is not None
        start = watch.position.sequence
        wanted = [each for each in range(start + 1, 41) if history.matches[each - 1]]
        found: list[int] = []
        async with asyncio.timeout(300):
            while len(found) < len(wanted):
                try:
                    async with asyncio.timeout(dice.choice([0.01, 1, 100])):
                        found.append((await anext(watch)).position.sequence)
                except TimeoutError:
                    continue  # giving up a wait loses nothing
        assert found == wanted
        await watch.aclose()
        assert all(stream.closed for stream in tellers.streams)

    try:
        run_virtual(main())
    except TimeoutError:
        raise AssertionError("changes are missing") from None
    except GreyError as error:
        raise AssertionError(f"a watch failed that could have gone on: {error}") from error


def test_writes_end_in_time_and_say_what_is_so() -> None:
    for seed in WRITES:
        check_a_write(seed)


def test_watches_tell_every_change_once() -> None:
    for seed in WATCHES:
        check_a_watch(seed)
