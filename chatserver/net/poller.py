"""The task that attends to every parked connection, and the task that turns the wheel.

Owns: the order of things in a pass. May not: know what bytes mean, or let one connection's fault reach another.

One trio task waits until the kernel's readiness object is itself readable, takes a batch of events and attends to each
at once: reading what is there and doing what needs no waiting. Then it lets every other task run, and comes back. A
second task attends to those who asked for another turn: they may ask at any time, and the kernel would not wake the
first one for them. Each stops after a slice of time, not of peers: one who asks for much may cost a hundred times what
another does.

Who comes first. Those who are in, then those who may wait (newcomers, herds that were all answered at once, whoever
leaves), then whoever has not been accepted; each has its own slice, so that none starves. A pass is what everybody
waits for, and several of them if it takes the log and the pump to answer: so slices are short. Whoever asked for
another turn has had one, and so has whoever sent more than was read, be it in many pieces or in long ones: those share
a slice of their own, in which they are read as well, so that a thousand greedy peers delay each other and the rest by
no more than that. Members who had nothing more before come first of them. When nobody who is in has been heard for a
moment, nobody waits, and the others have a longer slice: ten thousand handshakes a second want long passes.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

import structlog
import trio

from chatserver.net.connection import BEHIND, Connection
from chatserver.net.connections import Attendant, Connections
from chatserver.net.listener import ACCEPT_BATCH, ACCEPT_WHEN_BUSY, Listener
from chatserver.net.phases import Phase
from chatserver.net.readiness import BROKEN, ENDED, READ, TURN, WRITE, Readiness
from chatserver.net.wheel import Wheel
from chatserver.reasons import Reason

#: Events taken at a time, of those who come first and of those who may wait. libuv polls 1,024, nginx 512. Many of the
#: first may be leaving, which costs 6 µs to see: when 8,000 leave at once they come at fifty a millisecond, and whoever
#: stays stood for 50 ms in the kernel's queue behind those who had not been seen.
FIRST_BATCH, LATER_BATCH = 256, 64
#: As many as a pass attends to, about: if there are more, it is crowded.
CROWD = 64
#: Seconds for which those who are in are attended to before others are, and for which other turns are given to who
#: asked. A pass costs 0.1 ms by itself.
PASS_SECONDS, TURNS_SECONDS = 0.002, 0.0005
#: The same for those who may wait: while others do, about four handshakes; and while nobody does.
LATER_SECONDS, CALM_SECONDS = 0.0005, 0.005
#: Seconds since anybody was heard who is in, after which nobody waits.
CALM_AFTER = 0.1
#: Bytes read from one peer at a time: what fits nearly any request or message, and all that a peer who sends ahead can
#: have us keep. Of something that turns out to be longer what it lacks, if it says so, 16 KiB at most, a whole message,
#: and so much behind it that is seen whether there is more. Else as many again as were read of it, and 4 KiB at most:
#: what is read too much of who sends ahead is kept for each of them.
READ_BYTES, READ_MORE_BYTES, READ_KNOWN_BYTES = 512, 4 * 1024, 16 * 1024
#: Bytes after which no other read is begun in the same go: the longest body. The last one may go 16 KiB beyond.
READ_MOST_BYTES = 64 * 1024
_SIZES = tuple(READ_BYTES << doubled for doubled in range((READ_MORE_BYTES // READ_BYTES).bit_length()))
_LEAVING = ENDED | BROKEN
#: Phases in which what comes is long, or read only to be dropped.
_LONG = frozenset((Phase.BODY, Phase.CLOSING))
#: Deadlines acted on before other tasks run: an expired connection costs an answer, a FIN and a log line.
EXPIRE_BATCH = 16

_log = structlog.get_logger("chatserver.net")


class PassClock(trio.abc.Instrument):
    """Advances the wheel at the start of each pass of the loop, so that every task finds the right tick."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel

    def after_io_wait(self, timeout: float) -> None:
        """A pass begins."""
        self._wheel.advance(trio.current_time())


