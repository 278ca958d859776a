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


#: Entries that a newly come network may have before it takes turns with the others: somebody who connects, asks, joins
#: and publishes. With 1, each request but the first would wait for a whole round.
CREDIT = 4
#: Networks that may come ahead of the next turn. With 1, somebody who comes alone would wait for others as well.
ARRIVALS = 4


class _Line(deque[Entry]):
    """The entries of one network."""

    __slots__ = ("credit",)
    credit: int  # entries that it may still have ahead of the networks that take turns


class FairQueue(Generic[Entry]):
    """Entries of many networks: those of one in their order, the networks in turns, newly come ones first.

    A network is newly come that had nothing here during a whole round of turns (the sparse flows of FQ-CoDel, RFC 8290
    section 4.2). Without that, a person who says something now and then would wait for one entry of each of the
    thousands who never stop. Nobody can stay newly come: after `CREDIT` entries a network takes turns with all others,
    and keeps its place there when it has no more. After `ARRIVALS` networks have come the turns go on by one, so that
    networks never seen before, of which an IPv6 /32 has four billion, neither stop them nor are remembered.
    """

    __slots__ = ("_active", "_came", "_fresh", "_lines", "_turns", "length")

    def __init__(self) -> None:
        self.length = 0  # entries; the same as `len`, for where a call is too dear
        self._active = 0  # networks with entries
        self._came = 0  # networks that have come since the last turn
        self._lines: dict[str, _Line[Entry]] = {}
        self._fresh: deque[str] = deque()  # networks with entries and credit
        self._turns: deque[str] = deque()  # all that have had an entry, some of them with nothing left

    def push(self, network: str, entry: Entry) -> None:
        """Behind the network's others."""
        self.length += 1
        line = self._lines.get(network)
        if line is None:
            line = self._lines[network] = _Line()
            line.credit = CREDIT
        if not line:
            self._active += 1
            if line.credit:
                self._fresh.append(network)
        line.append(entry)

    def pop(self) -> Entry:
        """The next entry of the network whose turn it is. Raises IndexError when there is none."""
        lines, turns = self._lines, self._turns
        if self._fresh and (self._came < ARRIVALS or not self._is_turn()):
            network = self._fresh.popleft()
            line = lines[network]
            if line.credit == CREDIT:
                turns.append(network)
                self._came += 1
            line.credit -= 1
            entry = line.popleft()
            if line and line.credit:
                self._fresh.append(network)
        else:
            network = turns.popleft()
            while not (line := lines[network]):
                del lines[network]
                network = turns.popleft()
            entry = line.popleft()
            turns.append(network)
            self._came = 0
        if not line:
            self._active -= 1
        self.length -= 1
        if not self.length:  # nobody waits: the round is over
            lines.clear()
            turns.clear()
            self._came = 0
        return entry

    def _is_turn(self) -> bool:
        """After arrivals: whether one that takes turns is there, unless it is the turn of one that has credit left."""
        self._came = 0
        lines, turns = self._lines, self._turns
        while turns and not lines[turns[0]]:
            del lines[turns.popleft()]
        return bool(turns) and not lines[turns[0]].credit

    def has_share(self, network: str) -> bool:
        """Whether it has as many entries as the mean of those that have some, and is not the only one."""
        line = self._lines.get(network)
        return line is not None and len(line) * self._active >= self.length > len(line) > 0

    def firsts(self) -> Iterator[tuple[str, Entry]]:
        """Each network with its oldest entry."""
        return ((network, line[0]) for network, line in self._lines.items() if line)

    def pop_from(self, network: str) -> Entry:
        """The oldest entry of a network that has some, though it is not its turn."""
        if network in self._fresh:
            self._fresh.remove(network)
        else:
            self._lines[network].credit = 1
        self._fresh.appendleft(network)
        self._came = 0
        return self.pop()

    def remove(self, network: str, entry: Entry) -> None:
        """Take out an entry that is no longer wanted; it must be there. Looks through its network's others."""
        line = self._lines[network]
        line.remove(entry)
        if not line:
            self._active -= 1
            if line.credit:
                self._fresh.remove(network)
        self.length -= 1
        if not self.length:
            self._lines.clear()
            self._turns.clear()
            self._came = 0

    def __len__(self) -> int:
        return self.length


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
