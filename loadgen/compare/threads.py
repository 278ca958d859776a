"""The threads of a server during an attack: what a server that has one for each client pays with."""

from pathlib import Path
from typing import Final

import trio

EVERY_SECONDS: Final = 0.2


class ThreadWatch:
    """Counts them five times a second."""

    def __init__(self, pid: int) -> None:
        self.most = 0
        self._pid = pid

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self.most = max(self.most, threads(self._pid))
            await trio.sleep(EVERY_SECONDS)


def threads(pid: int) -> int:
    """Threads of a process; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Threads:")), 0)
