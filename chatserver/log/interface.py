"""What a log is: its values, its errors, its limits, and the promises that every engine keeps.

Owns: the values that pass between a log and its users, the limits that all engines share, the `Log` protocol. May not:
know an engine, a wire format or a connection. The conformance suite in tests/log/ runs against every engine.

    log = open_log("sqlite:chat.db")
    await nursery.start(log.run, hub.news)
    log.submit(Draft(room="lobby", user_id="u_1", user_name="Ann", text="hi"), answered)

The promises:
- The offsets of a room start at 1 and have no holes. No offset is used twice within an epoch.
- A message that was answered with `Stored` is durable. A group is stored whole or not at all.
- `news` gets every fresh record of this process once, in commit order, before the answers of its group. The records
  of one room in one call follow each other without a hole.
- Other processes write to a shared log as well. `on_hints` gets hints of their commits, which may be lost, late,
  doubled or wrong: only a read tells what the log holds. A read that begins after a commit finds it, whichever process
  made it.
- A read returns the present state of a message. A text that was edited or deleted is nowhere in the log any more; if
  the log has files of its own, it is in none of them after a minute. A database server vacuums in its own time.
- Retention that removes a message empties its last edit, which is kept, so that no text outlives its message.
- Whether an edit, a deletion or a reaction may happen is decided in its commit; a refusal fails that draft alone.
- Every draft and every read is answered within ANSWER_DEADLINE, with an error if the disk hangs. When the disk works
  again, the log does too.
"""

import secrets
import string
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, IntEnum
from time import time_ns
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from chatserver.log.program import PLAIN_PROGRAM, Program

if TYPE_CHECKING:
    from chatserver.log.audit import Audit
    from chatserver.log.index import Index
    from chatserver.log.markers import Markers
    from chatserver.log.sanctions import Sanctions
    from chatserver.log.signouts import SignOuts

#: Drafts waiting for the writer: 0.1 s of work at 200,000 a second.
MAX_PENDING = 20_000
#: Drafts waiting above which a network may add none beyond its share: 50 ms of work, with their answers.
SHARED_PENDING = 1_000
#: Characters of text in waiting drafts, those of texts that are not ASCII counted thrice: 22 MiB at four bytes each.
MAX_PENDING_TEXT = 16 * 1024 * 1024
#: Drafts in one commit: a publish waits for the one under way and its own (docs/measurements/2026-11-29-scheduler.md).
MAX_GROUP = 64
#: Characters of text, as `counted_text` has them, with which a commit takes no further draft: 64 of the longest take up
#: to 100 ms. As many that it removes: then it takes no further edit or deletion.
MAX_GROUP_TEXT = 64 * 1024
#: What a character counts for in a text that is not ASCII: its words take the index three times as long, and eight
#: times as long if they are ideographs.
FOREIGN = 3
#: Records or rooms in one answer of a read; a higher `limit` is cut to this.
MAX_READ = 1_000
#: Bytes of text in one answer of a read without a bound of its own: twice those of MAX_READ records of ordinary chat.
MAX_READ_BYTES = 256 * 1024
#: Milliseconds for which a key of a user in a room stands for the same message. It also ends once the clock was set
#: back by as much: keys of a clock that was ahead would stay for as long as it was, and stop the removal of later ones.
KEY_LIFETIME_MS = 600_000
#: Keys stored between two removals of expired ones, so that most groups need no statement for it.
EXPIRE_EVERY = 512
#: Seconds from cancellation to the last commit. A disk slower than that is broken.
DRAIN_DEADLINE = 5.0
#: Seconds from a call to its answer, whatever the disk does: half as long as the edge waits, so that a client gets an
#: error and keeps its connection, and more than twice SQLite's BUSY_TIMEOUT.
ANSWER_DEADLINE = 5.0
#: Different emoji that one message may have as reactions: Discord 20, Slack 23.
MAX_EMOJI = 20
#: Reactions of one message, of all users and emoji; its deletion removes them all, in 4 ms.
MAX_REACTIONS = 20_000
#: The hints that sanctions, sign-outs or texts have changed; no name of a room begins with an asterisk.
SANCTIONS_CHANGED, SIGNOUTS_CHANGED, TEXTS_CHANGED = "*sanctions", "*signouts", "*texts"
#: The same of a process that has opened the log, and may have found another history in it.
OPENED = "*opened"
#: Letters of an epoch, from an alphabet of 36: with 2 thousand million epochs, two logs hardly ever get the same one.
EPOCH_LENGTH = 6
_EPOCH_LETTERS = string.ascii_lowercase + string.digits


class LogError(Exception):
    """An operation of the log has failed. The message is for the operator: it may name paths."""


