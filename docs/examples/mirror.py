# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a copy of some keys in memory: list once, then follow every change.

The watch goes on by itself when its connection breaks or its cluster goes away. It cannot go on when the
changes that it missed are not kept any more (Compacted), or when a failover lost what it had seen (Diverged):
then the listing is made anew.

$ python3 mirror.py ctl.yaml
listed 3
put sensor:1 b'22.0'
delete sensor:2
put sensor:9 b'19.5'
now {'sensor:0': b'21.0', 'sensor:1': b'22.0', 'sensor:9': b'19.5'}
"""

import asyncio
import sys

from grey.client import AsyncClient, Compacted, Diverged, Event
from grey.record.position import Position


class Mirror:
    """A copy of the keys with a prefix; ``listed`` is set when it is complete for the first time."""

    def __init__(self, client: AsyncClient, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.copy: dict[str, bytes] = {}
        self.listed = asyncio.Event()

    async def run_until(self, last: str) -> None:
        """Keep the copy up to date until a change of the key ``last``."""
        while True:
            try:
                async with self.client.watch(self.prefix, await self._list()) as watch:
                    async for event in watch:
                        self._take(event)
                        if event.key.decode() == last:
                            return
            except (Compacted, Diverged):
                continue

    async def _list(self) -> Position:
        """List anew; return the position that the listing shows, the same on all its pages."""
        found: dict[str, bytes] = {}
        async for page in self.client.pages(self.prefix):
            position = page.position
            found |= {item.key.decode(): item.value or b"" for item in page.items}
        self.copy = found
        self.listed.set()
        print("listed", len(found))
        return position

    def _take(self, event: Event) -> None:
        key = event.key.decode()
        if event.kind == "put":
            self.copy[key] = event.value or b""
            print("put", key, event.value)
        else:
            self.copy.pop(key, None)
            print("delete", key)


async def main(config: str) -> None:
    async with AsyncClient.from_config(config) as client:
        for number in range(3):
            await client.put(f"sensor:{number}", b"21.0")
        # Near the primary, since another cluster may not have these three yet.
        async with AsyncClient.from_config(config, prefer=client.primary) as near:
            mirror = Mirror(near, "sensor:")
            running = asyncio.create_task(mirror.run_until("sensor:9"))
            await mirror.listed.wait()
            await client.put("sensor:1", b"22.0")
            await client.delete("sensor:2")
            await client.put("other", b"not watched")
            await client.put("sensor:9", b"19.5")
            await running
        print("now", dict(sorted(mirror.copy.items())))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
