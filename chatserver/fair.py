"""How many share what is scarce: networks take turns, and a question that many ask at once is asked once.

Owns: the queue in which networks take turns, and the questions under way. May not: know what is queued or asked, or
what a network is.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

Entry = TypeVar("Entry")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class FairQueue(Generic[Entry]):
    """Entries of many networks: those of one in their order, the networks in turns."""

    __slots__ = ("_lines", "_turns")

    def __init__(self) -> None:
        self._lines: dict[str, deque[Entry]] = {}
        self._turns: deque[str] = deque()  # each network that has a line, once

    def push(self, network: str, entry: Entry) -> None:
        """Behind the network's others."""
        line = self._lines.get(network)
        if line is None:
            self._lines[network] = deque((entry,))
            self._turns.append(network)
        else:
            line.append(entry)

    def pop(self) -> Entry:
        """The next entry of the network whose turn it is. Raises IndexError when there is none."""
        network = self._turns.popleft()
        line = self._lines[network]
        entry = line.popleft()
        if line:
            self._turns.append(network)
        else:
            del self._lines[network]
        return entry

    def __bool__(self) -> bool:
        return bool(self._turns)

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))


class _Flight(Generic[Value]):
    __slots__ = ("error", "landed", "value")

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.value: Value | None = None
        self.error: Exception | None = None


class SingleFlight(Generic[Key, Value]):
    """`get` runs the first question; who asks the same meanwhile gets its answer or error, who asks later asks anew."""

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight[Value]] = {}

    async def get(self, key: Key, ask: Callable[[], Awaitable[Value]]) -> Value:
        """The answer. If the first asker is cancelled, the next one asks: that was about the other's time."""
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.value is not None:
                return flight.value
        flight = self._flights[key] = _Flight()
        try:
            flight.value = await ask()
        except Exception as error:
            flight.error = error
            raise
        else:
            return flight.value
        finally:
            del self._flights[key]
            flight.landed.set()

    def __len__(self) -> int:
        return len(self._flights)
