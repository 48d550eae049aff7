# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the time runs out and nobody knows whether a write happened: ask again with its request id.

$ python3 unknown_outcome.py ctl.yaml
the outcome is unknown
it had been carried out: True
"""

import sys

from grey.client import Client, OutcomeUnknown


def main(config: str) -> None:
    with Client.from_config(config) as client:
        try:
            client.put("order:7", b"paid", timeout_seconds=3)
        except OutcomeUnknown as error:
            print("the outcome is unknown")
            # The same id within ten minutes: carried out once, however often it is sent.
            done = client.put("order:7", b"paid", request_id=error.request_id, timeout_seconds=60)
            print("it had been carried out:", done.replayed)


if __name__ == "__main__":
    main(sys.argv[1])
