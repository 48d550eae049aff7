# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the interfaces know of their node. The daemon makes one and keeps it true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from grey.serve.errors import Primary

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.config.model import Federation
    from grey.federation.interface import ReplicationView, RoleView

State = Literal["starting", "serving", "refused", "stopping"]


class NodeView:
    """The node's name, role and condition, read by all interfaces."""

    def __init__(
        self, federation: Federation, *, cluster: str, node: str, role: RoleView, replication: ReplicationView
    ) -> None:
        self.federation = federation
        self.cluster = cluster
        self.node = node
        self.role = role
        self.replication = replication
        self.state: State = "starting"
        self.problems: list[Callable[[], str | None]] = []
        """Who to ask what is wrong at the moment; shown to operators."""
        self.engine_problem: Callable[[], str | None] = lambda: None
        """Says why the engine cannot be asked, None while it can."""
        self.writes_refused: Callable[[], str | None] = lambda: None
        """Says why the engine takes no writes though it answers, None while it takes them."""
        self.reads_from_memory: Callable[[], bool] = lambda: False
        """Whether eventual reads need no engine."""
        self.shown_lag: Callable[[], float | None] = replication.lag_seconds
        """How old what an eventual read shows on a replica is at most: memory may be behind the engine."""

    def holds_role(self) -> bool:
        """Whether this cluster is the primary by the newest record seen, confirmed in time or not."""
        holder = self.role.holder()
        return holder is not None and holder.cluster == self.cluster

    def role_name(self) -> Literal["primary", "replica", "unknown"]:
        """Return the role of this cluster by the newest record seen."""
        if self.role.holder() is None:
            return "unknown"
        return "primary" if self.holds_role() else "replica"

    def primary(self) -> Primary | None:
        """Return where the primary answers, None when nobody is known to be."""
        holder = self.role.holder()
        cluster = None if holder is None else self.federation.cluster(holder.cluster)
        return None if cluster is None else Primary(cluster.name, str(cluster.endpoint))

    def lag_seconds(self) -> float | None:
        """Return the age of the data at most; 0 on the primary, None when it is unknown."""
        return 0.0 if self.holds_role() else self.replication.lag_seconds()

    def problem(self) -> str | None:
        """Return all that is wrong, in one line."""
        return "; ".join(problem for ask in self.problems if (problem := ask())) or None

    def not_ready(self) -> str | None:
        """Return why this node serves no reads of a consistent state, None when it does."""
        return "the node is stopping" if self.state == "stopping" else self.cannot_serve()

    def cannot_serve(self) -> str | None:
        """Return why requests are refused; a node that stops still answers what comes meanwhile."""
        if self.state == "starting":
            return "the node is starting"
        if self.state == "refused":
            return self.problem() or "the data cannot be read"
        problem = self.engine_problem()
        if problem is not None and not self.reads_from_memory():
            return problem
        if not self.holds_role() and not self.replication.consistent():
            return "a full copy from the primary is under way"
        return None

    def not_writable(self) -> str | None:
        """Return why no write of a client would be taken here, None when one would."""
        if (reason := self.not_ready() or self.engine_problem()) is not None:
            return reason
        if self.role.is_primary():
            return self.writes_refused()
        if self.holds_role():
            return (
                self.writes_refused()
                or "this cluster holds the primary role but could not confirm it in time"
            )
        primary = self.primary()
        return f"the primary is {primary.cluster}" if primary else "no primary is known"
