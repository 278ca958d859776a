"""Newcomers during an attack, and the threads of the server.

Victims of `loadgen attack` are there before the attackers are: whatever they hold, a thread for instance, they keep.
Who comes later is another matter, and is looked at here. Owns: these few connections.
"""

from pathlib import Path
from typing import Final

import trio

from loadgen.compare.process import HOST, Server
from loadgen.procfs import Process

EVERY_SECONDS: Final = 0.2

#: A newcomer who has no answer by then has gone elsewhere.
PATIENCE_SECONDS: Final = 2.0

_REQUEST: Final = b"GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % HOST.encode()


class Watch:
    """Knocks, and counts, as long as at least half of a crowd is connected."""

    def __init__(self, server: Server, *, crowd: int) -> None:
        self.most_threads = 0
        self._served = 0
        self._turned_away = 0
        self._server = server
        self._process = Process(server.pid)
        self._crowd = crowd

    @property
    def served_percent(self) -> float | None:
        """Newcomers who were served; `None` if the crowd never was there."""
        came = self._served + self._turned_away
        return 100 * self._served / came if came else None

    async def run(self) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self.most_threads = max(self.most_threads, threads(self._server.pid))
                if (self._process.descriptors() or 0) >= self._crowd / 2:
                    nursery.start_soon(self._knock)
                await trio.sleep(EVERY_SECONDS)

    async def _knock(self) -> None:
        with trio.move_on_after(PATIENCE_SECONDS):
            if await self._is_served():
                self._served += 1
                return
        self._turned_away += 1

    async def _is_served(self) -> bool:
        try:
            async with await trio.open_tcp_stream(HOST, self._server.port) as stream:
                await stream.send_all(_REQUEST)
                return (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False


def threads(pid: int) -> int:
    """Threads of a process; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Threads:")), 0)
