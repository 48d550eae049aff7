# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose per read how fresh it must be.

$ python3 consistency.py ctl.yaml
strong b'v1'
bounded b'v1'
eventual b'v1'
at once: 3 reads
"""

import asyncio
import sys

from grey.client import AsyncClient, Consistency


async def main(config: str) -> None:
    async with AsyncClient.from_config(config) as client:
        await client.put("analytics:daily", b"v1")

        # From the primary: every write that was acknowledged before is there.
        result = await client.get("analytics:daily").consistency(Consistency.STRONG)
        print("strong", result and result.value)

        # From the nearest cluster that is at most 5 seconds behind, else from the primary.
        result = await client.get("analytics:daily").consistency(Consistency.bounded(5))
        while result is None:  # written less than 5 seconds ago: it may still be on its way
            result = await client.get("analytics:daily", consistency=Consistency.bounded(5))
        print("bounded", result.value)

        # From the nearest cluster, whatever it has; said in the other way.
        result = await client.get("analytics:daily", consistency=Consistency.EVENTUAL)
        print("eventual", result and result.value)

        reads = [client.get("analytics:daily") for _again in range(3)]
        print("at once:", len(await asyncio.gather(*reads)), "reads")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
