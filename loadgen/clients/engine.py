"""The engine: a crowd of virtual clients on one epoll and one wheel, in one trio task.

Owns: the descriptors, and every system call made for them. A client is one object of 100 bytes, and costs no CPU while
nothing happens. May not: know what a persona's bytes mean, or how they are sealed.
"""

import os
import select
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import trio

from loadgen.clients.budget import ALL_SPENT, MAX_UNSENT_BYTES, Budget
from loadgen.clients.client import Client, Stage, source_number
from loadgen.clients.cohort import Cohort
from loadgen.clients.opening import Opening
from loadgen.clients.sealing import Sealing
from loadgen.net import sockets, wire
from loadgen.net.answers import CLOSED
from loadgen.net.sockets import SockDiag
from loadgen.net.target import Target, is_own_fault
from loadgen.net.timers import NEVER, Alarms, WakeUp, Wheel, now
from loadgen.report.latency import Lag

#: Events and about as many timers handled in one turn, and clients closed, so that they delay no message of the
#: schedule by a millisecond.
EVENT_BATCH: Final = 64

#: How long the engine runs once something has happened, before trio's other tasks get a turn: one turn of trio's loop
#: costs as much as opening half a client.
STAY_SECONDS: Final = 0.002

#: For one read in this many, the engine asks the kernel how long the data had waited, which takes 3 us.
READS_A_LOOK: Final = 8

_READING: Final = select.EPOLLIN | select.EPOLLRDHUP
_GONE: Final = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP  # the first two are always reported


