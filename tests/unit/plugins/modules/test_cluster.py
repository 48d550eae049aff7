# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of etcd groups: who begins, who joins, who is taken in and removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.tests.unit.harness import Script, fails, passes, program

WANTED = {"a1": "192.0.2.1:2390", "a2": "192.0.2.2:2390", "a3": "192.0.2.3:2390"}
GROUP = {"name": "engine-a", "token": "fleet-a", "members": WANTED}

# A greyd that keeps the members in a file beside it.
GREYD = """
import json, pathlib, sys
words = dict(zip(sys.argv[2::1], sys.argv[3::1]))
file = pathlib.Path(sys.argv[0]).with_name("members.json")
members = json.loads(file.read_text())
verb = sys.argv[2]
assert sys.argv[1] == "engine" and words["--config"] == "/etc/grey/grey.yaml"
if verb == "add":
    members.append({"name": "", "peer": words["--peer"], "learner": True, "reachable": False})
elif verb == "promote":
    next(each for each in members if each["name"] == words["--name"])["learner"] = False
elif verb == "remove":
    if len(members) == 2:
        sys.exit("engine: 1 of 2 members would be left, and that is no majority")
    members = [each for each in members if each["name"] != words["--name"]]
file.write_text(json.dumps(members))
print(json.dumps({"changed": True, "healthy": True, "members": members}))
"""


def member(name: str, **changed: Any) -> dict[str, Any]:
    return {"name": name, "peer": WANTED.get(name), "learner": False, "reachable": True, **changed}


class Fake:
    """A greyd and its members."""

    def __init__(self, folder: Path) -> None:
        self.greyd = program(folder / "greyd", GREYD)
        self.file = folder / "members.json"
        self.has(member("a1"), member("a2"))

    def has(self, *members: dict[str, Any]) -> None:
        self.file.write_text(json.dumps(members))

    def state(self) -> Any:
        return json.loads(self.file.read_text())

    def args(self, **changed: Any) -> dict[str, Any]:
        return {"greyd": self.greyd, "config": "/etc/grey/grey.yaml", "group": "engine", **changed}

    def admitted(self, **changed: Any) -> dict[str, Any]:
        return self.args(state="admitted", name="a3", members=WANTED, token="fleet-a", **changed)


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"group": "etcd"}, "value of group must be one of: engine, federation-store, got: etcd"),
        ({"state": "admitted"}, "state is admitted but all of the following are missing: name, token"),
        ({"state": "voting"}, "state is voting but all of the following are missing: name"),
        (
            {"state": "admitted", "name": "a4", "members": WANTED, "token": "fleet-a"},
            "members: wanted a4 among them, found a1, a2, a3",
        ),
    ],
)
def test_wrong_parameters(fake: Fake, wrong: dict[str, Any], message: str) -> None:
    before = fake.state()
    assert fails("grey_cluster", fake.args(**wrong)) == message
    assert fake.state() == before


def test_the_life_of_a_member(fake: Fake) -> None:
    Script("grey_cluster", fake.state, create=fake.admitted()).play()
    assert passes("grey_cluster", fake.admitted())["bootstrap"] == {
        "state": "existing",
        "token": "fleet-a",
        "members": WANTED,
    }
    # It has started: now it has a name.
    fake.has(*fake.state()[:-1], member("a3", learner=True))
    gone = {"a3": WANTED["a3"]}
    Script(
        "grey_cluster",
        fake.state,
        create=fake.args(state="voting", name="a3"),
        absent=fake.args(state="absent", members=gone),
    ).play()
    assert fake.state() == [member("a1"), member("a2")]


def test_a_member_that_is_one_already_is_left_to_greyd(fake: Fake) -> None:
    """It may have been interrupted before it was confirmed; greyd refuses one that lost its data."""
    fake.has(*map(member, WANTED))
    answer = passes("grey_cluster", fake.admitted())
    assert not answer["changed"]
    assert answer["bootstrap"]["state"] == "existing"