class Poller:
    """Runs `attendant` for `connections` on what `readiness` and the wheel report."""

    def __init__(
        self,
        connections: Connections,
        readiness: Readiness,
        attendant: Attendant,
        listeners: Sequence[Listener],
    ) -> None:
        connections.attendant = attendant
        self._connections = connections
        self._readiness = readiness
        self._attendant = attendant
        self._listeners = {listener.descriptor: listener for listener in listeners}
        self._accepting: list[Listener] = []
        self._first: deque[tuple[Connection, int]] = deque()  # events that were taken and not attended to
        self._later: deque[tuple[Connection, int]] = deque()  # the same, of those who may wait
        self._heard = 0.0  # when there was last an event of anybody who is in
        self._view = memoryview(bytearray(READ_KNOWN_BYTES + READ_BYTES))
        self._buffers = {size: (self._view[:size],) for size in _SIZES}

    async def run(self) -> None:
        """Attend until cancelled, then end every connection."""
        for listener in self._listeners.values():
            self._readiness.add(listener.descriptor, READ)
        clock = PassClock(self._connections.wheel)
        trio.lowlevel.add_instrument(clock)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_resuming)
                while True:
                    if self._first or self._later:
                        await trio.lowlevel.checkpoint()
                    else:
                        await trio.lowlevel.wait_readable(self._readiness.fileno())
                    self._pass()
        finally:
            trio.lowlevel.remove_instrument(clock)
            self.stop_accepting()
            self._connections.close_all(Reason.DRAINING)

    async def _run_resuming(self) -> None:
        connections = self._connections
        while True:
            await connections.asked.wait()  # lets everybody else run first, even when it is set
            until = perf_counter() + TURNS_SECONDS
            for line in connections.pending, connections.insatiable:
                while line:
                    connection = line.popleft()
                    if connection.descriptor >= 0:
                        self._guard(self._take_turn, connection)
                    if perf_counter() > until:
                        break
            if not (connections.pending or connections.insatiable):
                connections.asked = trio.Event()

    async def run_wheel(self, *, on_tick: Callable[[float], None]) -> None:
        """Turn the wheel until cancelled; `on_tick` is told how many seconds late each turn was."""
        wheel = self._connections.wheel
        while True:
            with trio.CancelScope(deadline=wheel.plan()) as nap:
                wheel.rouse = partial(setattr, nap, "deadline")
                await trio.sleep_forever()
            now = trio.current_time()
            self._connections.attempt(partial(on_tick, now - wheel.planned))
            for listener in self._listeners.values():
                if listener.tick():
                    self._readiness.change(listener.descriptor, READ, 0)
            for count, connection in enumerate(wheel.turn(now), start=1):
                self._guard(self._expire, connection)
                if count % EXPIRE_BATCH == 0:
                    await trio.lowlevel.checkpoint()

    def stop_accepting(self) -> None:
        """Close the listening sockets; what is connected stays."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        self._accepting.clear()

    def _pass(self) -> None:
        """Attend to what is ready, in slices of time; whoever is left comes first in the next pass."""
        many = not self._first and self._gather() >= CROWD
        calm = not (self._first or self._connections.asked.is_set()) and perf_counter() - self._heard > CALM_AFTER
        if self._first:
            self._heard = self._work_off(self._first, PASS_SECONDS)
        self._connections.crowded = many or bool(self._first)
        many = not self._later and self._gather_later() == LATER_BATCH
        if self._later:
            self._work_off(self._later, CALM_SECONDS if calm else LATER_SECONDS)
        if self._later:
            return
        accepting, self._accepting = self._accepting, []
        for listener in accepting:
            if not self._accept(listener, ACCEPT_BATCH if calm and not many else ACCEPT_WHEN_BUSY):
                self._readiness.change(listener.descriptor, 0, READ)

    def _accept(self, listener: Listener, most: int) -> bool:
        try:
            return listener.accept(most)
        except Exception:  # noqa: BLE001
            self._connections.fault()
            listener.rest()
            return False

    def _gather(self) -> int:
        """Take the next events of those who come first, and note which listeners have somebody; how many there were.

        Whoever leaves may wait for those who stay: when thousands leave at once, giving back what they held is work for
        most of a second.
        """
        table, listeners, self._accepting = self._connections.table, self._listeners, []
        ready = self._readiness.ready(FIRST_BATCH)
        for descriptor, events in ready:
            connection = table[descriptor] if descriptor < len(table) else None
            if connection is None:
                if descriptor in listeners:
                    self._accepting.append(listeners[descriptor])
            elif events & _LEAVING:
                self._guard(self._connections.defer, connection)
            else:
                # A number may be somebody else's when its turn comes, so objects are kept.
                self._first.append((connection, events))
        return len(ready)

    def _gather_later(self) -> int:
        """Take the next events of those who may wait; how many there were."""
        table = self._connections.table
        ready = self._readiness.later(LATER_BATCH)
        for descriptor, events in ready:
            connection = table[descriptor] if descriptor < len(table) else None
            if connection is not None:
                self._later.append((connection, events))
        return len(ready)

    def _work_off(self, queue: deque[tuple[Connection, int]], seconds: float) -> float:
        """Attend to those in a queue for so long; what time it is then."""
        until = perf_counter() + seconds
        while queue:
            connection, events = queue.popleft()
            if connection.descriptor >= 0:
                self._attend(connection, events)
            now = perf_counter()
            if now > until:
                break
        return now

    def _attend(self, connection: Connection, events: int) -> None:
        # The one place where a fault in attending ends: it costs its own connection and nobody else's.
        try:
            if events & WRITE and connection.interest & WRITE:
                self._connections.flush(connection)
            if events & READ and connection.interest & READ:
                self._receive(connection)
            elif events & BROKEN:
                self._vanished(connection)
        except Exception:  # noqa: BLE001
            self._connections.fault(connection)

    def _take_turn(self, connection: Connection) -> None:
        """Go on with what it has sent: first what was read of it, then the rest."""
        self._attendant.resumed(connection)
        if connection.interest & READ and connection.descriptor >= 0:
            self._receive(connection)
        elif connection.interest & TURN:
            self._connections.caught_up(connection)

    def _receive(self, connection: Connection) -> None:
        """Read what is there; of who sends faster than that, the rest when everybody else had a turn."""
        more = self._read_all(connection)
        if more and connection.interest & READ:
            self._connections.read_again(connection)
        elif connection.interest & (TURN | BEHIND):
            self._connections.caught_up(connection)

    def _read_all(self, connection: Connection) -> bool:
        """Hand on what is there of one thing, be it long; whether there may be more.

        Whoever is half-way through something long has us keep that half: of many who have sent everything, only one at
        a time is. Once it is whole, and less is kept than before, the next waits for another turn, or everybody would
        stop half-way through that one.
        """
        size, total, before = READ_BYTES, 0, connection.unfinished
        while self._read(connection, size) == size:
            total += size
            kept = connection.unfinished
            is_long = connection.phase in _LONG or kept >= max(READ_BYTES, before + 1)
            before = kept
            if connection.descriptor < 0 or not (is_long and connection.interest & READ and total < READ_MOST_BYTES):
                return connection.descriptor >= 0
            lacking = self._attendant.lacking(connection)
            size = min(lacking, READ_KNOWN_BYTES) + READ_BYTES if lacking else min(total, READ_MORE_BYTES)
        return False

    def _read(self, connection: Connection, size: int) -> int:
        """Hand on at most so many bytes; how many those were."""
        try:
            count = os.readv(connection.descriptor, self._buffers.get(size) or (self._view[:size],))
        except BlockingIOError:
            return 0
        except OSError:
            self._vanished(connection)
            return 0
        if count:
            self._attendant.received(connection, bytes(self._view[:count]))
        elif connection.phase is Phase.CLOSING:
            self._connections.closing_ended(connection)
        else:
            self._attendant.ended(connection)
        return count

    def _vanished(self, connection: Connection) -> None:
        """The peer has reset it. While CLOSING that is only how it took the end: the reason for that end stands."""
        if connection.phase is Phase.CLOSING:
            self._connections.closing_ended(connection)
        else:
            self._connections.close(connection, Reason.PEER_RESET)

    def _expire(self, connection: Connection) -> None:
        backlog = connection.backlog
        if backlog is not None:
            self._connections.judge(connection, backlog)
        elif connection.phase is Phase.CLOSING:
            self._connections.closing_expired(connection)
        else:
            self._attendant.expired(connection)

    def _guard(self, act: Callable[[Connection], None], connection: Connection) -> None:
        try:
            act(connection)
        except Exception:  # noqa: BLE001
            self._connections.fault(connection)
