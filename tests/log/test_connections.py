"""The pool of reading connections, which threads take and return."""

import threading
import time

import pytest
import trio

from chatserver.log.connections import ConnectionPool, close_lock
from chatserver.log.interface import LogUnavailable


class Connection:
    """Records how many connections are closed at the same time."""

    closing = 0

    def __init__(self, at_once: list[int]) -> None:
        self._at_once = at_once

    def close(self) -> None:
        Connection.closing += 1
        time.sleep(0.05)
        self._at_once.append(Connection.closing)
        Connection.closing -= 1


async def test_the_connections_of_a_file_close_one_after_the_other() -> None:
    """Of two SQLite connections that close at once, each leaves the side files to the other.

    Busy ones are closed when they are returned: the index may search for its backlog while the log closes.
    """
    at_once: list[int] = []
    begun, go_on = threading.Semaphore(0), threading.Event()
    pools = [ConnectionPool([Connection(at_once) for _ in range(size)]) for size in (3, 1)]

    def query(_: Connection) -> None:
        begun.release()
        go_on.wait()

    def close_writer() -> None:
        go_on.set()
        with close_lock:
            Connection(at_once).close()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for pool, busy in zip(pools, (2, 1), strict=True):
                for _ in range(busy):
                    nursery.start_soon(pool.run, query)
                    await trio.to_thread.run_sync(begun.acquire)
                pool.close()
            assert at_once == [1], "the idle connection is closed at once"
            with pytest.raises(LogUnavailable, match="closed"):
                await pools[0].run(query)
            await trio.to_thread.run_sync(close_writer)
    assert at_once == [1] * 5
