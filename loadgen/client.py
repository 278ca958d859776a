"""One virtual client, and the cohort it belongs to.

Owns: what a client is (a descriptor, a stage, a deadline and at most a few unread bytes: no task, no stack, no
socket object) and how its life is counted. A persona subclasses `Client` and says what is sent and what an answer
means; it never touches a socket, the engine does.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Any, ClassVar, Protocol

from loadgen import wire
from loadgen.latency import Latency
from loadgen.target import PER_SOURCE, SHARED_INDEX, USUAL, Endpoint
from loadgen.timers import NEVER, Wheel, now
from loadgen.traffic import Traffic

#: An attacker that was thrown out tries again after this long, give or take half: slow-loris tools do, and one that
#: did not would leave nothing to measure after the first deadline.
ATTACKER_RETURNS_SECONDS = 1.0

#: Answers that mean "not now" rather than "you did wrong".
TURNED_AWAY = frozenset((429, 503))

#: The same as close codes: service restart, try again later (IANA's registry).
CLOSED_FOR_NOW = frozenset((1012, 1013))

#: Answers that mean that what was asked for is not there, or not done here: an attack on it is none.
ABSENT_STATUSES = frozenset(("answered 404", "answered 405", "answered 426", "answered 501"))

#: How a connection ended that the server closed in good order; any other end is named after its error.
CLOSED = "closed"

#: An attacker looks for an answer's status in so many bytes: room for a `100 Continue` and its fields before it.
ANSWER_BYTES = 1024


class Stage(Enum):
    """Where a client is in its life."""

    WAITING = "not connected"
    CONNECTING = "the connection is being made"
    OPENING = "connected, not yet what it wants to be"
    HELD = "established: this is what the run counts"
    OVER = "gone for good"


class Needs(Enum):
    """What a target must speak for a persona to have anything to play."""

    HTTP = "HTTP/1.1"
    WEBSOCKET = "WebSocket"
    CHAT = "chat.v1"


class Threat(Enum):
    """How an attacker does harm; the bar, and how attacks are told apart in tables, go by it."""

    SLOW = "slow or silent"  # holds what it has, and hardly does anything
    GREEDY = "greedy"  # takes all that it gets
    MALFORMED = "malformed"  # says what nobody should understand

    @property
    def everybody(self) -> str:
        """What `--kind` calls all of them."""
        return f"all-{self.name.lower()}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the clients of a run have in common: where they go, and what they do there."""

    host: str  # for the Host field
    rooms: tuple[str, ...]
    poll_wait_seconds: float
    random: Random  # the only randomness of a persona, so that a run can be replayed
    traffic: Traffic | None = None
    endpoint: Endpoint = USUAL
    # The chat contract's; `{room}` and `{wait}` are filled in where they occur.
    post_path: str = "/rooms/{room}/messages"
    poll_path: str = "/rooms/{room}/messages?wait={wait:g}"
    stream_path: str = "/rooms/{room}/events"

    @property
    def path(self) -> str:
        """What plain requests ask for."""
        return self.endpoint.path

    @property
    def websocket_path(self) -> str:
        """Where the target speaks WebSocket."""
        return self.endpoint.websocket_path


class Connections(Protocol):
    """What a client has done for it: the engine, seen from a client. `Client` says what each is for."""

    wheel: Wheel[Client]
    own_faults: Counter[str]  # what this machine, not the target, refused

    def send(self, client: Client, data: bytes) -> bool: ...
    def finish_sending(self, client: Client) -> None: ...
    def stop_reading(self, client: Client) -> None: ...
    def resume_reading(self, client: Client) -> None: ...
    def go_dark(self, client: Client) -> None: ...
    def come_back(self, client: Client) -> None: ...
    def is_dark(self, client: Client) -> bool: ...
    def is_forgotten(self, client: Client) -> bool | None: ...
    def leave(self, client: Client, *, return_in: float, reset: bool) -> None: ...
    def hold(self, client: Client) -> None: ...
    def end(self, client: Client, reason: str, *, turned_away: bool = False) -> None: ...
    def reopen(self, client: Client) -> None: ...


