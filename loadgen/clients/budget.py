"""The memory for parts of answers, and for bytes that a server does not read.

Owns: the bound for one client and the bound for all clients of a process, so that no server fills this machine.
"""

from typing import Final

from loadgen.clients.client import Client

#: With this much unsent data the server has stopped reading.
MAX_UNSENT_BYTES: Final = 1024 * 1024

#: An answer that is larger and not yet whole counts as garbage, because its client keeps it. Pages of messages that are
#: polled have up to a few megabytes; clients that do not need a body keep none.
MAX_CLIENT_BYTES: Final = 16 * 1024 * 1024

#: For all clients of a process. Beyond it the generator is what fails, since 18,000 fair answers of 30 KB have as much.
MAX_ALL_BYTES: Final = 512 * 1024 * 1024

ALL_SPENT: Final = f"unfinished answers and unsent requests of more than {MAX_ALL_BYTES >> 20} MiB in all"


class Budget:
    def __init__(self) -> None:
        self.charged_bytes = 0
        self._charged: dict[Client, int] = {}

    def charge(self, client: Client, unsent: int) -> str:
        """Count what is kept for a client now; return why that is too much, or an empty text."""
        response = client.response
        kept = len(client.unread) + (0 if response is None else len(response.body))
        if kept > MAX_CLIENT_BYTES:
            return f"an answer of more than {MAX_CLIENT_BYTES:,} bytes"
        # A large --body is one object that all clients share until a part of it is sent: here it counts as little.
        kept += min(unsent, MAX_UNSENT_BYTES)
        self.release(client)
        if not kept:
            return ""
        self._charged[client] = kept
        self.charged_bytes += kept
        return ALL_SPENT if self.charged_bytes > MAX_ALL_BYTES else ""

    def release(self, client: Client) -> None:
        self.charged_bytes -= self._charged.pop(client, 0)
