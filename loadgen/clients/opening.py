"""The order in which clients open: so many at once, and so many a second.

Owns: the clients that wait for their turn, and those between connect and held. May not: connect one.

Clients that come for the first time come as fast as the server lets them in. Those that come back are not held back,
as users' clients are not: a request that is due would wait here, and its wait would count as the server's.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from loadgen.clients.client import Client
from loadgen.net.answers import UNANSWERED
from loadgen.net.timers import NEVER

#: First handshakes outstanding at once. Enough to keep a server busy across round trips, and below the listen backlog
#: of 100 that several servers have, beyond which the kernel drops SYNs and the client waits a second.
OPENING_MAX: Final = 64

#: Connections begun in one turn (about 30 us each), so that they delay no message of the schedule by a millisecond.
OPEN_BATCH: Final = 16

#: A client that is not established within this time has failed. Longer than four SYN retransmits.
OPEN_DEADLINE_SECONDS: Final = 30.0

#: How far behind its connect rate the engine may be and still catch up; more would end in a burst.
CATCH_UP_SECONDS: Final = 0.02


class Opening:
    def __init__(self, connect_rate: float) -> None:
        self._interval = 1 / connect_rate if connect_rate else 0.0
        self._next_open = 0.0
        self._queue: deque[Client] = deque()
        self._returning: deque[Client] = deque()
        self._under_way: dict[Client, bool] = {}  # between connect and held, oldest first; whether for the first time
        self._first_under_way = 0

    def add(self, clients: Iterable[Client]) -> None:
        for client in clients:
            (self._returning if client.has_come else self._queue).append(client)

    def forget_closed_cohorts(self) -> None:
        for queue in (self._queue, self._returning):
            kept = [client for client in queue if not client.cohort.over]
            queue.clear()
            queue.extend(kept)

    def due(self, moment: float) -> Iterator[Client]:
        """Yield the clients that may connect now; each is under way from then on."""
        for _ in range(OPEN_BATCH):
            queue = self._next_queue
            if not queue or self._next_open > moment:
                return
            self._next_open = max(self._next_open + self._interval, moment - CATCH_UP_SECONDS)
            client = queue.popleft()
            self._under_way[client] = is_first = queue is self._queue
            self._first_under_way += is_first
            yield client

    def end(self, client: Client) -> bool:
        """Count a client as held or closed, and return whether it was under way."""
        is_first = self._under_way.pop(client, None)
        self._first_under_way -= is_first or 0
        return is_first is not None

    def give_up(self, moment: float) -> None:
        """Fail the client that has been under way for longest, if that is too long."""
        if self._deadline <= moment:
            next(iter(self._under_way)).fail(f"{UNANSWERED}: not established in {OPEN_DEADLINE_SECONDS:g} s")

    @property
    def is_over(self) -> bool:
        return not self._queue and not self._returning and not self._under_way

    @property
    def next_time(self) -> float:
        """When to look again; `NEVER` if nothing is due unless a client is held, closed or added."""
        return min(self._deadline, self._next_open if self._next_queue else NEVER)

    @property
    def _next_queue(self) -> deque[Client]:
        has_room = self._first_under_way < OPENING_MAX
        return self._queue if self._queue and has_room else self._returning

    @property
    def _deadline(self) -> float:
        oldest = next(iter(self._under_way), None)
        return NEVER if oldest is None else oldest.born + OPEN_DEADLINE_SECONDS