@dataclass(kw_only=True, eq=False)
class Cohort:
    """All clients of one persona, and what became of them."""

    persona: type[Client]
    engine: Connections
    place: Place
    wanted: int
    first_index: int = 0  # of its clients
    made: int = 0
    over: bool = False  # closed by us for good: nobody returns
    held: int = 0
    peak: int = 0
    opened: int = 0  # times a client came to be held
    left: int = 0  # times a client closed by itself
    sent_bytes: int = 0
    received_bytes: int = 0
    deliveries: int = 0  # chat messages received
    refused: Counter[str] = field(default_factory=Counter)  # turned away at the door
    failed: Counter[str] = field(default_factory=Counter)  # never came to be held, for another reason
    ended: Counter[str] = field(default_factory=Counter)  # held, then ended by the server
    answers: Counter[str] = field(default_factory=Counter)  # what attackers were told, whether it ended them or not
    lifetime: Latency = field(default_factory=Latency)  # from connect to the server's ending it
    connects: Latency = field(default_factory=Latency)  # from connect to the connection's being made
    handshakes: Latency = field(default_factory=Latency)  # from connect to being held

    def __post_init__(self) -> None:
        # by client: an attribute would take five times as much
        self.born = array("d", bytes(8 * self.wanted))  # when it began to connect
        self._came = bytearray(self.wanted)  # whether it ever reached the server

    def make(self, upto: int) -> list[Client]:
        """Make clients until there are so many; returns those that are new."""
        new = [self.persona(self, self.first_index + number) for number in range(self.made, upto)]
        self.made = max(upto, self.made)
        return new

    @property
    def came(self) -> int:
        """Clients that reached the server at least once: held, or turned away by its answer."""
        return self._came.count(1)

    def count_coming(self, client: Client) -> None:
        self._came[client.number] = 1

    def count_end(self, client: Client, reason: str, *, turned_away: bool) -> None:
        """Book that the server, or the network, ended this client."""
        if turned_away and reason.startswith("answered"):
            self.count_coming(client)
        if turned_away and (client.stage is not Stage.HELD or not client.honest):
            self.refused[reason] += 1
        elif client.stage is Stage.HELD:
            self.ended[reason] += 1
            self.lifetime.record(now() - client.born)
        else:
            self.failed[reason] += 1