def test_a_member_that_answers_has_nothing_to_be_replaced(fake: Fake) -> None:
    lost = {"a1": WANTED["a1"], "a2": WANTED["a2"]}
    fake.has(member("a1"), member("a2", reachable=False), member("a3", peer=WANTED["a3"]))
    answer = passes("grey_cluster", fake.args(state="absent", members=lost, only_lost=True))
    assert answer["kept"] == ["a1"]
    assert fake.state() == [member("a1"), member("a3", peer=WANTED["a3"])]


def test_a_restart_needs_a_majority_without_the_host(fake: Fake) -> None:
    args = fake.args(state="spared", name="a1")
    fake.has(*map(member, WANTED))
    assert not passes("grey_cluster", args)["changed"]
    fake.has(member("a1"), member("a2"), member("a3", reachable=False))
    assert fails("grey_cluster", args) == (
        "engine: wanted 2 of 3 voting members to answer while a1 restarts, found a2, and no answer from a3; "
        "start them first, then run again"
    )
    # What is down already is only helped by a start, and two members never go on without one.
    fake.has(member("a1", reachable=False), member("a2"), member("a3", reachable=False))
    assert not passes("grey_cluster", args)["changed"]
    fake.has(member("a1"), member("a2"))
    assert not passes("grey_cluster", args)["changed"]


def test_a_member_that_never_started_begins_now(fake: Fake) -> None:
    fake.has(member("a1"), member("a2"), member("", peer=WANTED["a3"], reachable=False))
    assert not passes("grey_cluster", fake.admitted())["changed"]


def test_members_outside_of_the_inventory_come_first(fake: Fake) -> None:
    fake.has(member("a1"), member("x", peer="192.0.2.9:2390", reachable=False))
    assert fails("grey_cluster", fake.admitted()) == (
        "engine: wanted members of the inventory only, found x (unreachable); remove them first: "
        "scale.yml -e remove=NAME, or put them back into the inventory"
    )


def test_a_refusal_of_greyd_is_passed_on(fake: Fake) -> None:
    assert fails("grey_cluster", fake.args(state="absent", members={"a2": WANTED["a2"]})) == (
        "engine: wanted to remove a2, found exit 1: engine: 1 of 2 members would be left, and that is no "
        "majority"
    )


def says(folder: Path, answer: Any, code: int = 0) -> dict[str, Any]:
    greyd = program(folder / "greyd", f"import sys\nprint({json.dumps(answer)!r})\nsys.exit({code})\n")
    return {"greyd": greyd, "config": "/etc/grey/grey.yaml", "group": "federation-store", "wait": 5}


def test_a_member_is_confirmed_once(tmp_path: Path) -> None:
    healthy = {"healthy": True, "members": []}
    assert passes("grey_cluster", says(tmp_path, {**healthy, "changed": True}))["changed"]
    assert not passes("grey_cluster", says(tmp_path, {**healthy, "changed": False}))["changed"]


def test_check_mode_asks_no_member(tmp_path: Path) -> None:
    assert passes("grey_cluster", says(tmp_path, {}, 1), check=True)["healthy"] is None


def test_an_unhealthy_group_names_its_members(tmp_path: Path) -> None:
    members = [
        {"endpoint": "127.77.1.1:2379", "problem": "connection refused"},
        {"endpoint": "127.77.2.1:2379", "problem": None},
    ]
    assert fails(
        "grey_cluster", says(tmp_path, {"healthy": False, "changed": False, "members": members}, 1)
    ) == (
        "federation-store: wanted a healthy majority within 5 s, found 127.77.1.1:2379: connection refused; "
        "127.77.2.1:2379: healthy; look at its log on the members (one whose data is gone is refused "
        "until it is replaced: scale.yml -e replace=NAME)"
    )


def test_a_refused_state_is_passed_on(tmp_path: Path) -> None:
    message = fails("grey_cluster", says(tmp_path, "the data is gone", 3))
    assert message == 'federation-store: the state on this host was refused: "the data is gone"'


def plan(markers: dict[str, str | None], **group: Any) -> dict[str, Any]:
    return {
        "groups": [{**GROUP, **group}],
        "markers": {host: {"engine-a": state} for host, state in markers.items()},
    }


