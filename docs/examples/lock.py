# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock that its holder's death frees: put if absent, with a time to live.

The position of the lock only grows: a service that gets it with each request can refuse what an older holder
sends late. Only who still has the lock, at that very position, can prolong or give it up.

$ python3 lock.py ctl.yaml
first has it: True
second has it: False
prolonged: True
given up: True
second has it: True
the first one's old position is refused: True
"""

import sys

from grey.client import Client, ConditionFailed
from grey.record.position import Position

TTL_SECONDS = 30.0


def take(client: Client, name: str, owner: str) -> Position | None:
    """Return the position of the lock, None when somebody else has it."""
    try:
        return client.put(name, owner.encode(), if_absent=True, ttl=TTL_SECONDS).position
    except ConditionFailed:
        return None


def prolong(client: Client, name: str, owner: str, held: Position) -> Position | None:
    """Return the new position of a lock that is still held, None when it was lost."""
    try:
        return client.put(name, owner.encode(), if_position=held, ttl=TTL_SECONDS).position
    except ConditionFailed:
        return None


def give_up(client: Client, name: str, held: Position) -> bool:
    """Say whether the lock was still held."""
    try:
        return client.delete(name, if_position=held).existed
    except ConditionFailed:
        return False


def main(config: str) -> None:
    with Client.from_config(config) as client:
        held = take(client, "lock:report", "first")
        print("first has it:", held is not None)
        print("second has it:", take(client, "lock:report", "second") is not None)
        if held is None:
            return
        newer = prolong(client, "lock:report", "first", held)
        print("prolonged:", newer is not None and newer > held)
        print("given up:", newer is not None and give_up(client, "lock:report", newer))
        print("second has it:", take(client, "lock:report", "second") is not None)
        print("the first one's old position is refused:", not give_up(client, "lock:report", held))


if __name__ == "__main__":
    main(sys.argv[1])