class _Slotted(type):
    """Classes of clients have the slots that they declare, and no dictionary: 18,000 clients would each have one."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _Slotted:
        namespace.setdefault("__slots__", ())
        return super().__new__(mcs, name, bases, namespace)


class Client(metaclass=_Slotted):
    """A persona's base: what the engine calls, and what a persona may do.

    Subclasses declare a `name`, whether they are `honest`, and a docstring whose first line `loadgen list` prints; and
    `__slots__`, if they have a state of their own. docs/personas.md shows how to write one.
    """

    __slots__ = ("cohort", "due", "fd", "index", "stage", "tick", "unread")

    name: ClassVar[str]
    honest: ClassVar[bool]
    slow: ClassVar[bool] = False  # honest, and slower than most: a neighbour that no attack may hurt
    threat: ClassVar[Threat] = Threat.SLOW  # of an attacker
    needs: ClassVar[Needs] = Needs.CHAT
    usual_clients: ClassVar[int] = 8000  # how many a scorecard plays
    returns_seconds: ClassVar[float] = ATTACKER_RETURNS_SECONDS  # after which an attacker comes back, give or take half
    receive_buffer_bytes: ClassVar[int] = 0  # SO_RCVBUF, which bounds the window; 0 = the kernel's choice
    send_buffer_bytes: ClassVar[int] = 0  # SO_SNDBUF, which bounds what waits in our own kernel; 0 = its choice
    segment_bytes: ClassVar[int] = 0  # TCP_MAXSEG; 0 = the kernel's, which is 64 KiB on the loopback
    read_bytes: ClassVar[int] = 16 * 1024  # most that is read at once
    below_tls: ClassVar[bool] = False  # sends its bytes as they are to a TLS target, too
    one_address: ClassVar[bool] = False  # all clients of this persona share one source address
    speaks: ClassVar[bool] = False  # the schedule may call upon it
    echoes: ClassVar[bool] = False  # what it says comes back to it
    silent: ClassVar[bool] = False  # sends no byte, on purpose
    cycle_seconds: ClassVar[float] = 0.0  # of a slow client: until it has done once all that it does

    def __init__(self, cohort: Cohort, index: int) -> None:
        self.cohort = cohort
        self.index = index  # in the run: its source address goes by it
        self.fd = -1
        self.stage = Stage.WAITING
        self.due = NEVER  # `due` and `tick` belong to the wheel
        self.tick = -1
        self.unread = b""  # bytes received that are not yet a whole unit

    @property
    def number(self) -> int:
        """Its number within its persona: what parts of a crowd do goes by it."""
        return self.index - self.cohort.first_index

    @property
    def born(self) -> float:
        """When it began to connect."""
        return self.cohort.born[self.number]

    @property
    def room(self) -> str:
        """Where it is a member: by its number, so that every room has its share of each persona."""
        rooms = self.cohort.place.rooms
        return rooms[self.number % len(rooms)]

    # What a persona says

    def opening(self) -> bytes:
        """Return the first bytes to send, as soon as the connection stands."""
        raise NotImplementedError

    def on_connected(self) -> None:
        """React to the connection being made and the opening bytes sent."""

    def on_data(self, data: bytes) -> None:
        """React to bytes from the server."""
        raise NotImplementedError

    def on_time(self, moment: float) -> None:
        """React to the moment asked for with `wake_in`."""

    def on_drained(self) -> None:
        """React to the kernel's having taken everything that an earlier `send` could not give it."""

    def on_hangup(self, how: str) -> None:
        """React to the server's closing or resetting the connection."""
        self.fail(how)

    # What a persona may do

    def send(self, data: bytes) -> bool:
        """Send bytes; what the kernel does not take now follows when it does. Whether it took all.

        A flooder sends its next block from `on_time` or `on_drained`, one of at most 64 KiB: others want their turn.
        """
        return self.cohort.engine.send(self, data)

    def finish_sending(self) -> None:
        """Close our half of the connection (FIN); the server's is still read."""
        self.cohort.engine.finish_sending(self)

    def stop_reading(self) -> None:
        """Read nothing more, so that the window closes. Only a reset is noticed then: a FIN is among the unread."""
        self.cohort.engine.stop_reading(self)

    def resume_reading(self) -> None:
        """Read again, at most `read_bytes` at a time."""
        self.cohort.engine.resume_reading(self)

    def go_dark(self) -> None:
        """Vanish: whatever the server sends is dropped unanswered, as if the cable were cut.

        Whether the server has noticed is known from `is_forgotten`, or after `come_back` and a byte sent.
        """
        self.cohort.engine.go_dark(self)

    def come_back(self) -> None:
        """End `go_dark`."""
        self.cohort.engine.come_back(self)

    @property
    def is_dark(self) -> bool:
        """Whether it has vanished."""
        return self.cohort.engine.is_dark(self)

    def is_forgotten(self) -> bool | None:
        """Whether the server has closed its end, which a client that does not read is not told.

        The kernel is asked, so that asking is no sign of life. `None` where it cannot know: off this machine.
        """
        return self.cohort.engine.is_forgotten(self)

    def leave(self, return_in: float = NEVER) -> None:
        """Close, and connect anew after so many seconds."""
        self.cohort.engine.leave(self, return_in=return_in, reset=False)

    def abort(self, return_in: float = NEVER) -> None:
        """Like `leave`, with RST instead of FIN."""
        self.cohort.engine.leave(self, return_in=return_in, reset=True)

    def hold(self) -> None:
        """Declare the client established."""
        self.cohort.engine.hold(self)

    def wake_in(self, seconds: float) -> None:
        """Have `on_time` called after so many seconds, instead of any earlier wish."""
        self.cohort.engine.wheel.set(self, now() + seconds)

    def fail(self, reason: str, *, turned_away: bool = False) -> None:
        """Give up: the server did not do what this persona came for."""
        self.cohort.engine.end(self, reason, turned_away=turned_away)

    def reject(self, status: int) -> None:
        """Give up because of an answer's status."""
        self.fail(f"answered {status}", turned_away=status in TURNED_AWAY)


class Attacker(Client):
    """A client that counts as held from the moment it is connected and that ignores what it is told."""

    __slots__ = ("answered",)

    honest = False
    needs = Needs.HTTP

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self.answered = 0  # status of the answer it got, if any

    def on_connected(self) -> None:
        self.answered = 0
        self.hold()

    def on_data(self, data: bytes) -> None:
        """Note an answer's status and stay, as an attacker would."""
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

    def pace(self, seconds: float) -> float:
        """Spread an interval by a fifth either way, so that a crowd does not act in step."""
        return seconds * self.cohort.place.random.uniform(0.8, 1.2)


class Speaking(Client):
    """A client that the schedule calls upon, from when it says so until it fails."""

    __slots__ = ("_traffic",)

    honest = True
    speaks = True

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        traffic = cohort.place.traffic
        assert traffic is not None, "a run with speakers has traffic"
        self._traffic: Traffic = traffic

    def publish(self, number: int, text: str) -> None:
        """Send `text`, to be acknowledged under `number`."""
        raise NotImplementedError

    def fail(self, reason: str, *, turned_away: bool = False) -> None:
        """Leave the schedule too."""
        self._traffic.leave(self)
        super().fail(reason, turned_away=turned_away)


def source_index(client: Client) -> int:
    """Whose source address a client has: the honest slow come alone, not from the address of a crowd."""
    if client.one_address:
        return SHARED_INDEX
    return SHARED_INDEX + (1 + client.index) * PER_SOURCE if client.slow else client.index
