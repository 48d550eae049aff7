# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change several keys by what they hold, all or none, without a lock: read, compute, write if unchanged.

$ python3 transfer.py ctl.yaml
alice 0, bob 500
"""

import asyncio
import sys

from grey.client import AsyncClient, ConditionFailed, Consistency, Put, Value


async def main(config: str) -> None:
    async with AsyncClient.from_config(config, timeout_seconds=60) as client:
        await client.batch([Put("account:alice", b"500"), Put("account:bob", b"0")])
        # Ten at a time: each finds its turn.
        await asyncio.gather(*(transfer(client, "account:alice", "account:bob", 50) for _each in range(10)))
        alice, bob = await read(client, "account:alice"), await read(client, "account:bob")
        print(f"alice {int(alice.value)}, bob {int(bob.value)}")


async def transfer(client: AsyncClient, source: str, target: str, amount: int) -> None:
    """Move an amount; try again when one of the two was changed in between."""
    while True:
        debit, credit = await asyncio.gather(read(client, source), read(client, target))
        changes = [
            Put(source, b"%d" % (int(debit.value) - amount), if_position=debit.position),
            Put(target, b"%d" % (int(credit.value) + amount), if_position=credit.position),
        ]
        try:
            await client.batch(changes)
        except ConditionFailed:
            continue
        return


async def read(client: AsyncClient, key: str) -> Value:
    found = await client.get(key).consistency(Consistency.STRONG)
    if found is None:
        raise SystemExit(f"there is no {key}")
    return found


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
