"""What is known of each node, and of each pair of nodes.

Owns: the shapes, which are also the JSON of `--json`; times are milliseconds. May not: measure or judge.
"""

from enum import StrEnum

import msgspec


def milliseconds(seconds: float) -> float:
    """As they are kept and shown: what is below 0.01 ms is noise."""
    return round(seconds * 1000, 2)


class Trouble(StrEnum):
    """Why a node is not examined any further."""

    UNREACHABLE = "unreachable"
    FOREIGN = "not-a-chatserver"
    NOT_READY = "not-ready"
    REFUSED = "refused"  # it does not let us read or write
    MISDIRECTED = "misdirected"  # it has other names


class Shards(msgspec.Struct, frozen=True):
    """The servers of --shared, as /readyz counts them."""

    reachable: int
    of: int


class Node(msgspec.Struct, kw_only=True):
    """A server, as it answers at one URL."""

    url: str
    trouble: Trouble | None = None
    words: str = ""  # about the trouble: the system's or the server's own
    version: str = ""
    log: str = ""  # the engine
    epoch: str = ""
    shards: Shards | None = None
    clock_ms: float | None = None  # ahead of this machine's
    clock_error_ms: float = 0.0  # half of the round trip
    answer_ms: float | None = None  # the shortest round trip of /readyz
    publish_ms: float | None = None  # from a message to its acknowledgement, the median
    messages_clock_ms: float | None = None  # what its log stamps on messages, ahead of this machine's clock

    def fail(self, trouble: Trouble, words: str) -> None:
        """Note the first trouble; what follows from it is not news."""
        if self.trouble is None:
            self.trouble, self.words = trouble, words


class Delivery(msgspec.Struct, kw_only=True):
    """What became of messages published on one node, at another one or at itself."""

    sender: str
    receiver: str
    attempted: bool = False  # a message was acknowledged
    pushed_ms: float | None = None  # from the publish to its arrival over a WebSocket, the median; None: it never came
    polled_ms: float | None = None  # the same, to the answer of a held poll
    readable: bool = False  # by cursor, when it was asked for
    present: bool | None = None  # a member on the sender is in the receiver's list; None: not asked


class Severity(StrEnum):
    """A fault makes the exit code 1."""

    FAULT = "fault"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be, and what to do about it."""

    severity: Severity
    nodes: tuple[str, ...]
    what: str
    advice: str


class Report(msgspec.Struct, kw_only=True):
    """Everything."""

    ok: bool
    nodes: list[Node]
    deliveries: list[Delivery]
    findings: list[Finding]