class Engine:
    def __init__(self, target: Target, *, connect_rate: float) -> None:
        self.wheel: Wheel[Client] = Wheel()
        self.alarms = Alarms()
        self.lag = Lag()  # how late this process was
        self.own_faults: Counter[str] = Counter()  # what this machine, not the target, refused
        self.last_came = 0.0  # when a client last became held for the first time
        self._target = target
        self._opening = Opening(connect_rate)
        # Not attributes of the client, because most clients are in none of these five.
        self.responses: dict[Client, wire.Response] = {}  # answers of which a part has come
        self._outgoing: dict[Client, bytearray] = {}  # bytes that the kernel would not take yet
        self._finishing: set[Client] = set()  # those whose FIN follows these bytes
        self._not_reading: set[Client] = set()
        self._budget = Budget()
        self.dark: set[Client] = set()  # vanished
        self._sealing = Sealing(target)
        self.links = self._sealing.links  # of those within TLS
        self.sock_diag = SockDiag() if target.on_loopback else None
        self._reads = 0  # by honest clients that are not slow
        self._epoll = select.epoll()
        self._wake = WakeUp()
        self._epoll.register(self._wake.fd, select.EPOLLIN)
        self._clients: list[Client | None] = [None] * (self._wake.fd + 1)  # by descriptor; a dict takes more memory

    # What a crowd uses

    async def run(self) -> None:
        """Serve the crowd until cancelled, then close everything."""
        self.lag.next_look = now()
        self._arm()
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._turn()
                until = now() + STAY_SECONDS
                while (left := until - now()) > 0:
                    self._turn(left)
        finally:
            for client in filter(None, self._clients):
                self.close(client)
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
            self._wake.close()
            if self.sock_diag is not None:
                self.sock_diag.close()

    def open(self, clients: Iterable[Client]) -> None:
        """Queue clients to be opened, as fast as the limits allow."""
        self._opening.add(clients)
        self._arm()

    @property
    def has_opened(self) -> bool:
        """Whether every client given to `open` is held or has failed."""
        return self._opening.is_over

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` at a moment, to the microsecond; the lateness is recorded."""
        self.alarms.add(when, action)
        self._arm()

    async def close_cohorts(self, unwanted: Iterable[Cohort]) -> None:
        """Close every client of these cohorts for good, those waiting to return included."""
        for cohort in unwanted:
            cohort.over, cohort.due = True, 0
        self._opening.forget_closed_cohorts()
        for number, client in enumerate([each for each in filter(None, self._clients) if each.cohort.over], start=1):
            self.close(client)
            client.stage = Stage.OVER
            if number % EVENT_BATCH == 0:
                await trio.lowlevel.checkpoint()

    # What clients use

    def hold(self, client: Client) -> None:
        if not self._opening.end(client):
            return  # the client is held already, or has ended
        client.stage = Stage.HELD
        moment = now()
        if not client.has_come:
            self.last_came = moment
        client.cohort.count_held(client, moment)

    def send(self, client: Client, data: bytes) -> bool:
        """Send, within TLS if the connection has that, and return whether the kernel took all."""
        if client in self.links:
            try:
                data = self._sealing.encrypted(client, data)
            except wire.WireError as error:
                client.fail(str(error))
                return False
        return self.send_raw(client, data)

    def send_raw(self, client: Client, data: bytes) -> bool:
        """Write what the kernel takes now, and the rest later; return whether it took all."""
        if client.fd < 0:
            return False
        if client in self._outgoing:
            self._outgoing[client] += data
            if len(self._outgoing[client]) > MAX_UNSENT_BYTES:
                client.fail("the server stopped reading")
            else:
                self._charge(client)
            return False
        try:
            took_all = self._write(client, data)
        except OSError as error:
            self._hear_out(client)
            if client.fd >= 0:  # the data did not end the client
                client.on_hangup(self._reason_of(error))
            return False
        if not took_all:
            self._watch(client)
        return took_all

    def stop_reading(self, client: Client) -> None:
        if client.fd >= 0:
            self._not_reading.add(client)
            self._watch(client)

    def resume_reading(self, client: Client) -> None:
        if client in self._not_reading:
            self._not_reading.remove(client)
            self._watch(client)

    def go_dark(self, client: Client) -> None:
        """Have everything that the server sends to a client dropped unanswered."""
        if client.fd < 0:
            return
        try:
            sockets.deafen(client.fd)
        except PermissionError:
            self.own_faults["vanishing without a FIN needs CAP_NET_ADMIN on this machine"] += 1
        else:
            self.dark.add(client)

    def come_back(self, client: Client) -> None:
        if client in self.dark:
            self.dark.remove(client)
            sockets.undeafen(client.fd)

    def finish_sending(self, client: Client) -> None:
        """Send FIN, behind any bytes that the kernel has not taken yet, and within TLS close_notify before it."""
        link = self.links.get(client)
        if link is not None:
            self.send_raw(client, link.goodbye())
        self._send_fin(client)

    def _send_fin(self, client: Client) -> None:
        if client in self._outgoing:
            self._finishing.add(client)
        elif client.fd >= 0:
            with suppress(OSError):  # the connection was reset, which epoll reports
                sockets.finish_sending(client.fd)

    def leave(self, client: Client, *, return_in: float, reset: bool) -> None:
        """Close a client at its own wish, which counts as no end by the server; `NEVER` is for good."""
        if client.stage in {Stage.WAITING, Stage.OVER}:
            return
        client.cohort.left += 1
        if reset:
            sockets.reset_when_closed(client.fd)
        self._send_away(client, return_in)

    def end(self, client: Client, reason: str, *, turned_away: bool = False) -> None:
        """Close and book a client that the server ended or failed to serve; attackers come back."""
        if client.stage in {Stage.WAITING, Stage.OVER}:
            return
        if not client.cohort.over:  # what ends while we close all of them says nothing about the target
            client.cohort.count_end(client, reason, turned_away=turned_away)
        random = client.cohort.place.random
        self._send_away(client, NEVER if client.honest else client.returns_seconds * random.uniform(0.5, 1.5))

    def close(self, client: Client) -> None:
        """Close the connection, which counts as no end; `reopen` makes a new one."""
        self._opening.end(client)
        self.links.pop(client, None)
        if client.stage is Stage.HELD:
            client.cohort.held -= 1
        client.stage = Stage.WAITING
        client.on_closed()
        self._budget.release(client)
        self.wheel.set(client, NEVER)  # or a client in the queue would come due and be queued again
        if client.fd >= 0:
            self._outgoing.pop(client, None)
            self._finishing.discard(client)
            self._not_reading.discard(client)
            self.come_back(client)  # or its FIN would be retransmitted for minutes: the answer would be dropped
            self._clients[client.fd] = None
            os.close(client.fd)  # this also removes it from the epoll set, as nothing else refers to the socket
            client.fd = -1

    def _send_away(self, client: Client, return_in: float) -> None:
        self.close(client)
        if return_in == NEVER:
            client.stage = Stage.OVER
        self.wheel.set(client, now() + return_in)

    def reopen(self, client: Client) -> None:
        """Close the connection and make a new one, as an honest client does when the server asks for that."""
        if client.cohort.over:
            return  # it is closed in its turn
        self.close(client)
        self._opening.add((client,))
        self._arm()

    # One turn

    def _turn(self, wait_seconds: float = 0.0) -> None:
        for fd, mask in self._epoll.poll(wait_seconds, EVENT_BATCH):
            client = self._clients[fd]  # None for the timerfd, and for a client closed earlier in this batch
            if client is not None:
                self._attend(client, mask)
        moment = now()
        self._opening.give_up(moment)
        self.lag.look(moment, self.wheel.next_time)
        for when, action in self.alarms.pop_due(moment):
            self.lag.record(now() - when)
            action()
        for client in self.wheel.pop_due(moment, EVENT_BATCH):
            if client.stage is Stage.HELD:
                client.on_time(moment)
            elif client.stage is Stage.WAITING and not client.cohort.over:
                self._opening.add((client,))
        for client in self._opening.due(moment):
            self._connect(client, moment)
        self._arm()

    def _arm(self) -> None:
        self._wake.set(min(self.alarms.next_time, self.wheel.next_time, self._opening.next_time, self.lag.next_look))

    def _attend(self, client: Client, mask: int) -> None:
        # A connection that is gone takes no more bytes, and a failed write would hide the data that is still to be
        # read.
        blind = select.EPOLLERR if client.stage is Stage.CONNECTING else _GONE
        try:
            if mask & select.EPOLLOUT and not mask & blind and not self._flush(client):
                return
            if client in self._not_reading:
                if mask & _GONE:
                    code = sockets.pending_error(client.fd)
                    client.on_hangup(sockets.describe(OSError(code, "")) if code else CLOSED)
            elif mask & (select.EPOLLIN | _GONE):
                self._take(client)
        except BlockingIOError:
            return
        except wire.WireError as error:
            client.fail(str(error))
        except OSError as error:
            if client.stage is Stage.CONNECTING:
                client.fail(self._reason_of(error), turned_away=True)
            else:
                client.on_hangup(self._reason_of(error))

    def _reason_of(self, error: OSError) -> str:
        """Word an error; if a limit of this machine was the cause, no server is to blame, and the run is invalid."""
        reason = sockets.describe(error)
        if is_own_fault(error):
            self.own_faults[reason] += 1
        return reason

    def _take(self, client: Client) -> None:
        data = os.read(client.fd, client.read_bytes)
        if not data:
            client.on_hangup(CLOSED)
            return
        client.cohort.received_bytes += len(data)
        if client.honest and not client.slow:  # slow clients let data wait on purpose
            if self._reads % READS_A_LOOK == 0:
                self.lag.record_read(sockets.unread_seconds(client.fd))
            self._reads += 1
        if client in self.links:
            self._sealing.take(client, data)
        else:
            client.on_data(data)
        self._charge(client)

    def _charge(self, client: Client) -> None:
        """Give a client up if more is kept for it, or for all clients, than may be."""
        fault = self._budget.charge(client, len(self._outgoing.get(client, b"")))
        if fault == ALL_SPENT:
            self.own_faults[f"{client.cohort.persona}: {fault}"] += 1
        if fault:
            client.fail(fault)

    def _hear_out(self, client: Client) -> None:
        """Give a client the data that came before its connection broke: the answer that says why."""
        try:
            self._take(client)
        except wire.WireError as error:
            client.fail(str(error))
        except OSError:
            return  # the caller books the first error, which is the better reason

    def _write(self, client: Client, data: bytes | bytearray) -> bool:
        """Write what the kernel takes, keep the rest, and return whether it took all."""
        try:
            sent = os.write(client.fd, data)
        except BlockingIOError:
            sent = 0
        client.cohort.sent_bytes += sent
        if sent < len(data):
            self._outgoing[client] = bytearray(memoryview(data)[sent:])
        return sent == len(data)

    def _flush(self, client: Client) -> bool:
        """Write the bytes that are left over, and return whether the client is still connected."""
        outgoing = self._outgoing.pop(client, b"")
        if outgoing and not self._write(client, outgoing):
            return True
        self._charge(client)
        self._watch(client)
        if client in self._finishing:
            self._finishing.remove(client)
            self._send_fin(client)
        if client.stage is Stage.CONNECTING:
            self._connected(client)
        else:
            client.on_drained()
        return client.fd >= 0

    def _watch(self, client: Client) -> None:
        mask = 0 if client in self._not_reading else _READING
        self._epoll.modify(client.fd, mask | select.EPOLLOUT if client in self._outgoing else mask)

    def _connected(self, client: Client) -> None:
        client.stage = Stage.OPENING
        if client.honest:
            client.cohort.connects.record(now() - client.born)
        if client not in self.links:  # else it is called after the handshake
            client.on_connected()

    def _connect(self, client: Client, moment: float) -> None:
        client.born, client.is_reused = moment, False
        client.stage = Stage.CONNECTING
        try:
            client.fd = fd = sockets.connect(self._target, source_number(client), client.cohort.options)
        except OSError as error:
            client.fail(self._reason_of(error), turned_away=not is_own_fault(error))
            return
        if fd >= len(self._clients):
            self._clients.extend([None] * (fd + 1 - len(self._clients)))
        self._clients[fd] = client
        opening = self._sealing.first_bytes(client)
        try:  # on loopback the connection is usually established already, which saves a turn of epoll
            stands = bool(opening) and self._write(client, opening)
        except OSError as error:
            client.fail(self._reason_of(error), turned_away=True)
            return
        self._epoll.register(fd, _READING if stands else _READING | select.EPOLLOUT)
        if stands:
            self._connected(client)
