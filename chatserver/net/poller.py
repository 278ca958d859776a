"""The task that runs the scheduler on what the kernel reports, and the task that turns the wheel.

Owns: how an event or a passed deadline becomes an item of work, and how a peer is read. May not: know what bytes mean,
or order work.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from time import perf_counter, thread_time

import trio

from chatserver.fair import LongWork
from chatserver.net.connection import QUEUED, RESUMED, Closing, Connection, Transport, TransportError
from chatserver.net.connections import Connections
from chatserver.net.listener import Listener
from chatserver.net.readiness import READ, RESET, WRITE, Readiness
from chatserver.net.states import AT_REST, READS, ROWS, Priority, Reclaim
from chatserver.net.transport import PLAIN
from chatserver.reasons import Reason

#: Events taken at a time; the others are reported by the next call. libuv polls 1,024, nginx 512.
MAX_EVENTS = 1024
#: Events from which on the kernel is asked for more before other tasks run: their work takes so long that others have
#: come meanwhile. After fewer there are mostly none, and trio's own wait finds those that come.
MANY_EVENTS = 5
#: Bytes read from one peer at a time: more than nearly any request or message, and the bound on what a peer can send
#: ahead. An item of announced length is read to its end, up to READ_MOST_BYTES (a whole message) at a time.
READ_BYTES, READ_MOST_BYTES = 1024, 16 * 1024
#: Seconds after which a pass of the poller ends, if no other task can run before: three rounds. A pass of trio's loop
#: costs as much as five pongs, and with 1 ms so few publishes share a commit that each costs a seventh more.
PASS = 0.003
#: When another task can run, a pass ends with its round, but not before it has lasted SHARE times the CPU time of other
#: tasks since the last pass, up to LONGEST_PASS seconds. Else tasks that load rooms for thousands take most of the CPU.
SHARE, LONGEST_PASS = 4.0, 0.01
#: Seconds that the poller sleeps after a pass with nothing but pongs, the shortest sleep of epoll. Pongs of a batch of
#: pings trickle in, and waking for each costs more than the pong: with 9,000 idle connections a quarter of the CPU.
PONG_NAP = 0.001
#: Expired connections queued before other tasks run: 0.5 ms.
MAX_EXPIRED = 256
_AWAITED = tuple(row.awaited for row in ROWS)
#: Whether what a peer sent before its reset is void, if nothing of it was read: a first request, that nobody waits for.
#: Not after a TLS handshake: a client that closes with our tickets unread resets the connection too.
_VOID = tuple(row.reclaim is Reclaim.ASKING for row in ROWS)
_ANNOUNCES = tuple(row.announces for row in ROWS)
_BUFFER = memoryview(bytearray(READ_MOST_BYTES + READ_BYTES))
_SHORT: tuple[memoryview, ...] = (_BUFFER[:READ_BYTES],)


def others_can_run() -> bool:
    """Whether another task of the loop is ready to run."""
    return trio.lowlevel.current_statistics().tasks_runnable > 0


class Passes(trio.abc.Instrument):
    """What is done at the ends of each pass of the loop.

    At its start the wheel advances, so that every task finds the right tick; at its end the deferred calls are made.
    """

    def __init__(self, connections: Connections) -> None:
        self._wheel, self._scheduler = connections.wheel, connections.scheduler
        self._now = trio.lowlevel.current_clock().current_time  # `trio.current_time` looks the clock up at each call

    def after_io_wait(self, timeout: float) -> None:
        """A pass begins."""
        self._wheel.advance(self._now())

    def before_io_wait(self, timeout: float) -> None:
        """The pass is over."""
        self._scheduler.call_deferred()


class Poller:
    """Runs the scheduler of `connections` on what `readiness` and the wheel report."""

    def __init__(self, connections: Connections, readiness: Readiness, listeners: Sequence[Listener]) -> None:
        self._connections = connections
        self._readiness = readiness
        self._scheduler = connections.scheduler
        self._events = self._awaited = 0  # of the last pass: all, and those whose outcome is awaited
        self._listeners = {listener.descriptor: listener for listener in listeners}
        self._at_rest: deque[Connection] = deque()  # expired in such a state
        self._pings = LongWork(self._expire_at_rest, partial(self._scheduler.submit, Priority.FIRST), self)

    async def run(self) -> None:
        """Run passes until cancelled, then end every connection."""
        for listener in self._listeners.values():
            self._readiness.add(listener.descriptor, READ)
        passes = Passes(self._connections)
        trio.lowlevel.add_instrument(passes)
        scheduler = self._scheduler
        scheduler.begin()
        descriptor, left, ended = self._readiness.fileno(), False, 0.0
        try:
            while True:
                least = 0.0
                if left:
                    await trio.lowlevel.checkpoint()
                    least = min(SHARE * (thread_time() - ended), LONGEST_PASS)
                elif self.naps:
                    await trio.sleep(PONG_NAP)
                elif scheduler.sleep():
                    await trio.lowlevel.wait_readable(descriptor)
                    scheduler.asleep = False
                else:  # a call was posted meanwhile
                    await trio.lowlevel.checkpoint()
                left = self._pass(least)
                if left:
                    ended = thread_time()
        finally:
            for call in scheduler.end():
                trio.lowlevel.current_trio_token().run_sync_soon(call)
            trio.lowlevel.remove_instrument(passes)
            self.stop_accepting()
            self._connections.close_all(Reason.DRAINING)

    @property
    def naps(self) -> bool:
        """Whether the next pass begins after PONG_NAP, since no outcome of the last pass is awaited."""
        return self._events > 0 and not self._awaited

    def _pass(self, least: float) -> bool:
        """Run rounds until no work is left or PASS is over; from `least` seconds on, until another task can run.

        Returns whether work is left.
        """
        scheduler = self._scheduler
        self._events = self._awaited = 0
        begin = perf_counter()
        while True:
            busy = self._gather()
            scheduler.round()
            lasted, left = perf_counter() - begin, not scheduler.idle
            if not (left or busy) or (lasted >= least and (lasted >= PASS or others_can_run())):
                return left
            scheduler.call_deferred()

    async def run_wheel(self, *, on_tick: Callable[[float], None]) -> None:
        """Turn the wheel until cancelled; `on_tick` gets the lateness of each turn in seconds."""
        wheel = self._connections.wheel
        while True:
            with trio.CancelScope(deadline=wheel.plan()) as nap:
                wheel.wake = partial(setattr, nap, "deadline")
                await trio.sleep_forever()
            now = trio.current_time()
            late = now - nap.deadline  # unlike `wheel.planned`, it is not moved by a long stall
            try:
                await self._expire_all(wheel.turn(now))
            except Exception:  # noqa: BLE001  a bug in the wheel must not end the server
                self._connections.faults.caught(wheel)
            try:  # here and not in a step: with nothing expired the poller need not wake
                self._tick()
                on_tick(late)
            except Exception:  # noqa: BLE001
                self._connections.faults.caught(on_tick)

    async def _expire_all(self, connections: Iterable[Connection]) -> None:
        for count, connection in enumerate(connections, start=1):
            try:
                self.expire(connection)
            except Exception:  # noqa: BLE001  the fault boundary: the others of its slot expire too
                self._connections.faults.caught(connection)
            if count % MAX_EXPIRED == 0:
                await trio.lowlevel.checkpoint()

    def expire(self, connection: Connection) -> None:
        """Queue the step of a connection whose deadline has passed.

        At the turn of its network, so what it sent in time is read first, and others that flood delay it little. Those
        at rest that have sent nothing are one item of the server's own: each costs a ping, and a place in a queue takes
        a tenth of that.
        """
        if AT_REST[connection.state] and not connection.armed & QUEUED:
            self._at_rest.append(connection)
            self._pings.begin()
        else:
            self._connections.submit(self._expire_in_turn, connection)

    def _expire_at_rest(self) -> Iterator[None]:
        connections, expired = self._connections, self._at_rest
        while expired:
            connections.step(expired.popleft(), self._expire_in_turn)
            yield

    def _expire_in_turn(self, connection: Connection) -> None:
        if connection.armed & QUEUED:
            # A step of it waits in `BULK` (else it would have run before this one), with what it sent in time: that
            # comes first. What waits after that does not: a flood always has such a step, and would have no deadline.
            self._connections.submit(self._expire, connection, later=True)
        else:
            self._expire(connection)

    def _expire(self, connection: Connection) -> None:
        connections = self._connections
        if connection.descriptor < 0 or connection.deadline > connections.wheel.current:
            return  # it is closed, or its deadline has moved, while this step was queued
        if connection.backlog is not None:
            connections.judge.judge(connection, connection.backlog)
        else:
            connections.handlers[connection.state].expired(connection)
        connections.arm(connection)

    def _tick(self) -> None:
        for listener in self._listeners.values():
            listener.tick()
            self._readiness.arm(listener.descriptor, READ)  # a bug in accepting costs a tick, not the listener

    def stop_accepting(self) -> None:
        """Close the listening sockets; accepted connections stay."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    def _gather(self) -> bool:
        """Submit every event to the scheduler. Returns whether to poll again before other tasks run.

        Objects are queued, not descriptors: when an item runs, its number may be another peer's.
        """
        table, submit = self._connections.table, self._connections.submit
        ready = self._readiness.ready(MAX_EVENTS)
        awaited = 0
        for descriptor, events in ready:
            connection = table[descriptor] if descriptor < len(table) else None
            if connection is None:
                awaited += 1
                listener = self._listeners.get(descriptor)
                if listener is not None:  # else it is a wake
                    self._scheduler.submit(Priority.FIRST, self._accept, listener)
                continue
            if connection.armed & QUEUED:
                continue  # its step arms it again, and the kernel reports what is still so
            connection.armed = QUEUED
            state = connection.state
            awaited += _AWAITED[state]
            if events & RESET and _VOID[state] and not connection.inbox and connection.transport is PLAIN:
                step = self._reset
            elif events & WRITE:
                step = self._write
            elif events & READ:
                step = self._read
            else:
                step = self._reset
            submit(step, connection)
        self._events += len(ready)
        self._awaited += awaited
        return len(ready) >= MANY_EVENTS

    def _accept(self, listener: Listener) -> None:
        """Accept a batch of peers; the kernel reports the listener again if there are more.

        One batch in each round, before the work of connections: the kernel's queue knows no networks, and a newcomer
        behind thousands of attackers can be distinguished from them only once it is accepted.
        """
        if listener.descriptor in self._listeners:
            listener.accept()
            if not listener.resting:
                self._readiness.arm(listener.descriptor, READ)

    def _write(self, connection: Connection) -> None:
        """Write what was kept. When all is written, read once if its handler asks for that, and call `writable`."""
        connections = self._connections
        if connection.descriptor < 0:
            return
        connection.armed &= RESUMED
        if connections.flush(connection):
            handler = connections.handlers[connection.state]
            if handler.reads_between and (len(connection.inbox) < READ_BYTES or handler.lacking(connection)):
                self._read(connection)
            if connection.descriptor >= 0 and not connection.blocked:
                connections.handlers[connection.state].writable(connection)
        connections.arm(connection)

    def _read(self, connection: Connection) -> None:
        """Read once, unless its state has changed since the event, and arm it."""
        connections = self._connections
        if connection.descriptor < 0:
            return
        connection.armed &= RESUMED
        backlog = connection.backlog
        if READS[connection.state] and (backlog is None or not backlog.blocked):
            self._read_once(connection)
        connections.arm(connection)

    def _read_once(self, connection: Connection) -> None:
        """Pass the bytes of one read to the handler. If there may be more, read again in `BULK`."""
        connections, state, transport = self._connections, connection.state, connection.transport
        handler = connections.handlers[state]
        size, buffers = READ_BYTES, _SHORT
        if _ANNOUNCES[state] or transport is not PLAIN:
            # Under TLS record by record, whatever these are: 16 KiB of key updates are 24 ms of OpenSSL's time.
            lacking = handler.lacking(connection) if transport is PLAIN else transport.lacking()
            size = min(lacking, READ_MOST_BYTES) + READ_BYTES  # READ_BYTES past its end show whether there is more
            buffers = (_BUFFER[:size],)
        try:
            count = os.readv(connection.descriptor, buffers)
        except BlockingIOError:
            return
        except OSError:
            self._reset(connection)
            return
        data = bytes(_BUFFER[:count])
        if count and transport is not PLAIN:
            data = self._open(connection, transport, data)
        if count == 0:
            handler.ended(connection)
        elif data:
            handler.received(connection, data)
        if count == size and READS[connection.state] and connection.descriptor >= 0 and not connection.armed & ~RESUMED:
            # else its inbox comes first: it is not read now, or its handler has resumed it
            connection.armed |= QUEUED
            connections.submit(self._read, connection, later=True)

    def _open(self, connection: Connection, transport: Transport, data: bytes) -> bytes:
        """The plaintext in these bytes; empty if the connection was closed."""
        connections = self._connections
        try:
            data = transport.open(connection, data)
        except OSError:
            self._reset(connection)
            return b""
        except TransportError as error:
            connections.broken(connection, error)
            return b""
        if transport.unsent:
            connections.keep(connection, b"", 0)
        return data if connection.descriptor >= 0 else b""

    def _reset(self, connection: Connection) -> None:
        """The peer has reset it. If we had begun the close, the reason for that close stands."""
        connection.armed = 0
        if isinstance(connection.context, Closing):
            self._connections.handlers[connection.state].ended(connection)
        else:
            self._connections.close(connection, Reason.PEER_RESET)
