"""One virtual client.

Owns: a client's state (a descriptor, a stage, a deadline and at most a few unread bytes: no task, no stack, no socket
object). A persona subclasses `Client` and defines what is sent and what an answer means; only the engine connects,
writes and reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar, cast
from zlib import crc32

from loadgen.clients.traffic import name_in
from loadgen.net import sockets, wire
from loadgen.net.answers import TURNED_AWAY, is_planned
from loadgen.net.target import SHARED_ADDRESS
from loadgen.net.timers import NEVER, now
from loadgen.net.tls import Link

if TYPE_CHECKING:
    from loadgen.clients.cohort import Cohort

T = TypeVar("T")

#: An attacker that was disconnected reconnects after 0.5 to 1.5 times this, as slowloris tools do: otherwise nothing
#: would be left to measure after the first deadline.
ATTACKER_RETURNS_SECONDS = 1.0

#: Bytes in which an attacker looks for an answer's status: room for a `100 Continue` and its fields before it.
ANSWER_BYTES = 1024


class Stage(Enum):
    WAITING = "not connected"
    CONNECTING = "the connection is being made"
    OPENING = "connected, not yet what it wants to be"
    UPGRADED = "the same, as a WebSocket"
    HELD = "established: this is what the run counts"
    OVER = "gone for good"


class Needs(Enum):
    """What a target must speak for a persona to have anything to play."""

    HTTP = "HTTP/1.1"
    WEBSOCKET = "WebSocket"
    CHAT = "chat.v1"


class Threat(Enum):
    """How an attacker does harm; it decides the bar, and the table that the attack is in."""

    SLOW = "slow or silent"  # holds a connection and sends almost nothing
    GREEDY = "greedy"  # takes as much of the server as it can get
    MALFORMED = "malformed"  # sends what no server should accept

    @property
    def everybody(self) -> str:
        """The name of the whole group in `--kind`."""
        return f"all-{self.name.lower()}"


class _State(NamedTuple):
    first: Any


def state(first: T) -> T:
    """Declare an attribute of each client by its first value."""
    return cast("T", _State(first))


class _Column(NamedTuple):
    code: str  # of the array
    first: float
    meaning: str

    def __set_name__(self, owner: type[Client], name: str) -> None:
        def read(client: Client) -> Any:
            return client.cohort.columns[name][client.number]

        def write(client: Client, value: Any) -> None:
            client.cohort.columns[name][client.number] = value

        owner.columns[name] = self
        setattr(owner, name, property(read, write, doc=self.meaning))  # a descriptor of our own takes 0.2 us longer


def column(code: str, first: float, meaning: str = "") -> Any:
    """Declare a number of each client that its cohort has in an array: as an attribute it takes five times as much."""
    return _Column(code, first, meaning)


class _Slotted(type):
    """Makes slots of what is declared as `state`, so that 18,000 clients do not each have a dictionary."""

    first_values: dict[str, Any]  # of the state of a class and of its bases

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _Slotted:
        own = {each: value.first for each, value in namespace.items() if isinstance(value, _State)}
        rest = {each: value for each, value in namespace.items() if each not in own}
        slots = rest.get("__slots__", ())
        rest["__slots__"] = (*((slots,) if isinstance(slots, str) else slots), *own)
        cls = super().__new__(mcs, name, bases, rest)
        cls.first_values = {}
        for base in reversed(bases):  # of a file outside, some may be no clients
            cls.first_values |= getattr(base, "first_values", {})
        cls.first_values |= own
        return cls


class Told(Protocol):
    """A message that a client was told; the server may name neither its room ("") nor its offset there (0)."""

    text: str
    room: str
    offset: int


class Client(metaclass=_Slotted):
    """The base class of a persona: what the engine calls, and what a persona may do.

    Subclasses declare a docstring whose first line `loadgen list` prints, and `state` of their own. docs/personas.md
    shows how to write one.
    """

    name: ClassVar[str]  # by default that of the class, in lower case with hyphens
    honest: ClassVar[bool] = True  # not an attacker
    slow: ClassVar[bool] = False  # honest, and slower than most: a neighbour that no attack may hurt
    threat: ClassVar[Threat] = Threat.SLOW  # of an attacker
    needs: ClassVar[Needs] = Needs.CHAT
    usual_clients: ClassVar[int] = 8000  # the number in a scorecard
    returns_seconds: ClassVar[float] = ATTACKER_RETURNS_SECONDS  # until an attacker reconnects, give or take half
    receive_buffer_bytes: ClassVar[int] = 0  # SO_RCVBUF, which limits the window; 0 = the kernel's choice
    send_buffer_bytes: ClassVar[int] = 0  # SO_SNDBUF, which limits the data waiting in our kernel; 0 = its choice
    segment_bytes: ClassVar[int] = 0  # TCP_MAXSEG; 0 = the kernel's, which is 64 KiB on the loopback
    read_bytes: ClassVar[int] = 16 * 1024  # most that is read at once
    below_tls: ClassVar[bool] = False  # sends its bytes without TLS, even to a TLS target
    needs_tls: ClassVar[bool] = False  # has nothing to play without TLS
    link: ClassVar[type[Link]] = Link  # how its bytes are sealed within TLS
    one_address: ClassVar[bool] = False  # all clients of this persona share one source address
    speaks: ClassVar[bool] = False  # the schedule sends messages through it
    echoes: ClassVar[bool] = False  # its messages come back to it
    silent: ClassVar[bool] = False  # sends no byte, on purpose
    forged: ClassVar[bool] = False  # asks for what a sound server answers with 401 or 403
    unnoticed_seconds: ClassVar[float] = 0.0  # time in which a sound server cannot know that it is gone
    cycle_seconds: ClassVar[float] = 0.0  # of a slow client: the time in which it has done everything once

    cohort: Cohort = state(cast("Cohort", None))  # given at once
    number = state(0)  # within its persona, by which a crowd divides into parts
    stage = state(Stage.WAITING)
    unread = state(b"")  # received bytes that are not yet a complete unit

    columns: ClassVar[dict[str, _Column]] = {}
    fd: int = column("i", -1, "Its socket's descriptor; -1 without a connection.")
    born: float = column("d", 0.0, "When it began to connect.")
    is_reused: int = column("b", 0, "Whether its connection has had an answer; a persona of requests says so.")
    due: float = column("d", NEVER)  # when `on_time` is called; set by the wheel, as is `tick`
    tick: int = column("q", -1)
    has_come: int = column("b", 0)  # whether it ever reached the server
    # of the schedule, see `deliver`: how many messages came, and the sum of their checksums
    delivered: int = column("I", 0)
    checksums: int = column("Q", 0)
    offset: int = column("q", 0)  # of the last message on this connection

    def __init__(self, cohort: Cohort, index: int) -> None:
        for name, first in type(self).first_values.items():
            setattr(self, name, first)
        self.cohort = cohort
        self.number = index - cohort.first_index

    @property
    def index(self) -> int:
        """Its number in the run, which determines the source address; `number` is that within its persona."""
        return self.cohort.first_index + self.number

    @property
    def response(self) -> wire.Response | None:
        """An answer of which a part has come."""
        return self.cohort.engine.responses.get(self)

    def deliver(self, messages: Iterable[Told]) -> None:
        """Count messages of its room, in their order, and those of the schedule: others may speak there too.

        Their checksums reveal a message that came twice in place of another.
        """
        for message in messages:
            self.require_room(message.room)
            if message.offset:
                if message.offset <= self.offset:
                    raise wire.WireError("a message came twice, or out of order")
                self.offset = message.offset
            self.cohort.deliveries += 1
            if name := name_in(message.text, self.cohort.place.mark):
                self.delivered += 1
                self.checksums += crc32(name.encode())

    def require_room(self, told: str) -> None:
        """Refuse what a server says of another room than its own."""
        if told and told != self.room:
            raise wire.WireError("a message of another room")

    @property
    def room(self) -> str:
        """The room of which it is a member; rooms go by number, so that each has its share of every persona."""
        rooms = self.cohort.place.rooms
        return rooms[self.number % len(rooms)]

    # What the engine calls

    def opening(self) -> bytes:
        """Return the first bytes to send, as soon as the connection is established."""
        raise NotImplementedError

    def on_connected(self) -> None:
        """React once the connection is established and the opening bytes are sent."""

    def on_data(self, data: bytes) -> None:
        """React to bytes from the server."""
        raise NotImplementedError

    def on_time(self, moment: float) -> None:
        """React when the time set with `wake_in` has come."""

    def on_drained(self) -> None:
        """React when the kernel has taken everything that an earlier `send` left over."""

    def on_hangup(self, how: str) -> None:
        """React when the server closes or resets the connection."""
        self.fail(how)

    def on_closed(self) -> None:
        """Forget what belonged to the connection that is over."""
        self.unread = b""
        self.offset = 0  # a server that restarts may count anew
        self.cohort.engine.responses.pop(self, None)

    # What a persona may do

    def read_response(self, data: bytes, *, keeps: bool = False, bodiless: bool = False) -> wire.Response | None:
        """Read on in a response, and return it once it is whole; without `keeps` its body is dropped as it comes."""
        responses = self.cohort.engine.responses
        response = responses.pop(self, None) or wire.Response(keeps=keeps, bodiless=bodiless)
        self.unread = response.feed(self.unread + data)
        if response.is_whole:
            return response
        responses[self] = response
        return None

    def send_request(self, request: bytes) -> None:
        """Send a request, or connect anew if the server has ended this connection since its last answer."""
        if self.fd >= 0 and self.is_reused and sockets.is_ended(self.fd):
            self.cohort.engine.reopen(self)
        else:
            self.send(request)

    def may_ask_again(self) -> bool:
        """Whether a request that may be done twice may have crossed with the end of its connection (RFC 9112 9.3.1).

        A server may end an idle connection, but neither what it has read a request from nor what had no answer yet.
        """
        is_idle = self.is_reused and self.response is None and not self.unread
        return bool(is_idle) and sockets.has_crossed(self.fd)

    def send(self, data: bytes) -> bool:
        """Send bytes, and return whether the kernel took all of them; the rest follows as soon as it can.

        A flooder sends its next block, 64 KiB at most, from `on_time` or `on_drained`, so that other clients get a
        turn.
        """
        return self.cohort.engine.send(self, data)

    def finish_sending(self) -> None:
        """Close our half of the connection (FIN); the server's is still read."""
        self.cohort.engine.finish_sending(self)

    def stop_reading(self) -> None:
        """Stop reading, so that the window closes. Only a reset is noticed then: a FIN stays behind the unread data."""
        self.cohort.engine.stop_reading(self)

    def resume_reading(self) -> None:
        """Read again, at most `read_bytes` at a time."""
        self.cohort.engine.resume_reading(self)

    def go_dark(self) -> None:
        """Vanish: everything that the server sends is dropped unanswered.

        `is_forgotten` tells whether the server has noticed; so does its answer to a byte sent after `come_back`.
        """
        self.cohort.engine.go_dark(self)

    def come_back(self) -> None:
        """End `go_dark`."""
        self.cohort.engine.come_back(self)

    @property
    def is_dark(self) -> bool:
        """Whether it has vanished."""
        return self in self.cohort.engine.dark

    def is_forgotten(self) -> bool | None:
        """Whether the server has closed its end, which a client that does not read cannot see.

        The kernel is asked, so nothing is sent. `None` if it cannot know, because the server is on another machine.
        """
        sock_diag = self.cohort.engine.sock_diag
        return None if sock_diag is None else sock_diag.closed(self.fd)

    def written(self) -> tuple[int, int] | None:
        """How many bytes of the server's have come, and how many it has written that wait in its kernel.

        `None` if the kernel cannot know, because the server is on another machine.
        """
        sock_diag = self.cohort.engine.sock_diag
        return None if sock_diag is None else sock_diag.written(self.fd)

    def leave(self, return_in: float = NEVER) -> None:
        """Close, and reconnect after this many seconds."""
        self.cohort.engine.leave(self, return_in=return_in, reset=False)

    def abort(self, return_in: float = NEVER) -> None:
        """Like `leave`, with RST instead of FIN."""
        self.cohort.engine.leave(self, return_in=return_in, reset=True)

    def hold(self) -> None:
        """Declare the client established."""
        self.cohort.engine.hold(self)

    def wake_in(self, seconds: float) -> None:
        """Have `on_time` called after this many seconds, if the connection lasts; this replaces any earlier call."""
        if self.fd >= 0:
            self.cohort.engine.wheel.set(self, now() + seconds)

    def fail(self, reason: str, *, turned_away: bool = False) -> None:
        """Give up, because the server did not do what this persona needs."""
        self.cohort.engine.end(self, reason, turned_away=turned_away)

    def return_as_planned(self) -> bool:
        """Come back at once after an end that the server planned, as users' clients do; return whether it is one."""
        is_user = self.honest and not self.slow and self.stage is Stage.HELD
        if not is_user or not is_planned(self.cohort.planned_ends.setdefault(self.number, [])):
            return False
        self.cohort.engine.reopen(self)
        return True

    def reject(self, status: int) -> None:
        """Give up because of an answer's status."""
        self.fail(f"answered {status}", turned_away=status in TURNED_AWAY)

    def pace(self, seconds: float) -> float:
        """Vary an interval by a fifth either way, so that clients do not act at the same moment."""
        return seconds * self.cohort.place.random.uniform(0.8, 1.2)


