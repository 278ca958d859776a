"""Newcomers during an attack, and the threads of the server.

Victims of an attack are there before the attackers are: whatever they hold, a thread for instance, they keep. Who comes
later is another matter, and is looked at here. Owns: these few connections, each a WebSocket handshake.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import trio

from loadgen import wire
from loadgen.compare.process import HOST, Server
from loadgen.report import Sample
from loadgen.timers import now

EVERY_SECONDS: Final = 0.2

#: A newcomer who has no answer by then has gone elsewhere.
PATIENCE_SECONDS: Final = 2.0


class Watch:
    """Knocks five times a second, from before an attack until after it."""

    def __init__(self, server: Server, path: str) -> None:
        self.most_threads = 0
        self._server = server
        self._request = wire.upgrade_request(path, f"{HOST}:{server.port}")
        self._begun = now()
        self._knocks: list[tuple[float, bool]] = []  # when, and whether it was opened

    async def run(self) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self.most_threads = max(self.most_threads, threads(self._server.pid))
                nursery.start_soon(self._knock)
                await trio.sleep(EVERY_SECONDS)

    def served_percent(self, timeline: Iterable[Sample]) -> float | None:
        """Of those who came during the attack, as the run's timeline has it; `None` if nobody did."""
        moments = [sample.seconds for sample in timeline if sample.phase == "attack"]
        if not moments:
            return None
        served = [opened for when, opened in self._knocks if moments[0] <= when <= moments[-1]]
        return 100 * sum(served) / len(served) if served else None

    async def _knock(self) -> None:
        when, opened = now() - self._begun, False
        with trio.move_on_after(PATIENCE_SECONDS):
            opened = await self._is_served()
        self._knocks.append((when, opened))

    async def _is_served(self) -> bool:
        try:
            async with await trio.open_tcp_stream(HOST, self._server.port) as stream:
                await stream.send_all(self._request)
                return (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
        except (OSError, trio.BrokenResourceError):
            return False


def threads(pid: int) -> int:
    """Threads of a process; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Threads:")), 0)
