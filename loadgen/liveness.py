"""Whether the target still lives, asked after every attack.

Owns: the question and how often it is asked. A process that is gone is dead; so is a port that refuses every
connection. A server that is merely slow, or full for a moment, is the victims' business.
"""

from functools import partial
from typing import Final

import trio

from loadgen import target
from loadgen.procfs import Process
from loadgen.target import Target

#: A full backlog refuses for a moment.
TRIES: Final = 3
BETWEEN_SECONDS: Final = 0.5


async def cause_of_death(where: Target, server: Process | None) -> str:
    """What shows that the target is gone; empty while it lives."""
    if server is not None and not server.is_alive():
        return f"process {server.pid} is gone"
    for attempt in range(TRIES):
        if attempt:
            await trio.sleep(BETWEEN_SECONDS)
        if await trio.to_thread.run_sync(partial(target.is_open, where)):
            return ""
    return f"nothing listens at {where.address} port {where.port} any more"
