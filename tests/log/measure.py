"""What one durable message costs: `python -m tests.log.measure [URL]`. Not a test: figures depend on the
machine.

Each publisher submits its next message from the answer to its last, as the server's connections do. CPU is
the whole process's, so it includes the driver of this measurement (about 1 µs a message) and both threads.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from chatserver.log import open_log
from chatserver.log.interface import Draft, Log, LogError, Record, Stored

TEXT = "hello there, this is a chat message of the usual length: about a hundred and twenty bytes, all of it plain."


async def measure(log: Log, *, publishers: int, messages: int, keyed: bool) -> str:
    finished = trio.Event()
    waits: list[float] = []
    sent = answered = 0

    def news(records: Sequence[Record]) -> None:
        """A hub would fan out here."""

    def publish() -> None:
        nonlocal sent
        sent += 1
        draft = Draft("lobby", "u_abcdefgh", "Ann Example", TEXT, f"key-{sent}" if keyed else None)
        began = time.perf_counter()

        def done(outcome: Stored | LogError) -> None:
            nonlocal answered
            assert isinstance(outcome, Stored), outcome
            waits.append(time.perf_counter() - began)
            answered += 1
            if sent < messages:
                publish()
            elif answered == messages:
                finished.set()

        log.submit(draft, done)

    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, news)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(publishers):
            publish()
        await finished.wait()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        nursery.cancel_scope.cancel()
    waits.sort()
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    kind = "with keys" if keyed else "no keys"
    return (
        f"{publishers:5} publishers, {kind:9}: {messages / wall:9,.0f}/s  "
        f"CPU {cpu / messages * 1e6:6.1f} µs a message  p50 {p50 * 1e3:.2f} ms  p99 {p99 * 1e3:.2f} ms"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:{Path(folder) / 'chat.db'}"
        print(url.partition(":")[0])
        for keyed in (False, True):
            for publishers, messages in ((1, 3_000), (10, 20_000), (100, 100_000), (1_000, 200_000)):
                run = partial(measure, open_log(url), publishers=publishers, messages=messages, keyed=keyed)
                print(" ", trio.run(run))


if __name__ == "__main__":
    main()