def test_a_group_that_nobody_remembers_begins_with_all_its_hosts() -> None:
    answer = passes("grey_cluster_plan", plan({"a1": None, "a2": "bootstrapping", "a3": None}))
    begins = {"state": "new", "token": "fleet-a", "members": WANTED, "heartbeat": "100ms"}
    assert answer["begins"] == {"engine-a": begins}
    assert answer["joins"] == {}
    assert not answer["changed"]


@pytest.mark.parametrize(
    ("said", "heartbeat"),
    [
        ({"a1": (0.4, None), "a2": (0.3, None)}, "100ms"),
        ({"a1": (100.2, None), "a2": (71.0, None), "a3": (None, None)}, "150ms"),
        ({"a1": (9000.0, None)}, "5000ms"),
        # What an interrupted run told one of them stands, whatever is measured now.
        ({"a1": (210.0, None), "a2": (230.0, 150)}, "150ms"),
    ],
)
def test_a_group_begins_with_a_heartbeat_of_its_longest_round_trip(
    said: dict[str, tuple[float | None, int | None]], heartbeat: str
) -> None:
    rhythms = {
        host: {"engine-a": {"round_trip_ms": trip, "heartbeat_ms": told}}
        for host, (trip, told) in said.items()
    }
    answer = passes("grey_cluster_plan", {**plan(dict.fromkeys(WANTED)), "rhythms": rhythms})
    assert answer["begins"]["engine-a"]["heartbeat"] == heartbeat
    assert answer["unmeasured"] == []
    assert "warnings" not in answer


def test_it_says_so_when_no_host_could_measure() -> None:
    silent = {"engine-a": {"round_trip_ms": None, "heartbeat_ms": None}}
    answer = passes(
        "grey_cluster_plan", {**plan(dict.fromkeys(WANTED)), "rhythms": dict.fromkeys(WANTED, silent)}
    )
    assert answer["begins"]["engine-a"]["heartbeat"] == "100ms"
    assert answer["unmeasured"] == ["engine-a"]
    # The form of a warning differs between versions of ansible-core.
    assert (
        "engine-a: wanted to measure the round trip between its hosts before it begins, found no answer at "
        "their peer ports (192.0.2.1:2390, 192.0.2.2:2390, 192.0.2.3:2390); it begins with a heartbeat of "
        "100ms. Open the ports, or set grey_engine_heartbeat_ms"
    ) in json.dumps(answer["warnings"])


def test_a_host_that_joins_gets_the_heartbeat_of_the_others(tmp_path: Path) -> None:
    said = {"heartbeat": "150ms", "healthy": True, "changed": True, "members": [member("a1"), member("a2")]}
    args = {**says(tmp_path, said), "state": "admitted", "name": "a3", "members": WANTED, "token": "fleet-a"}
    assert passes("grey_cluster", args)["bootstrap"] == {
        "state": "existing", "token": "fleet-a", "members": WANTED, "heartbeat": "150ms",
    }  # fmt: skip


def test_a_group_begins_only_when_all_its_hosts_were_asked() -> None:
    """The silent one may be the only host that the group had before it grew."""
    assert "found no answer from a2" in fails("grey_cluster_plan", plan({"a1": None, "a3": None}))


def test_a_host_without_data_joins_where_a_member_is_known() -> None:
    answer = passes("grey_cluster_plan", plan({"a3": None, "a2": "member"}))
    assert answer["begins"] == {}
    assert answer["joins"] == {"a3": {"engine-a": "a2"}}


def test_a_group_that_is_complete_needs_nothing() -> None:
    answer = passes("grey_cluster_plan", plan({"a1": "member"}, members={"a1": WANTED["a1"]}))
    assert (answer["begins"], answer["joins"]) == ({}, {})


def test_a_group_whose_members_are_silent_does_not_begin_again() -> None:
    assert fails("grey_cluster_plan", plan({"a3": None})) == (
        "nothing was started\nengine-a: wanted to know whether it exists before a3 begin it or join it, "
        "found no answer from a1, a2; run it for all hosts (without --limit) when they can be reached, or "
        "take those that are gone for good out of the inventory"
    )


def test_hosts_of_another_group_decide_nothing() -> None:
    answer = passes("grey_cluster_plan", {"groups": [GROUP], "markers": {"b1": {"engine-b": None}}})
    assert (answer["begins"], answer["joins"]) == ({}, {})
