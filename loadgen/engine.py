"""The engine: a crowd of virtual clients on one epoll and one wheel, in one trio task.

Owns: the descriptors, the order in which clients open, and every system call made for them. One client is one small
object; a crowd of 18,000 costs a few hundred bytes each and nothing at all while nothing happens. The engine's epoll
is itself readable, so one task waits on it beside the victims, which are ordinary trio tasks. May not: know what any
persona means by its bytes.
"""

import errno
import os
import select
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

import trio

from loadgen.client import ATTACKER_RETURNS_SECONDS, Client, Cohort, Stage
from loadgen.latency import Latency
from loadgen.target import Target
from loadgen.timers import NEVER, Alarms, WakeUp, Wheel, now
from loadgen.wire import WireError

#: Handshakes outstanding at once. Enough to keep a server busy across round trips; below the listen backlog of 100
#: that several servers have, over which the kernel drops SYNs and the client waits a second.
OPENING_MAX: Final = 64

#: Connections begun in one turn (about 30 us each), so that a victim's beat is never a millisecond late for them.
OPEN_BATCH: Final = 16

#: Events handled in one turn, for the same reason.
EVENT_BATCH: Final = 64

#: Clients closed before anybody else may run.
CLOSE_BATCH: Final = 64

#: A client that is not established by then has failed. Longer than four SYN retransmits.
OPEN_DEADLINE_SECONDS: Final = 30.0

#: How far behind its connect rate the engine may be and still catch up: longer would end in a burst.
CATCH_UP_SECONDS: Final = 0.02

READ_BYTES: Final = 16 * 1024

#: A client with this much unsent has a server that stopped reading.
MAX_OUTGOING_BYTES: Final = 1024 * 1024

# In Linux since 4.2; Python names it from 3.12 on. The port is then chosen at connect(), for the whole address pair,
# where bind() alone would set a port aside for one source and run dry at 28,000.
_IP_BIND_ADDRESS_NO_PORT: Final = 24

_GONE: Final = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_OURS: Final = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EADDRINUSE)
)


