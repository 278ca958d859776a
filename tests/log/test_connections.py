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


async def test_connections_returned_together_close_one_after_the_other() -> None:
    """Of two SQLite connections that close at once, each leaves the side files to the other."""
    at_once: list[int] = []
    pool = ConnectionPool([Connection(at_once) for _ in range(3)])
    begun, go_on = threading.Semaphore(0), threading.Event()

    def query(_: Connection) -> None:
        begun.release()
        go_on.wait()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(pool.run, query)
            for _ in range(2):
                await trio.to_thread.run_sync(begun.acquire)
            pool.close()
            assert at_once == [1], "idle connections are closed at once"
            with pytest.raises(LogUnavailable, match="closed"):
                await pool.run(query)
            go_on.set()
    assert at_once == [1, 1, 1]


async def test_two_pools_of_one_file_and_its_writer_close_one_after_the_other() -> None:
    """This happens when the index searches for its backlog while the log closes."""
    at_once: list[int] = []
    begun, go_on = threading.Semaphore(0), threading.Event()
    pools = [ConnectionPool([Connection(at_once)]) for _ in range(2)]

    def query(_: Connection) -> None:
        begun.release()
        go_on.wait()

    def close_writer() -> None:
        go_on.set()
        with close_lock:
            Connection(at_once).close()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for pool in pools:
                nursery.start_soon(pool.run, query)
                await trio.to_thread.run_sync(begun.acquire)
                pool.close()
            await trio.to_thread.run_sync(close_writer)
    assert at_once == [1, 1, 1]
