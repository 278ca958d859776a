"""The facts about each node, and about each pair of nodes.

Owns: the shapes, which are also the JSON of `--json`; times are milliseconds unless their names
say otherwise. May not: measure or judge.
"""

from enum import StrEnum

import msgspec


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, rounded to 0.01, below which everything is noise."""
    return round(seconds * 1000, 2)


class Trouble(StrEnum):
    """Why a node is not examined any further."""

    UNREACHABLE = "unreachable"
    FOREIGN = "not-a-chatserver"
    NOT_READY = "not-ready"
    REFUSED = "refused"  # it does not let us read or write
    LIMITED = "rate-limited"
    NO_WEBSOCKET = "no-websocket"
    UNAVAILABLE = "unavailable"  # it lets us, says that it is ready, and fails
    MISDIRECTED = "misdirected"  # the host of the URL is not one of its names


class Shards(msgspec.Struct, frozen=True):
    """The servers of --shared, as /readyz counts them."""

    reachable: int
    of: int


class Node(msgspec.Struct, kw_only=True):
    """A server as it answers at one URL."""

    url: str
    trouble: Trouble | None = None
    words: str = ""  # about the trouble, from the system or the server
    only_room: str = ""  # why it does not let us into a second room; then nobody is expected there
    version: str = ""
    log: str = ""  # the engine
    epoch: str = ""
    shards: Shards | None = None
    clock_ms: float | None = None  # ahead of this machine's
    clock_error_ms: float = 0.0  # half of the round trip
    answer_ms: float | None = None  # the shortest round trip of /readyz
    publish_ms: float | None = None  # from a message to its acknowledgement, the median
    messages_clock_ms: float | None = None  # the clock of its log's timestamps, ahead of this machine's

    def fail(self, trouble: Trouble, words: str) -> None:
        """Record the first trouble; later ones follow from it."""
        if self.trouble is None:
            self.trouble, self.words = trouble, words


class Delivery(msgspec.Struct, kw_only=True):
    """The delivery of messages published on one node, to another one or to itself."""

    sender: str
    receiver: str
    attempted: bool = False  # a message was acknowledged
    pushed_ms: float | None = None  # from the publish to its arrival over a WebSocket, the median; None: it never came
    readable: bool = False  # a read by cursor found it
    present: bool | None = None  # the receiver lists a member on the sender; None: not checked


class Severity(StrEnum):
    """The severity of a finding; a fault makes the exit code 1."""

    FAULT = "fault"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong, and what to do about it."""

    severity: Severity
    nodes: tuple[str, ...]
    what: str
    advice: str


class Report(msgspec.Struct, kw_only=True):
    ok: bool
    nodes: list[Node]
    deliveries: list[Delivery]
    findings: list[Finding]
