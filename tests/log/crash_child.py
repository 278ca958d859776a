"""The process that test_crash kills: `python -m tests.log.crash_child PATH STARTS [NUMBER COUNT]`.

One publisher for each key of STARTS (JSON) sends "0", "1", … from its value on, each with its text as key, as a client
does that retries after a missing answer. Each answer is one line on standard output.
With NUMBER and COUNT it is one of COUNT processes that share the file.
"""

import json
import os
import sys
from pathlib import Path

import trio

from chatserver.log import open_log
from chatserver.log.interface import Draft
from tests.log.support import ignore, neighbours_in
from tests.support.groups import append

ROOMS = 3


async def publish(log_path: str, starts: dict[int, int], *place: int) -> None:
    log = open_log(f"sqlite:{log_path}", neighbours_in(Path(log_path).parent, *place) if place else None)

    async def publisher(number: int, start: int) -> None:
        for message in range(start, 1_000_000):
            text = str(message)
            draft = Draft(f"room-{number % ROOMS}", f"u_{number}", "Ann", text, key=text)
            stored = await append(log, draft)
            # os.write: no part of an answer may be in a buffer of this process when it is killed.
            os.write(1, f"{number} {message} {stored.record.offset}\n".encode())

    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, ignore)
        for number, start in starts.items():
            nursery.start_soon(publisher, number, start)


def main() -> None:
    path, given, *where = sys.argv[1:]
    trio.run(publish, path, {int(number): start for number, start in json.loads(given).items()}, *map(int, where))


if __name__ == "__main__":
    main()
