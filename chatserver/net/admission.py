"""Which peers are admitted, and which connections are evicted for them.

Owns: the caps of each network (an IPv4 address, an IPv6 /64: the smallest that one customer gets, RFC 6177) and of all
together, the counts, and the one ranking. May not: end a member, or keep anything for a connection.

Connections are evicted when a newcomer finds no place, and once a second from a high to a low water mark: the worst of
the ranking first (`Admission._rank`). Thousands of machines that send one slow head each look like as many honest slow
people: the oldest is evicted.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import nlargest

import msgspec
import structlog

from chatserver.fair import LongWork
from chatserver.net import sockets
from chatserver.net.connection import Connection, network_of, shared_address
from chatserver.net.connections import Connections
from chatserver.net.states import ENDING, ROWS, Priority, Reclaim, State
from chatserver.net.wheel import spans, ticks
from chatserver.reasons import Reason
from chatserver.settings.fields import Settings

#: Shares of all places: once a second, when more than the first are taken, places are reclaimed down to the second.
HIGH_WATER, LOW_WATER = 0.95, 0.90
#: A scan ends once it has found this many candidates: ranking them takes 0.3 ms. Where more wait, any 256 will do.
MAX_CANDIDATES = 256
#: Places of the table scanned at a time, and for all newcomers of a tick: 0.4 ms where no connection may be evicted.
SCAN_BATCH, SCAN_BUDGET = 1024, 4096

#: Connections beyond all places that the operators' address may hold where none can be evicted: a probe that is refused
#: by a server full of members would end it. They use descriptors that are reserved for the server.
OPERATOR_PLACES = 8

_RECLAIM = tuple(row.reclaim for row in ROWS)

_log = structlog.get_logger("chatserver.net")


class Candidate(msgspec.Struct, gc=False, frozen=True):
    """A connection that may be evicted, as the scan found it."""

    connection: Connection
    state: State
    deadline: int
    crowd: int  # connections of its network
    badness: tuple[int, int]  # rank, and ticks waited x crowd

    @property
    def stands(self) -> bool:
        """Whether the connection is still in that state, without progress since the scan.

        A request that has arrived in the kernel is progress, except of a peer that does not take its answer, which is
        not read.
        """
        connection = self.connection
        if not connection.alive or connection.deadline != self.deadline or connection.state is not self.state:
            return False
        is_read = self.state is State.KEEPALIVE and connection.backlog is None
        return not (is_read and sockets.unread(connection.descriptor))


class Admission:
    """See the module. Each `admit` is followed by `Connections.adopt`, and each close by `release`."""

    def __init__(
        self, connections: Connections, settings: Settings, *, total: int, farewell: Callable[[Connection], bytes]
    ) -> None:
        self.total = total
        self.reclaimed = 0
        self._connections = connections
        self._relief = LongWork(self._relieve, partial(connections.scheduler.submit, Priority.FIRST), self)
        self._short = False  # whether there were few places at the last tick
        self._per_network = settings.per_ip
        self._is_proxy = connections.is_proxy  # a proxy has no cap of its own
        self._by_network: dict[str, int] = {}
        self._proxies: set[str] = set()  # that have connections: `_is_proxy` parses each address of a large scan
        self._spans = spans(settings)
        self._window = ticks(settings.flush_window)
        self._after = ticks(settings.evict_after)
        self._farewell = farewell  # the whole answer, for a peer that had begun a request
        self._candidates: list[Candidate] = []  # of the last scan, the worst at the end
        self._looked = -1  # tick of the last scan
        self._scanned = 0  # places scanned in that tick
        self._since = 0  # the largest crowd from which a newcomer was admitted since that scan
        self._hand = 0  # where in the table the next scan begins

    # -- caps -------------------------------------------------------------------------------------------------------

    def admit(self, address: str, *, short: bool = False, operator: bool = False) -> Reason | None:
        """Count a newcomer in, or say why not. Its network's cap comes first: over it, nothing is evicted for it.

        `short`: descriptors have run out, so a connection must be evicted although there are places.
        `operator`: it came to the operators' address.
        """
        is_proxy = self._is_proxy(address)
        count = 0 if is_proxy else self._by_network.get(network_of(address), 0)
        if 0 < self._per_network <= count:
            return Reason.REFUSED_ADDRESS
        full = short or self._connections.held >= self.total
        if full and not self._finds_place(count, short=short, operator=operator):
            return Reason.REFUSED_FULL
        self._count_in(address, is_proxy=is_proxy)
        if full:
            self._since = max(self._since, self._crowd(address))
        return None

    def _finds_place(self, count: int, *, short: bool, operator: bool) -> bool:
        """Whether evictions make room for a newcomer whose network holds `count`; an operator may need none."""
        held = self._connections.held
        missing = max(held + 1 - self.total, 1)  # more if operators hold places beyond the total
        beyond = operator and not short and held < self.total + OPERATOR_PLACES
        return all(self.make_room(count) for _ in range(missing)) or beyond

    def _count_in(self, address: str, *, is_proxy: bool) -> None:
        if is_proxy:
            self._proxies.add(address)
        network = self._network(address)
        self._by_network[network] = self._by_network.get(network, 0) + 1

    def _network(self, address: str) -> str:
        """The key that an address is counted under. A proxy's is its own: others in its /64 have a cap."""
        return address if address in self._proxies else network_of(address)

    def _crowd(self, address: str) -> int:
        """Connections of a network. Those of a proxy are of many clients, so each ranks as if it were alone."""
        return 1 if address in self._proxies else self._by_network[network_of(address)]

    def move(self, connection: Connection, address: str) -> Reason | None:
        """Count a connection for the client behind a proxy from now on; if that is refused, return why."""
        is_proxy = self._is_proxy(address)
        network = address if is_proxy else network_of(address)
        if network != self._network(connection.address):
            if 0 < self._per_network <= self._by_network.get(network, 0) and not is_proxy:
                return Reason.REFUSED_ADDRESS
            self.release(connection.address)
            self._count_in(address, is_proxy=is_proxy)
        connection.address = shared_address(address)
        self._connections.demotion.came(connection)
        return None

    def release(self, address: str) -> None:
        """Count out a connection that was admitted."""
        network = self._network(address)
        count = self._by_network[network] - 1
        if count:
            self._by_network[network] = count
        else:
            del self._by_network[network]
            self._proxies.discard(address)

    # -- reclaiming -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second: begin to evict if more places are taken than the high water mark."""
        held = self._connections.held
        was_short, self._short = self._short, held > self.total * HIGH_WATER
        if self._short:
            self._relief.begin()
            if not was_short:
                _log.info("places_short", held=held, places=self.total, reclaimed=self.reclaimed)

    def _relieve(self) -> Iterator[None]:
        """Evict down to the low water mark, scan by scan, until the end of the table.

        Of a scan the worse half at most: if all that it found had to go, a person would go before a crowd elsewhere.
        """
        begin = -1
        while (surplus := self._connections.held - int(self.total * LOW_WATER)) > 0 and self._hand > begin:
            begin = self._hand
            found = self._rank(self._look(SCAN_BUDGET))
            for candidate in reversed(found[(len(found) + 1) // 2 :][-surplus:]):
                if candidate.stands:
                    self._end(candidate.connection)
            yield

    def make_room(self, crowd: int = 0) -> bool:
        """Evict the worst candidate for a newcomer whose network holds `crowd` connections.

        False: there is none that may be evicted.
        """
        tick = self._connections.wheel.current
        if tick != self._looked:
            self._looked, self._scanned = tick, 0
            self._candidates.clear()
        candidate = self._worst()
        if candidate is None or candidate.badness[1] < self._since:
            # The crowd that was evicted since the last scan has come back, and ranks above the candidates left.
            candidate = None
            if self._scanned < SCAN_BUDGET:
                self._since = 0
                self._candidates = self._rank(self._look(SCAN_BUDGET - self._scanned))
                candidate = self._worst()
        if candidate is None or not self._may_take(crowd, candidate):
            return False
        self._end(candidate.connection)
        return not candidate.connection.alive  # after a fault of ours it may still be sending the peer an error

    def _may_take(self, crowd: int, candidate: Candidate) -> bool:
        """A newcomer takes no place from a network that holds fewer connections than its own.

        A network that holds as many, like its own, loses a place only if the peer there has itself waited
        `evict_after`: otherwise a crowd would use up all scans of a tick.
        """
        if crowd == candidate.crowd:
            return candidate.badness[1] >= self._after * candidate.crowd
        return crowd < candidate.crowd

    def _worst(self) -> Candidate | None:
        while self._candidates and not self._candidates[-1].stands:
            self._candidates.pop()
        return self._candidates[-1] if self._candidates else None

    def _look(self, places: int) -> list[Connection]:
        """Connections that may be evicted: enough of them, or all in the next `places` of the table."""
        table = self._connections.table
        found: list[Connection] = []
        for _ in range(0, min(places, len(table)), SCAN_BATCH):
            if self._hand >= len(table):
                self._hand = 0
            batch = table[self._hand : self._hand + SCAN_BATCH]
            self._hand += SCAN_BATCH
            self._scanned += len(batch)
            found += [each for each in batch if each is not None and _RECLAIM[each.state] is not Reclaim.NEVER]
            if len(found) >= MAX_CANDIDATES:
                break
        return found

    def _rank(self, connections: Iterable[Connection]) -> list[Candidate]:
        """Those that may be evicted, the worst at the end.

        1. The table's column `reclaim` ranks the states; a peer in one of these that does not take its answer is last.
        2. Within a rank: time waited x connections of its network. A person waits alone; an attack from few addresses
           has many waiting connections, however quickly they reconnect.
        3. A connection for which that product is below `evict_after` is not evicted: it may be about to finish.
        """
        ranking = []
        for connection in connections:
            state, product = connection.state, self._product(connection)
            if product >= self._after:
                rank = _RECLAIM[state] if connection.backlog is None else Reclaim.NEVER
                crowd = self._crowd(connection.address)
                ranking.append(Candidate(connection, state, connection.deadline, crowd, (-int(rank), product)))
        ranking.sort(key=lambda candidate: candidate.badness)
        return ranking

    def _product(self, connection: Connection) -> int:
        """Ticks waited x connections of its network."""
        # A deadline is one tick more than the span, see `Wheel.due`; seconds that a body earned are subtracted.
        span = self._spans[connection.state] if connection.backlog is None else self._window
        waited = max(self._connections.wheel.current + 2 - (connection.deadline - span), 1)
        return waited * self._crowd(connection.address)

    def worst_of(self, connections: Iterable[Connection], count: int) -> list[Connection]:
        """The first of these to evict, for a cap on one state: the worst, and others that admission may evict too."""
        worst, *others = nlargest(count, connections, key=self._product)
        return [worst, *(each for each in others if self._product(each) >= self._after)]

    def _end(self, connection: Connection) -> None:
        self.reclaimed += 1
        self._connections.step(connection, self._say_goodbye)

    def _say_goodbye(self, connection: Connection) -> None:
        connections = self._connections
        unsent = connection.backlog is not None
        if connection.state in ENDING and not unsent:
            connections.handlers[connection.state].expired(connection)
            return
        if ROWS[connection.state].asks and (connection.inbox or connection.context is not None):
            connections.offer(connection, self._farewell(connection))
        # Unsent bytes are dropped: the kernel would go on offering them, and a place is needed now.
        connections.close(connection, Reason.EVICTED, reset=unsent)

    @property
    def networks(self) -> int:
        return len(self._by_network)
