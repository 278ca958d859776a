"""Fair sharing: networks take turns, equal calls made at the same time become one, and no step of the loop is long.

Owns: the fair queue, the calls in flight, the length of a step, work of many steps. May not: know what is queued or
called, or what a network is.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from time import perf_counter
from typing import Generic, TypeVar

import trio

#: Seconds after which work on items of unknown cost continues in another step of the loop.
STEP = 0.0003

Entry = TypeVar("Entry")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


async def in_steps(work: Iterable[Value]) -> list[Value]:
    """List an iterator's values; other tasks have a turn after each STEP of it, and at the end of a longer one."""
    found = list[Value]()
    until, is_long = perf_counter() + STEP, False
    for value in work:
        found.append(value)
        if perf_counter() >= until:
            await trio.lowlevel.checkpoint()
            until, is_long = perf_counter() + STEP, True
    if is_long:
        await trio.lowlevel.checkpoint()
    return found


def do_step(work: Iterator[None]) -> bool:
    """Do a STEP of some work. Returns whether there may be more of it."""
    until = perf_counter() + STEP
    return any(perf_counter() >= until for _ in work)


class LongWork:
    """Work of many steps, of which one run at a time is under way. `submit` queues a step, for an item `owner`."""

    def __init__(
        self, work: Callable[[], Iterator[None]], submit: Callable[[Callable[[object], bool], object], object],
        owner: object,
    ) -> None:  # fmt: skip
        self._work = work
        self._submit = submit
        self._owner = owner
        self._left: Iterator[None] | None = None  # of the run that is under way

    def begin(self) -> None:
        """Begin a run, unless one is under way."""
        if self._left is None:
            self._left = self._work()
            self._submit(self.go_on, self._owner)

    def go_on(self, _: object) -> bool:
        """Do the next step of the run. True: there are more."""
        left, self._left = self._left, None  # an exception ends this run, but does not prevent the next
        assert left is not None, "a step is queued with its run"
        if do_step(left):
            self._left = left
        return self._left is not None


#: Entries of a new network that are served before it takes turns with the others: enough to connect, send a request,
#: join and publish. With 1, each request after the first would wait for a whole round.
CREDIT = 4
#: New networks that are served between two turns of the others. With 1, a lone newcomer would wait for others as well.
ARRIVALS = 4


class _Line(deque[Entry]):
    """The entries of one network."""

    __slots__ = ("credit",)
    credit: int  # entries that may still be served ahead of the networks that take turns


class FairQueue(Generic[Entry]):
    """A queue that is first in, first out within a network, and round robin among networks, new ones first.

    A network is new if it had no entry during a whole round (the sparse flows of FQ-CoDel, RFC 8290 section 4.2).
    Without that, a person who writes now and then would wait for one entry of each of thousands that never stop. No
    network stays new: after `CREDIT` entries it takes turns with all others, and it keeps its place in the round when
    it has no more entries. After `ARRIVALS` new networks one of the others has its turn: an IPv6 /32 has four billion
    networks, which would otherwise stop the round for ever, and be remembered.
    """

    __slots__ = ("_came", "_fresh", "_lines", "_turns", "active", "length")

    def __init__(self) -> None:
        self.length = 0  # entries, as `len` gives them; an attribute, for hot paths
        self.active = 0  # networks with entries
        self._came = 0  # new networks since the last turn
        self._lines: dict[Hashable, _Line[Entry]] = {}
        self._fresh: deque[Hashable] = deque()  # networks with entries and credit
        self._turns: deque[Hashable] = deque()  # all networks served in this round, also those without entries now

    def push(self, network: Hashable, entry: Entry) -> None:
        self.length += 1
        line = self._lines.get(network)
        if line is None:
            line = self._lines[network] = _Line()
            line.credit = CREDIT
        if not line:
            self.active += 1
            if line.credit:
                self._fresh.append(network)
        line.append(entry)

    def put_back(self, network: Hashable, entry: Entry) -> None:
        """Make an entry that was taken the first of its network again."""
        self.push(network, entry)
        self._lines[network].rotate()

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
            self.active -= 1
        self.length -= 1
        if not self.length:  # the end of the round
            lines.clear()
            turns.clear()
        return entry

    def take(self, most: int) -> list[Entry]:
        """The next entries, up to `most`."""
        return [self.pop() for _ in range(min(most, self.length))]

    def _is_turn(self) -> bool:
        """Whether a network without credit is next in the round; called when ARRIVALS new networks were served."""
        self._came = 0
        lines, turns = self._lines, self._turns
        while turns and not lines[turns[0]]:
            del lines[turns.popleft()]
        return bool(turns) and not lines[turns[0]].credit

    def has_share(self, network: Hashable) -> bool:
        """Whether a network has at least the mean number of entries of networks with entries, but not all entries."""
        line = self._lines.get(network)
        return line is not None and len(line) * self.active >= self.length > len(line) > 0

    def firsts(self) -> Iterator[tuple[Hashable, Entry]]:
        """Each network with its oldest entry."""
        return ((network, line[0]) for network, line in self._lines.items() if line)

    def remove(self, network: Hashable, entry: Entry) -> None:
        """Remove an entry that is in the queue. Searches the entries of its network."""
        line = self._lines[network]
        line.remove(entry)
        if not line:
            self.active -= 1
            if line.credit:
                self._fresh.remove(network)
            if line.credit == CREDIT:  # the line has no turn at which it would be dropped
                del self._lines[network]
        self.length -= 1
        if not self.length:
            self._lines.clear()
            self._turns.clear()

    def __len__(self) -> int:
        return self.length


class _Flight(Generic[Value]):
    """A run of `ask`. Once it has landed it has a value or an error, or else its caller was cancelled."""

    __slots__ = ("error", "is_cancelled", "landed", "value")
    value: Value

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.error: Exception | None = None
        self.is_cancelled = False


class SingleFlight(Generic[Key, Value]):
    """Concurrent calls of `get` with one key share one run of `ask` and its outcome; a later call runs it again."""

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight[Value]] = {}

    async def get(self, key: Key, ask: Callable[[], Awaitable[Value]]) -> Value:
        """The result of `ask`. If its caller is cancelled, a caller that waits runs its own."""
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if not flight.is_cancelled:
                return flight.value
        flight = self._flights[key] = _Flight()
        try:
            flight.value = await ask()
        except Exception as error:
            flight.error = error
            raise
        except BaseException:
            flight.is_cancelled = True
            raise
        else:
            return flight.value
        finally:
            del self._flights[key]
            flight.landed.set()

    def __len__(self) -> int:
        return len(self._flights)
