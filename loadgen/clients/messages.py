"""The messages between the main process and its workers: calls down; a status or the whole result up.

Owns: these messages, their encoding, and how the results of several workers merge. Times are `time.monotonic()`, which
all processes of a machine share.
"""

import pickle
from collections import Counter
from collections.abc import AsyncGenerator, Container, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
import trio

from loadgen.net.target import USUAL, Endpoint, Target
from loadgen.report.latency import Late, Latency, Recent, pooled
from loadgen.report.schema import Tally

S = TypeVar("S", bound=msgspec.Struct)

_LENGTH_BYTES: Final = 4
_CHUNK: Final = 64 * 1024


#: A method of what the worker plays, with its arguments.
Call: TypeAlias = tuple[str, tuple[Any, ...], Mapping[str, Any]]


class Role(msgspec.Struct, frozen=True, kw_only=True):
    target: Target
    seed: int
    connect_rate: float
    endpoint: Endpoint = USUAL
    personas: list[str] = []  # files with further personas
    niceness: int = 0  # of the process, see nice(2)
    mark: str = "lg"  # what every message of the run's schedule begins with, in all processes


class GroupStatus(Tally, kw_only=True):
    """The counters of one persona's clients, now or when they were closed."""

    persona: str
    group: str
    due: int = 0  # clients that should have come by now; none after the group was closed
    starved: int = 0  # clients that have been connecting for too long
    # in a result only
    lifetime: Latency = msgspec.field(default_factory=Latency)  # from connect until the server ended it
    connects: Latency = msgspec.field(default_factory=Latency)  # until the connection was established; of honest ones
    handshakes: Latency = msgspec.field(default_factory=Latency)  # until it was held; of honest ones


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a worker; sent a few times a second and after each call."""

    calls: int  # made so far
    groups: list[GroupStatus] = []
    speakers: int = 0  # clients that the schedule can use once they are held
    has_opened: bool = True  # every client that was to open is held or has failed
    outstanding: int  # messages or operations without an answer yet
    acknowledged: int = 0  # messages of the schedule so far
    connected: int = 0  # victims that have been so far
    failures: int = 0  # of victims: connects that failed and connections that ended
    last_failure: str = ""
    last_came: float = 0.0  # when a client last became held for the first time
    recent: Recent


class TrafficResult(msgspec.Struct, kw_only=True):
    """The results of the schedule's messages: booked by `Traffic`, sent, merged."""

    acks: Latency = msgspec.field(default_factory=Latency)  # of all; without an acknowledgement it is the whole timeout
    echoes: Latency = msgspec.field(default_factory=Latency)
    acknowledged_in: dict[str, int] = msgspec.field(default_factory=Counter)  # by room
    checksums_in: dict[str, int] = msgspec.field(default_factory=Counter)  # the sums of their names' checksums, by room
    errors: dict[str, int] = msgspec.field(default_factory=Counter)
    unacknowledged: int = 0
    unreturned: int = 0
    unsent: int = 0  # due when no client could speak, and none could afterwards
    unanswered: list[float] = []  # when each of the unsent and the unacknowledged was due


class Reread(msgspec.Struct, frozen=True, kw_only=True):
    asked: int = 0  # acknowledged messages that were read again
    lost: int = 0  # of these, missing in the room's history
    unreadable: str = ""  # why nothing is known of some, which is no fault of the server's
    refused: str = ""  # how the server refused to give others
    rooms: int = 0  # whose members the server has told
    members_wrong: int = 0  # that are missing there, or have left


