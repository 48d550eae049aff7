# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.plugins.module_utils._programs import Program, written_digest
from ansible_collections.grey.distributed.plugins.module_utils._systemctl import _state
from ansible_collections.grey.distributed.plugins.module_utils._systemd_unit import (
    Service,
    instance_of,
    unit_file,
    unit_name,
)

SERVICE = Service("", "/run/grey", "grey", "grey")
GREYD = Program(
    "greyd",
    ("/opt/grey/current/bin/greyd", "run"),
    20,
    15,
    environment=(("A", "1"),),
    description="Grey node",
    after=("engine", "federation-store"),
    writable=("/var/lib/grey", "/etc/grey"),
)


def lines(service: Service = SERVICE, program: Program = GREYD) -> list[str]:
    return unit_file(service, program).content.splitlines()


def test_names() -> None:
    assert [unit_name(name) for name in ("greyd", "engine", "federation-store")] == [
        "greyd.service",
        "grey-engine.service",
        "grey-federation-store.service",
    ]


def test_what_a_unit_says() -> None:
    found = lines()
    for line in (
        "Description=Grey node",
        "After=network-online.target grey-engine.service grey-federation-store.service",
        'RequiresMountsFor="/var/lib/grey" "/etc/grey"',
        "StartLimitIntervalSec=0",
        "Type=exec",
        "User=grey",
        "Group=grey",
        'ExecStart="/opt/grey/current/bin/greyd" "run"',
        "TimeoutStopSec=15s",
        "RuntimeDirectory=grey",
        'ReadWritePaths="/var/lib/grey" "/etc/grey"',
        'Environment="GREY_INSTANCE=/"',
        'Environment="A=1"',
        "WantedBy=multi-user.target",
    ):
        assert line in found
    assert f'Environment="GREY_PROGRAM_DIGEST={written_digest(unit_file(SERVICE, GREYD))}"' in found


def test_every_part_counts_in_the_digest() -> None:
    digests = {
        written_digest(unit_file(SERVICE, program))
        for program in (
            GREYD,
            replace(GREYD, command=(*GREYD.command, "--more")),
            replace(GREYD, environment=()),
            replace(GREYD, writable=()),
            replace(GREYD, stop_seconds=1),
        )
    }
    assert len(digests) == 5


def test_words_survive_systemds_expansion() -> None:
    words = ("/bin/echo", "100%", "$HOME", 'say "yes"', "back\\slash", "")
    expected = r'ExecStart="/bin/echo" "100%%" "$$HOME" "say \"yes\"" "back\\slash" ""'
    assert expected in lines(program=replace(GREYD, command=words))


@pytest.mark.parametrize("text", ["one\ntwo", "nul\0", "tab\t"])
def test_what_would_begin_another_line_is_refused(text: str) -> None:
    for program in (
        replace(GREYD, command=("/bin/echo", text)),
        replace(GREYD, description=text),
        replace(GREYD, environment=(("A", text),)),
        replace(GREYD, writable=(text,)),
    ):
        with pytest.raises(GreyError, match="wanted a text without control characters"):
            unit_file(SERVICE, program)
    with pytest.raises(GreyError, match="wanted a text without control characters"):
        unit_file(replace(SERVICE, user=text), GREYD)


def test_whose_a_unit_is_can_be_read_back() -> None:
    for root in ("", "/srv/grey", '/srv/100% "grey"', "/srv/back\\slash"):
        service = replace(SERVICE, root=root)
        assert instance_of(unit_file(service, GREYD).content) == service.instance
    assert instance_of("[Unit]\nDescription=Somebody's own\n") is None


def test_programs_and_data_in_a_home_folder_can_be_read() -> None:
    assert "ProtectHome=yes" in lines()
    assert "ProtectHome=read-only" in lines(program=replace(GREYD, command=("/home/me/bin/greyd",)))
    assert "ProtectHome=read-only" in lines(program=replace(GREYD, writable=("/root/data",)))
    assert "ProtectHome=yes" in lines(program=replace(GREYD, writable=("/rooted/data",)))


def test_a_folder_for_sockets_elsewhere_is_made_writable() -> None:
    found = lines(replace(SERVICE, root="/srv", run_dir="/srv/run/grey"))
    assert 'ReadWritePaths="/srv/run/grey"' in found
    assert not [line for line in found if line.startswith("RuntimeDirectory")]


def test_nobody_in_particular_is_named() -> None:
    assert not [
        line for line in lines(replace(SERVICE, user="", group="")) if line.startswith(("User", "Group"))
    ]


def test_a_unit_that_systemd_knows_nothing_of() -> None:
    state = _state(
        {"Id": "x.service", "LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}
    )
    assert str(state) == "no such unit"
    assert not state.runs
