"""How many share what is scarce: networks take turns, and a question that many ask at once is asked once.

Owns: the queue in which networks take turns, and the questions under way. May not: know what is queued or asked, or
what a network is.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Generic, TypeVar

import trio

Entry = TypeVar("Entry")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class FairQueue(Generic[Entry]):
    """Entries of many networks: those of one in their order, the networks in turns."""

    __slots__ = ("_length", "_lines", "_turns")

    def __init__(self) -> None:
        self._length = 0
        self._lines: dict[str, deque[Entry]] = {}
        self._turns: deque[str] = deque()  # each network that has a line, once

    def push(self, network: str, entry: Entry) -> None:
        """Behind the network's others."""
        self._length += 1
        line = self._lines.get(network)
        if line is None:
            self._lines[network] = deque((entry,))
            self._turns.append(network)
        else:
            line.append(entry)

    def pop(self) -> Entry:
        """The next entry of the network whose turn it is. Raises IndexError when there is none."""
        network = self._turns.popleft()
        self._length -= 1
        line = self._lines[network]
        entry = line.popleft()
        if line:
            self._turns.append(network)
        else:
            del self._lines[network]
        return entry

    def has_share(self, network: str) -> bool:
        """Whether it has as many entries as the mean of those that have some, and is not the only one."""
        line = self._lines.get(network)
        return line is not None and len(line) * len(self._lines) >= self._length > len(line)

    def firsts(self) -> Iterator[tuple[str, Entry]]:
        """Each network with its oldest entry."""
        return ((network, line[0]) for network, line in self._lines.items())

    def pop_from(self, network: str) -> Entry:
        """The oldest entry of a network that has some, though it is not its turn."""
        self._turns.remove(network)
        self._turns.appendleft(network)
        return self.pop()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def __len__(self) -> int:
        return self._length


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