class Engine:
    """Runs clients; one for each process."""

    def __init__(self, target: Target, *, connect_rate: float = 0.0) -> None:
        self.wheel: Wheel[Client] = Wheel()
        self.alarms = Alarms()
        self.lag = Latency()  # how late our own alarms went off
        self.own_faults: Counter[str] = Counter()  # what this machine, not the target, refused
        self.opening = 0  # clients between connect and held
        self.last_held = 0.0  # when a client last came to be held
        self._target = target
        self._interval = 1 / connect_rate if connect_rate else 0.0
        self._next_open = 0.0
        self._queue: deque[Client] = deque()
        self._clients: dict[int, Client] = {}
        self._epoll = select.epoll()
        self._wake = WakeUp()
        self._epoll.register(self._wake.fd, select.EPOLLIN)

    # What scenarios use

    async def run(self) -> None:
        """Serve the crowd until cancelled; everything is closed afterwards."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._turn()
        finally:
            self.close_all()
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
            self._wake.close()

    def open(self, clients: Iterable[Client]) -> None:
        """Queue clients to be opened, as fast as the limits allow."""
        self._queue.extend(clients)
        self._arm()

    @property
    def settled(self) -> bool:
        """Whether every client that was asked for is held, or has failed."""
        return not self._queue and not self.opening

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` at a moment, to the microsecond; the lateness is recorded."""
        self.alarms.add(when, action)
        self._arm()

    async def sleep_until(self, when: float) -> None:
        """Sleep to the microsecond, unlike `trio.sleep_until`."""
        reached = trio.Event()
        self.at(when, reached.set)
        await reached.wait()

    def close_all(self) -> None:
        """Close every connection and forget those that wait; nobody is counted as ended."""
        self._queue.clear()
        for client in list(self._clients.values()):
            self._close(client)
            client.stage = Stage.OVER
            self.wheel.set(client, NEVER)

    async def close_cohorts(self, unwanted: Iterable[Cohort]) -> None:
        """Close every client of these cohorts for good, those waiting to return included."""
        for cohort in unwanted:
            cohort.over = True
        self._queue = deque(client for client in self._queue if not client.cohort.over)
        doomed = [client for client in self._clients.values() if client.cohort.over]
        for start in range(0, len(doomed), CLOSE_BATCH):
            for client in doomed[start : start + CLOSE_BATCH]:
                self._close(client)
                client.stage = Stage.OVER
            await trio.lowlevel.checkpoint()

    # What clients use

    def hold(self, client: Client) -> None:
        """Count the client as established."""
        if client.stage is Stage.HELD:
            return
        client.stage = Stage.HELD
        self.opening -= 1
        cohort = client.cohort
        cohort.held += 1
        cohort.opened += 1
        cohort.peak = max(cohort.peak, cohort.held)
        self.last_held = now()
        self.wheel.set(client, NEVER)

    def send(self, client: Client, data: bytes) -> None:
        """Write now what the kernel takes, the rest when it takes more."""
        if client.fd < 0:
            return
        if client.outgoing:
            client.outgoing += data
            if len(client.outgoing) > MAX_OUTGOING_BYTES:
                client.fail("the server stopped reading")
            return
        try:
            sent = os.write(client.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            client.on_hangup(_name(error))
            return
        if sent < len(data):
            client.outgoing = data[sent:]
            self._epoll.modify(client.fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP)

    def end(self, client: Client, reason: str, *, turned_away: bool = False) -> None:
        """Close and book a client that its server, or a broken promise of it, ended; attackers come back."""
        if client.stage in {Stage.WAITING, Stage.OVER}:
            return
        client.cohort.count_end(client, reason, turned_away=turned_away)
        self._close(client)
        if client.honest:
            client.stage = Stage.OVER
            self.wheel.set(client, NEVER)
        else:
            self.wheel.set(client, now() + ATTACKER_RETURNS_SECONDS * client.cohort.place.random.uniform(0.5, 1.5))

    def reopen(self, client: Client) -> None:
        """Close the connection and make a new one: what an honest client does when the server asks it to."""
        self._close(client)
        self._queue.append(client)

    # One turn

    def _turn(self) -> None:
        for fd, mask in self._epoll.poll(0, EVENT_BATCH):
            client = self._clients.get(fd)  # None for the alarm clock, and for one closed earlier in this batch
            if client is not None:
                self._attend(client, mask)
        moment = now()
        for when, action in self.alarms.pop_due(moment):
            self.lag.record(now() - when)
            action()
        for client in self.wheel.pop_due(moment):
            self._time_up(client, moment)
        self._open_some(moment)
        self._arm()

    def _arm(self) -> None:
        when = min(self.alarms.next_time, self.wheel.next_time)
        if self._queue and self.opening < OPENING_MAX:
            when = min(when, self._next_open)
        self._wake.set(when)

    def _attend(self, client: Client, mask: int) -> None:
        try:
            if mask & select.EPOLLOUT and not mask & select.EPOLLERR and not self._flush(client):
                return
            if mask & (select.EPOLLIN | _GONE):
                data = os.read(client.fd, READ_BYTES)
                if not data:
                    client.on_hangup("closed")
                    return
                client.cohort.received_bytes += len(data)
                client.on_data(data)
        except BlockingIOError:
            return
        except WireError as error:
            client.fail(str(error))
        except OSError as error:
            if client.stage is Stage.CONNECTING:
                self.end(client, _name(error), turned_away=True)
            else:
                client.on_hangup(_name(error))

    def _flush(self, client: Client) -> bool:
        """Write what is left over; whether the client is still there."""
        if client.stage is Stage.CONNECTING and not client.outgoing:
            return self._connected(client)
        sent = os.write(client.fd, client.outgoing)
        client.outgoing = client.outgoing[sent:]
        if client.outgoing:
            return True
        if client.stage is Stage.CONNECTING:
            return self._connected(client)
        self._epoll.modify(client.fd, select.EPOLLIN | select.EPOLLRDHUP)
        return True

    def _connected(self, client: Client) -> bool:
        self._epoll.modify(client.fd, select.EPOLLIN | select.EPOLLRDHUP)
        client.stage = Stage.OPENING
        client.on_connected()
        return client.fd >= 0

    def _time_up(self, client: Client, moment: float) -> None:
        if client.stage is Stage.WAITING:
            if not client.cohort.over:
                self._queue.append(client)
        elif client.stage is Stage.HELD:
            client.on_time(moment)
        elif client.stage is not Stage.OVER:
            client.fail(f"not established in {OPEN_DEADLINE_SECONDS:g} s")

    # Opening and closing

    def _open_some(self, moment: float) -> None:
        for _ in range(OPEN_BATCH):
            if not self._queue or self.opening >= OPENING_MAX or self._next_open > moment:
                return
            earliest = moment - CATCH_UP_SECONDS
            self._next_open = max(self._next_open + self._interval, earliest) if self._interval else moment
            self._connect(self._queue.popleft(), moment)

    def _connect(self, client: Client, moment: float) -> None:
        client.born = moment
        client.unread = client.outgoing = b""
        client.stage = Stage.CONNECTING
        self.opening += 1
        try:
            client.fd = self._socket(client.index)
        except OSError as error:
            if error.errno in _OURS:
                self.own_faults[_name(error)] += 1
            self.end(client, _name(error), turned_away=error.errno not in _OURS)
            return
        self._clients[client.fd] = client
        self.wheel.set(client, moment + OPEN_DEADLINE_SECONDS)
        opening = client.opening()
        try:  # on loopback the connection usually stands already: spares a trip through epoll
            sent = os.write(client.fd, opening) if opening else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.end(client, _name(error), turned_away=True)
            return
        client.outgoing = opening[sent:]
        if opening and not client.outgoing:
            self._epoll.register(client.fd, select.EPOLLIN | select.EPOLLRDHUP)
            client.stage = Stage.OPENING
            client.on_connected()
        else:
            self._epoll.register(client.fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP)

    def _socket(self, index: int) -> int:
        with socket.socket(self._target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            source = self._target.source(index)
            if source is not None:
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((source, 0))
            code = sock.connect_ex((self._target.address, self._target.port))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            return sock.detach()  # a bare descriptor: the socket object would be a third of a client's memory

    def _close(self, client: Client) -> None:
        if client.stage in {Stage.CONNECTING, Stage.OPENING}:
            self.opening -= 1
        elif client.stage is Stage.HELD:
            client.cohort.held -= 1
        client.stage = Stage.WAITING
        client.unread = client.outgoing = b""
        if client.fd >= 0:
            del self._clients[client.fd]
            os.close(client.fd)  # leaves the epoll set by itself: nothing else refers to the socket
            client.fd = -1


def _name(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
