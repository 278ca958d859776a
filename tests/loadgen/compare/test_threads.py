"""How many threads a server had at most."""

import os
import threading

import trio

from loadgen.compare.threads import ThreadWatch, threads


async def test_the_most_threads_are_kept() -> None:
    watch, done = ThreadWatch(os.getpid()), threading.Event()
    others = [threading.Thread(target=done.wait) for _ in range(5)]
    for other in others:
        other.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        with trio.fail_after(30):
            while watch.most < 6:  # noqa: ASYNC110  what is waited for has no event
                await trio.sleep(0.01)
        done.set()
        nursery.cancel_scope.cancel()
    for other in others:
        other.join()
    assert watch.most >= 6


def test_who_is_gone_has_none() -> None:
    assert threads(2**22 + 1) == 0
