# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write, read, list and delete keys; wherever the primary is, the client finds it.

$ python3 first_steps.py ctl.yaml
written at epoch 1
b'Ada' from the primary
nobody there
user:123 b'Ada'
user:124 b'Grace'
deleted True, again False
"""

import sys

from grey.client import Client, Consistency


def main(config: str) -> None:
    with Client.from_config(config) as client:
        done = client.put("user:123", b"Ada")
        client.put("user:124", b"Grace")
        print("written at epoch", done.position.epoch)

        found = client.get("user:123", consistency=Consistency.STRONG)
        if found is not None:
            print(found.value, "from the primary" if found.cluster == client.primary else found.cluster)
        if client.get("user:456") is None:
            print("nobody there")

        # The primary's listing, since a replica may not have these two yet.
        for item in client.list("user:", cluster=client.primary):
            print(item.key.decode(), item.value)
        print(f"deleted {client.delete('user:124').existed}, again {client.delete('user:124').existed}")


if __name__ == "__main__":
    main(sys.argv[1])