class LogOpenError(LogError):
    """The log cannot be opened; the message says why and what to do. Trying again does not help."""


class LogBusy(LogError):  # noqa: N818 -- it names a state of the log, not a fault
    """Too many drafts wait for the writer, or this one waited too long. It was not stored; try again a little later."""


class LogUnavailable(LogError):  # noqa: N818 -- as LogBusy
    """The disk is full, read-only, locked, failing or silent, or the log is closed. Try again with the same key."""


class RefusalReason(Enum):
    """Why an edit, a deletion, a reaction or a reply did not happen."""

    MISSING = "there is no such message"
    DELETED = "the message was deleted"
    NOT_AUTHOR = "only its author may do that"
    TOO_LATE = "the time in which its author might do that is over"
    TOO_MANY_EMOJI = f"the message has {MAX_EMOJI} different emoji, the most allowed"
    TOO_MANY_REACTIONS = f"the message has {MAX_REACTIONS:,} reactions, the most allowed"


class Refused(LogError):  # noqa: N818 -- an answer, not a fault
    """The content of the log does not allow this draft. Nothing was stored; trying again does not help."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Identity(msgspec.Struct, frozen=True):
    """Which log this is; made when the log is made, and kept with its messages."""

    epoch: str  # names one life of the log: no offset is used twice within it
    secret: bytes  # 16 random bytes, for keyed digests of things that belong to this log


def new_identity() -> Identity:
    """The identity of a new log; an engine keeps it where it keeps its messages."""
    epoch = "".join(secrets.choice(_EPOCH_LETTERS) for _ in range(EPOCH_LENGTH))
    return Identity(epoch=epoch, secret=secrets.token_bytes(16))


class Kind(IntEnum):
    """What a record is. The numbers are stored."""

    MESSAGE = 0
    EDIT = 1
    DELETE = 2
    REACTION = 3


#: For each record: to look up a member of an enum costs CPython 3.11 some 900 instructions, and a global hardly any.
MESSAGE, EDIT, DELETE, REACTION = Kind


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A record that has no offset yet."""

    room: str
    user_id: str
    user_name: str
    text: str  # of a message or an edit
    key: str | None = None  # the user's idempotency key: a retry with the same key is the same record
    network: str = ""  # of the sender, for fair shares of the queue; not stored
    kind: Kind = Kind.MESSAGE
    target: int = 0  # offset of the message that it changes; of a message, the message that it replies to, or 0
    mentions: tuple[str, ...] = ()  # ids of users, of a message
    emoji: str = ""  # of a reaction
    on: bool = True  # of a reaction: False takes it away
    window_ms: int = 0  # how long after a message its author may edit and delete it
    as_moderator: bool = False  # may delete what others wrote, at any time
    is_blind: bool = False  # its author may not read the room, so a refusal tells nothing about messages of others
    known: int = 0  # the room's last offset in the memory of this process


