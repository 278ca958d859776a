"""What the conductor and its workers say to each other: one JSON object a line, orders down, answers up.

Owns: the words of that conversation, how they are written, and how several workers' words become one. Every order is
acted on in the order of arrival, and `Status` says how many a worker has heard, so that the conductor never takes an
old state for the answer to a new order. Times are `time.monotonic()`, which all processes of a machine share.
"""

from collections import Counter
from collections.abc import Container, Iterable
from typing import Any, Literal, TypeVar

import msgspec

from loadgen.latency import Late, Latency, Recent
from loadgen.target import Endpoint, Target

S = TypeVar("S", bound=msgspec.Struct)


class Order(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An order; the subclasses are all there are."""


class MakeClients(Order, frozen=True, kw_only=True):
    """Prepare a group: `counts` of clients by persona. Each is made when it is to connect."""

    group: str
    counts: dict[str, int]
    rooms: list[str]
    poll_wait_seconds: float
    endpoint: Endpoint
    first_index: int  # of the source addresses


class Open(Order, frozen=True, kw_only=True):
    """Open the clients of a group up to this share of them; those before were opened by former orders."""

    group: str
    share: float


class StartTraffic(Order, frozen=True, kw_only=True):
    """Let the speakers send this many messages a second, open-loop, until `StopTraffic` or another rate."""

    rate: float
    over_seconds: float = 0.0  # the rate grows, or falls, to it for so long
    text_bytes: int = 0  # at least so long is each message; 0 = a short sentence


class StopTraffic(Order, frozen=True, kw_only=True):
    """Begin no further message or operation."""


class Close(Order, frozen=True, kw_only=True):
    """Close the clients of a group for good."""

    group: str


class MakeVictims(Order, frozen=True, kw_only=True):
    """Make the victims, connect them, and start their schedules."""

    counts: dict[str, int]  # by kind of victim, see loadgen/victims
    timeout_seconds: float
    interval_seconds: float  # between two operations of one victim
    newcomers_per_s: float
    endpoint: Endpoint


class BeginPhase(Order, frozen=True, kw_only=True):
    """Book from now on in this phase."""

    phase: str


class EndProbes(Order, frozen=True, kw_only=True):
    """Book every outstanding operation as failed, and look again for every message that was acknowledged."""

    reread: bool  # whether the target keeps messages


class SendResult(Order, frozen=True, kw_only=True):
    """Send the whole result."""


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """The first line that a worker gets: its role."""

    target: Target
    seed: int
    connect_rate: float
    personas: list[str] = []  # files with personas that are not ours
    niceness: int = 0  # by how much it gives way to other processes


class GroupStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one persona's clients stand, or stood when they were closed."""

    persona: str
    group: str
    starved: int = 0  # clients that have been on their way in for too long
    # what a `Cohort` counts, under the names that it has there
    wanted: int
    held: int
    peak: int
    opened: int
    came: int  # clients that reached the server at least once
    left: int
    refused: dict[str, int]
    failed: dict[str, int]
    ended: dict[str, int]
    answers: dict[str, int]
    sent_bytes: int
    received_bytes: int
    deliveries: int
    # of a result
    lifetime: Latency | None = None  # how old they were when the server ended them
    connects: Latency | None = None  # of honest ones
    handshakes: Latency | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How a worker stands; sent a few times a second and after each order."""

    heard: int  # orders so far
    groups: list[GroupStatus] = []
    speakers: int = 0  # clients that the schedule may call upon, as soon as they are held
    has_opened: bool = True  # every client that was to be opened is held or has failed
    outstanding: int  # messages or operations without an answer yet
    connected: int = 0  # victims
    failures: int = 0  # of victims to connect, or their connections that ended
    last_failure: str = ""
    last_held: float = 0.0  # when a client last came to be held
    recent: Recent


class TrafficResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the schedule's messages."""

    acks: Latency = msgspec.field(default_factory=Latency)  # of all; what was not acknowledged took the whole timeout
    echoes: Latency = msgspec.field(default_factory=Latency)
    acknowledged_in: dict[str, int] = {}  # by room
    errors: dict[str, int] = {}
    unacknowledged: int = 0
    unreturned: int = 0
    unsent: int = 0


class Reread(msgspec.Struct, frozen=True, kw_only=True):
    """What became of messages that were acknowledged."""

    asked: int  # acknowledged messages that were looked for
    lost: int  # of these, not in the room's history
    unreadable: str = ""  # why rooms could not be read, if some could not


class PhaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one group of victims met in one phase."""

    phase: str
    kind: str
    latency: Latency  # of all operations; one that failed took the whole timeout
    failed: dict[str, int]
    first_failure: float | None  # when the first operation that failed had been due
    expected: int  # operations that the schedule had in this phase; each is booked
    worst_median: float | None  # seconds: the median of the victim that fared worst


class Result(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Everything, for once; the answer to `SendResult`. Those of several processes are `merged` into one."""

    groups: list[GroupStatus] = []
    traffic: TrafficResult = TrafficResult()
    phases: list[PhaseResult] = []
    reread: Reread | None = None
    lags: list[tuple[str, str, Late]] = []  # of each process: its part, a phase, and how late it was then
    ages: list[float] = []  # of the oldest attacker of each group still connected
    own_faults: dict[str, int] = {}
    listeners: list[tuple[str, str, int]] = []  # persona, room, and how many quick honest clients are held there

    def lag(
        self, part: str, percentile: float, phases: Container[str], what: Literal["schedule", "reading"] = "schedule"
    ) -> float | None:
        """How late the latest process of a part was in the worst of these phases, in seconds."""
        lates = (late for each, phase, late in self.lags if each == part and phase in phases)
        found = (getattr(late, what).at(percentile) for late in lates)
        return max((seconds for seconds in found if seconds is not None), default=None)

    def missed(self) -> int:
        """Messages that were acknowledged and that a member of their room was not given, for each such member."""
        due: Counter[str] = Counter()
        for persona, room, number in self.listeners:
            due[persona] += number * self.traffic.acknowledged_in.get(room, 0)
        for group in self.groups:
            due[group.persona] -= group.deliveries
        return sum(max(missing, 0) for missing in due.values())


AnyOrder = MakeClients | Open | StartTraffic | StopTraffic | Close | MakeVictims | BeginPhase | EndProbes | SendResult
AnyAnswer = Status | Result


def encode(word: msgspec.Struct) -> bytes:
    return msgspec.json.encode(word) + b"\n"


def merged(one: S, other: S) -> S:
    """Two processes' parts of one thing: numbers and reasons add up, distributions merge, names are those of both."""
    fields = one.__struct_fields__
    return type(one)(**{name: _sum(getattr(one, name), getattr(other, name)) for name in fields})


def _sum(one: Any, other: Any) -> Any:
    if one is None or other is None or isinstance(one, str):
        return one if other is None else other
    if isinstance(one, dict):
        return dict(Counter(one) + Counter(other))
    if isinstance(one, Latency):
        both = Latency()
        both.merge(one)
        both.merge(other)
        return both
    return merged(one, other) if isinstance(one, msgspec.Struct) else one + other


def merged_groups(many: Iterable[GroupStatus]) -> list[GroupStatus]:
    """Add the same persona's parts in several processes; their peaks may not have been at one moment."""
    found: dict[tuple[str, str], GroupStatus] = {}
    for group in many:
        key = group.group, group.persona
        found[key] = merged(found[key], group) if key in found else group
    return list(found.values())
