# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cluster to ask next. Pure: the time (seconds of any steady clock) and the dice are handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from grey.client.model import ClusterEndpoint

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from grey.client.errors import Primary

DOWN_SECONDS = 5.0
"""How long a cluster that could not be reached is asked after all others."""

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


class Step(msgspec.Struct, frozen=True):
    """Ask this cluster, after a pause of so many seconds."""

    cluster: ClusterEndpoint
    pause_seconds: float


class Router:
    """What a client remembers between calls: the primary it was told of, and who could not be reached."""

    def __init__(
        self, clusters: Sequence[ClusterEndpoint], *, prefer: str | None = None, primary: str | None = None
    ) -> None:
        """``prefer`` is the nearest cluster, ``primary`` the one to try first for writes, until one is told.

        Raises ValueError for no clusters, a name given twice, or a name that is not among them.
        """
        names = [cluster.name for cluster in clusters]
        if not names:
            raise ValueError("a client needs at least one cluster")
        if len(set(names)) != len(names):
            raise ValueError(f"the names of clusters must differ: {', '.join(names)}")
        for what, name in (("prefer", prefer), ("primary", primary)):
            if name is not None and name not in names:
                raise ValueError(f"{what} names {name}, the clusters are {', '.join(names)}")
        self._clusters = {cluster.name: cluster for cluster in clusters}
        self._order = sorted(clusters, key=lambda cluster: (cluster.name != prefer, -cluster.weight))
        self._primary = primary
        self._down_until: dict[str, float] = {}

    @property
    def primary(self) -> str | None:
        """The cluster that is held to be the primary."""
        return self._primary

    def names(self) -> list[str]:
        """Return the names of all clusters."""
        return list(self._clusters)

    def cluster(self, name: str) -> ClusterEndpoint | None:
        """Return the cluster of this name."""
        return self._clusters.get(name)

    def nearest(self, now: float, first: str | None = None) -> list[ClusterEndpoint]:
        """Return all clusters in the order in which a read that may be old should ask them."""
        return sorted(self._order, key=lambda cluster: (self._is_down(cluster, now), cluster.name != first))

    def primary_first(self, now: float) -> list[ClusterEndpoint]:
        """Return all clusters in the order in which a write should ask them."""
        return sorted(
            self._order, key=lambda cluster: (self._is_down(cluster, now), cluster.name != self._primary)
        )

    def learn(self, primary: Primary) -> ClusterEndpoint:
        """Remember who is said to be the primary; return where it answers.

        The endpoint this client was given counts: it may be reached by another way than others reach it.
        """
        self._primary = primary.cluster
        known = self._clusters.get(primary.cluster)
        return known or ClusterEndpoint(primary.cluster, primary.endpoint)

    def reached(self, cluster: ClusterEndpoint) -> None:
        """Remember that a cluster answered."""
        self._down_until.pop(cluster.name, None)

    def unreachable(self, cluster: ClusterEndpoint, now: float) -> None:
        """Remember that a cluster could not be reached."""
        self._down_until[cluster.name] = now + DOWN_SECONDS

    def _is_down(self, cluster: ClusterEndpoint, now: float) -> bool:
        return self._down_until.get(cluster.name, now) > now


class Route:
    """The way of one call: rounds over all clusters, with a pause before each round but the first.

    A cluster that another one names as the primary is asked next, once in a round: clusters that point at
    each other cannot keep a call running in circles.
    """

    def __init__(
        self,
        router: Router,
        *,
        to_primary: bool,
        dice: random.Random,
        only: ClusterEndpoint | None = None,
        first: str | None = None,
    ) -> None:
        """``only`` binds the call to one cluster; ``first`` is asked before the others, unless it is down."""
        self._router = router
        self._to_primary = to_primary
        self._only = only
        self._first = first
        self._dice = dice
        self._rounds = 0
        self._asked: set[str] = set()
        self._hopeless: set[str] = set()
        self._told: ClusterEndpoint | None = None
        self._wait_seconds = 0.0

    def next(self, now: float) -> Step | None:
        """Return whom to ask; None when nobody is left whom it makes sense to ask again."""
        told, self._told = self._told, None
        if told is not None and told.name not in self._asked | self._hopeless:
            return self._step(told, 0.0)
        candidates = [cluster for cluster in self._candidates(now) if cluster.name not in self._hopeless]
        if not candidates:
            return None
        fresh = next((cluster for cluster in candidates if cluster.name not in self._asked), None)
        if fresh is not None:
            return self._step(fresh, 0.0)
        self._asked.clear()
        self._rounds += 1
        return self._step(candidates[0], self._pause())

    def has_choice(self) -> bool:
        """Say whether there is more than one cluster to ask."""
        return self._only is None and len(self._router.names()) > 1

    def told(self, primary: Primary) -> None:
        """Take the word of a cluster for who is the primary."""
        cluster = self._router.learn(primary)
        if self._only is None:
            self._told = cluster

    def hopeless(self, cluster: ClusterEndpoint) -> None:
        """Ask this cluster no more in this call."""
        self._hopeless.add(cluster.name)

    def end_round(self, wait_seconds: float) -> None:
        """Ask nobody before a pause of at least so many seconds."""
        self._asked.update(self._router.names())
        self._wait_seconds = wait_seconds

    def _candidates(self, now: float) -> Iterable[ClusterEndpoint]:
        if self._only is not None:
            return (self._only,)
        if self._to_primary:
            return self._router.primary_first(now)
        return self._router.nearest(now, self._first)

    def _step(self, cluster: ClusterEndpoint, pause_seconds: float) -> Step:
        self._asked.add(cluster.name)
        return Step(cluster, pause_seconds)

    def _pause(self) -> float:
        # Full jitter between half and the whole of a doubling pause, so that clients do not come in waves.
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._rounds, 10))
        wait, self._wait_seconds = self._wait_seconds, 0.0
        return max(wait, 0.0) + longest * self._dice.uniform(0.5, 1.0)
