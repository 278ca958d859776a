"""Fair between networks: five hundred peers of one address are one voice.

Owns: the queue in which networks take turns. May not: know what is queued, or what a network is.
"""

from collections import deque
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")


class FairQueue(Generic[Entry]):
    """Entries of many networks: those of one in their order, the networks in turns."""

    __slots__ = ("_lines", "_turns")

    def __init__(self) -> None:
        self._lines: dict[str, deque[Any]] = {}
        self._turns: deque[deque[Any]] = deque()

    def push(self, network: str, entry: Entry) -> None:
        """Behind the network's others."""
        line = self._lines.get(network)
        if line is None:
            # The network's name is the line's first entry: it is needed to forget the line when it is empty.
            self._lines[network] = line = deque((network, entry))
            self._turns.append(line)
        else:
            line.append(entry)

    def pop(self) -> Entry:
        """The next entry of the network whose turn it is. Raises IndexError when there is none."""
        line = self._turns.popleft()
        network = line.popleft()
        entry: Entry = line.popleft()
        if line:
            line.appendleft(network)
            self._turns.append(line)
        else:
            del self._lines[network]
        return entry

    def __bool__(self) -> bool:
        return bool(self._turns)

    def __len__(self) -> int:
        return sum(map(len, self._turns)) - len(self._turns)