class PhaseResult(msgspec.Struct, kw_only=True):
    """The results of one kind of victims in one phase: booked by the recorder, sent, pooled."""

    phase: str
    kind: str
    latency: Latency = msgspec.field(default_factory=Latency)  # of all; a failed one counts with the whole timeout
    failed: dict[str, int] = msgspec.field(default_factory=Counter)
    first_failure: float | None = None  # when the first operation that failed was due
    expected: int = 0  # operations that the schedule had in this phase; each must be booked
    worst_median: float | None = None  # seconds: the highest median of a single victim
    outage: bool = False  # for a time in this phase nobody was answered, victim or newcomer

    @property
    def succeeded(self) -> int:
        return self.latency.count - sum(self.failed.values())


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The whole result, sent in answer to a call of `result`. Results of several processes are `merged` into one."""

    groups: list[GroupStatus] = []
    traffic: TrafficResult = msgspec.field(default_factory=TrafficResult)
    phases: list[PhaseResult] = []
    reread: Reread = Reread()
    lags: list[tuple[str, str, Late]] = []  # of each process: its part, a phase, and its lateness in it
    own_faults: dict[str, int] = {}
    sent_again: int = 0  # victims and newcomers that had to send packets again before the attack
    #: Room, messages of the run delivered to each, the sum of their checksums, and the number of such clients: honest,
    #: not slow, held.
    listeners: list[tuple[str, int, int, int]] = []

    def lag(
        self, part: str, percentile: float, phases: Container[str], *what: Literal["schedule", "looks", "reading"]
    ) -> float | None:
        """The lateness of the latest process of a part, in the worst of these phases, in seconds."""
        lates = (late for each, phase, late in self.lags if each == part and phase in phases)
        found = (getattr(late, each).at(percentile) for late in lates for each in what or ("schedule", "looks"))
        return max((seconds for seconds in found if seconds is not None), default=None)

    def missed(self) -> int:
        """Acknowledged messages that a member of their room did not get, counted for each such member."""
        due = self.traffic.acknowledged_in
        return self._swapped() + sum(number * max(due.get(room, 0) - got, 0) for room, got, _, number in self.listeners)

    def surplus(self) -> int:
        """Messages that a member got and was not due: twice, or of another room."""
        due, perhaps = self.traffic.acknowledged_in, self.traffic.unacknowledged
        return self._swapped() + sum(
            number * max(got - due.get(room, 0) - perhaps, 0) for room, got, _, number in self.listeners
        )

    def _swapped(self) -> int:
        """Members that got as many messages as were due, but not the same: at least one twice, and one never.

        If some messages were not acknowledged, any of them may have come, and no sum of checksums is due.
        """
        due, sums = self.traffic.acknowledged_in, self.traffic.checksums_in
        return sum(
            number
            for room, got, checksums, number in self.listeners
            if not self.traffic.unacknowledged and got == due.get(room, 0) and checksums != sums.get(room, 0)
        )


def encode(message: Role | Call | Status | Result) -> bytes:
    """A pickle behind its length. Both ends are processes of this program."""
    data = pickle.dumps(message)
    return len(data).to_bytes(_LENGTH_BYTES) + data


async def messages_in(stream: trio.abc.ReceiveStream) -> AsyncGenerator[Any, None]:
    rest = b""
    while chunk := await stream.receive_some(_CHUNK):
        rest += chunk
        while len(rest) >= (end := _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES])):
            yield pickle.loads(rest[_LENGTH_BYTES:end])  # noqa: S301  our own process
            rest = rest[end:]


def merged(one: S, other: S) -> S:
    """Merge the results of two processes: numbers and counters add up, distributions merge, names are equal in both."""
    fields = one.__struct_fields__
    return type(one)(**{name: _sum(getattr(one, name), getattr(other, name)) for name in fields})


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, str):
        return one or other
    if isinstance(one, dict):
        return dict(Counter(one) + Counter(other))
    if isinstance(one, Latency):
        return pooled((one, other))
    return merged(one, other) if isinstance(one, msgspec.Struct) else one + other


def merged_groups(many: Iterable[GroupStatus]) -> list[GroupStatus]:
    """Merge each persona's results from several processes; the sum of their peaks may be too high."""
    found: dict[tuple[str, str], GroupStatus] = {}
    for group in many:
        key = group.group, group.persona
        found[key] = merged(found[key], group) if key in found else group
    return list(found.values())