class Attacker(Client):
    """A client that counts as held from the moment it is connected, and that ignores answers."""

    honest = False
    needs = Needs.HTTP

    answered = state(0)  # the status of its answer, 0 without one

    def on_connected(self) -> None:
        self.hold()

    def on_data(self, data: bytes) -> None:
        """Record an answer's status and stay, as an attacker would."""
        if self.answered:
            return
        self.unread = (self.unread + data)[:ANSWER_BYTES]
        status = wire.final_status(self.unread)
        if status is not None:
            self.answered, self.unread = status, b""
            self.cohort.answers[f"answered {status}"] += 1

    def on_hangup(self, how: str) -> None:
        """Book the end under the status of the answer, which says more than how the socket ended."""
        if self.answered:
            self.reject(self.answered)
        else:
            self.fail(how)

    def on_closed(self) -> None:
        super().on_closed()
        self.answered = 0


def source_number(client: Client) -> int:
    """The number of a client's source address; an honest slow client has one of its own, apart from the crowd's."""
    if client.one_address:
        return SHARED_ADDRESS
    if client.slow:
        return SHARED_ADDRESS + 1 + client.index
    place = client.cohort.place
    # a group has as many numbers as clients, so no two groups and no two processes share an address
    return place.first_index + (client.index - place.first_index) // place.per_address