class MessageState(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What happened to a message since it was stored."""

    edited: int = 0  # ms since 1970, of the last edit
    edit: int = 0  # the offset of the last edit, the only edit that still has its text
    deleted: bool = False
    reactions: tuple[tuple[str, int], ...] = ()  # emoji and number of users, in order of first use


class Reaction(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One user's reaction to a message."""

    emoji: str
    on: bool  # False: it was taken away
    count: int  # of this emoji on this message, after this reaction


class Record(msgspec.Struct, frozen=True, gc=False):
    """A message, or a later change to one, with its offset."""

    room: str
    offset: int  # from 1, without holes
    time: int  # ms since the Unix epoch, UTC; never decreases within a room, even if the clock is set back
    user_id: str  # of the user who wrote or did it
    user_name: str
    text: str  # the present text; empty once deleted, and in an edit once a later edit followed
    kind: Kind = Kind.MESSAGE
    target: int = 0  # as in the draft
    mentions: tuple[str, ...] = ()
    state: MessageState | None = None  # only of a message that was changed
    reaction: Reaction | None = None
    alters: tuple["Record", ...] = ()  # in the news: the records that this one changes, in their new form
    empties: int = 0  # in the news: the offset of an earlier edit whose text is removed


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The answer to a draft. If its key was used before, `record` is that first record, and `fresh` is False.

    A reaction that changes nothing is not stored and not fresh: its `record` has the room's last offset.
    """

    record: Record
    fresh: bool


class Range(msgspec.Struct, frozen=True, gc=False):
    """The records that a read asks for: the first ones after an offset of a room, or the last ones before one."""

    room: str
    limit: int  # of records; above MAX_READ it is cut to that
    after: int = 0
    last: bool = False  # the last ones
    before: int | None = None  # with `last`; None: up to the end
    max_bytes: int = MAX_READ_BYTES  # of text; a record that is longer is returned alone
    messages_only: bool = False  # with `last`: records of other kinds are skipped, however many there are


class Head(msgspec.Struct, frozen=True, gc=False):
    """The first and the last offset that a room keeps; `first` is `last + 1` if it keeps nothing."""

    first: int
    last: int  # 0 for a room never written


class RoomSummary(msgspec.Struct, frozen=True, gc=False):
    room: str
    messages: int  # records that are kept
    last: int


class Statistics(msgspec.Struct):
    """What `/metrics` shows of a log. All but `pending` only grow."""

    pending: int = 0  # drafts waiting or being committed
    groups: int = 0  # commits that succeeded
    failures: int = 0  # commits that failed, of a whole group or a step of retention
    late: int = 0  # drafts answered at ANSWER_DEADLINE, before the disk had stored them, or refused while it hangs


News = Callable[[Sequence[Record]], None]
#: Called with the outcome of a draft.
OnAnswer = Callable[[Stored | LogError], object]
#: For a room: how many messages it keeps, and for how many ms; 0: no bound.
Keeps = Callable[[str], tuple[int, int]]


class Log(Protocol):
    """Where messages live.

    The log is open while `run` runs. The other methods may be called from any task then, and raise LogUnavailable at
    any other time.
    """

    @property
    def identity(self) -> Identity:
        """Which log this is; valid once `run` has started."""

    @property
    def shared(self) -> bool:
        """Whether other processes may write to it too."""

    @property
    def reachable(self) -> bool:
        """Whether the engine was reachable when last used, and this process has threads to use it.

        One that stores nothing but can be read, since a disk is full, is reachable.
        """

    def wall_ms(self) -> int:
        """The time in ms since 1970, by the one clock of all processes on this log; valid once `run` has started."""

    @property
    def markers(self) -> "Markers":
        """How far each user has read."""

    @property
    def signouts(self) -> "SignOuts":
        """Sign-outs everywhere."""

    @property
    def index(self) -> "Index":
        """The full text of its messages."""

    @property
    def sanctions(self) -> "Sanctions":
        """Mutes and bans."""

    @property
    def audit(self) -> "Audit":
        """What moderators did."""

    async def run(
        self, news: News, program: Program = PLAIN_PROGRAM, *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:  # fmt: skip
        """Open the log, then commit groups until cancelled; started with `await nursery.start(log.run, news, program)`.

        When cancelled it refuses new drafts, commits the submitted ones within DRAIN_DEADLINE, answers LogUnavailable
        to the rest, hands out all answers, and closes. Raises LogOpenError if it cannot open.
        """

    def submit(self, draft: Draft, done: OnAnswer) -> None:
        """Queue a draft; `done` is called once, on the trio loop, when its group is durable or has failed.

        Never blocks. Raises LogBusy when the queue is full or the disk has stopped answering; `done` is then never
        called. The texts of a draft have no NUL and no lone surrogates, which protocol/validation.py refuses: a
        database that cannot store one fails the group.
        """

    async def head(self, room: str) -> Head:
        """The first and the last offset of a room."""

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        """The first and the last offset of up to MAX_READ rooms, in one query; those never written are left out."""

    async def read(self, wanted: Range) -> list[Record]:
        """These records, oldest first. Fewer than its `limit` does not mean that there are no more."""

    async def newest(self, room: str, limit: int) -> tuple[Head, list[Record]]:
        """`head`, then the last records, in one job: what is stored meanwhile is among these, beyond `head.last`."""

    async def rooms(self, limit: int) -> list[RoomSummary]:
        """The rooms that hold something among the MAX_READ last written, most recently written by the clock first."""

    async def retain(self, keeps: Keeps) -> dict[str, int]:
        """Remove the oldest records beyond what rooms keep, a little at a time, between commits.

        `keeps` is called from any thread. Returns the new first offset of each room that lost something.
        """

    def statistics(self) -> Statistics:
        """Counters for `/metrics`."""


def system_ms() -> int:
    """The clock of this machine, in ms since 1970."""
    return time_ns() // 1_000_000


def counted_text(text: str) -> int:
    """The characters that a text counts for in a commit."""
    return len(text) * (1 if text.isascii() else FOREIGN)


def bounded(limit: int) -> int:
    """A `limit` cut to 0..MAX_READ; engines could take a negative number for no limit."""
    return max(0, min(limit, MAX_READ))


def within_bytes(records: Iterable[Record], max_bytes: int) -> list[Record]:
    """As many of the first records as fit into `max_bytes` of UTF-8 text, but at least one."""
    taken: list[Record] = []
    for record in records:
        text = record.text
        max_bytes -= len(text) if text.isascii() else len(text.encode())
        if max_bytes < 0 and taken:
            break
        taken.append(record)
    return taken
