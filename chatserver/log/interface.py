"""What a log is: the words, the errors and the promises that every engine keeps.

Owns: the values that cross the border, the limits all engines share, the `Log` protocol. May not: know an
engine, a wire form or a connection. The one conformance suite in tests/log/ runs against every engine.

    log = open_log("sqlite:chat.db")
    await nursery.start(log.run, hub.news)
    stored = await log.append(Draft(room="lobby", user_id="u_1", user_name="Ann", text="hi"))

The promises. A room's offsets start at 1 and have no holes, and none is given out twice within an epoch. What
was answered with `Stored` is durable. News comes once for every fresh record, in commit order, before the
answers of its group. A group is stored whole or not at all. Every draft and every read is answered within
ANSWER_DEADLINE, by an error if the disk hangs; when it goes on, so does the log, without being told.
"""

import secrets
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec
import trio

MAX_PENDING = 20_000  # drafts waiting for the writer: 0.1 s of work for 1,000 publishers at 200,000/s
MAX_PENDING_TEXT = 16 * 1024 * 1024  # characters of text in them: 64 MiB at worst, a tenth of that for chat
MAX_GROUP = 256  # drafts in one commit: 1,000 would save 0.7 µs each, and hold the loop 15 ms for the answers
MAX_READ = 1_000  # records or rooms in one answer of a read: a bigger `limit` is cut to this
# bytes of text in one answer of a read that names no bound of its own: twice what MAX_READ records of ordinary chat
# have, and four times what a page of the API holds; 200 messages of 8 KB would be 1.6 MB
MAX_READ_BYTES = 256 * 1024
KEY_LIFETIME = 600.0  # s: the same key from the same user in the same room within it is the same message
DRAIN_DEADLINE = 5.0  # s, total, from cancellation to the last commit; a disk slower than that is broken
# s, total, from a call to its answer, whatever the disk does: half of what the edge waits for an answer of ours, so
# that a client is told and not hung up on; more than twice the wait for a file that another program has locked.
ANSWER_DEADLINE = 5.0
EPOCH_LENGTH = 6  # of 36 letters: 2 thousand million, so two lives of one log never meet under one name
SECRET_BYTES = 16
_EPOCH_LETTERS = string.ascii_lowercase + string.digits


class LogError(Exception):
    """Something the log could not do; the message is fit for the operator's eyes."""


class LogOpenError(LogError):
    """The log cannot be opened: says what is wrong and what to do about it.

    Trying again alone will not help.
    """


class LogBusy(LogError):  # noqa: N818 -- it names a state of the log, not a fault
    """More drafts wait than the writer may hold, or for too long. Nothing was stored; come back a little later."""


class LogUnavailable(LogError):  # noqa: N818 -- as LogBusy
    """The disk is full, read-only, locked, failing or silent, or the log is closed.

    Worth another try with the same key: a disk that said nothing in time may have stored it all the same.
    """


class Identity(msgspec.Struct, frozen=True):
    """Which log this is: made with it, kept with it."""

    epoch: str  # one life of the log: offsets are never reused within it
    secret: bytes  # 16 random bytes, for keyed digests of things that belong to this log


def new_identity() -> Identity:
    """The identity of a new log; an engine keeps it where it keeps its messages."""
    epoch = "".join(secrets.choice(_EPOCH_LETTERS) for _ in range(EPOCH_LENGTH))
    return Identity(epoch=epoch, secret=secrets.token_bytes(SECRET_BYTES))


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message that has no place yet."""

    room: str
    user_id: str
    user_name: str
    text: str
    key: str | None = None  # the user's own name for this message, so that a retry is not a second message


class Record(msgspec.Struct, frozen=True, gc=False):
    """A message in its place."""

    room: str
    offset: int  # from 1, without holes
    time: int  # ms since the Unix epoch, UTC; never decreases within a room, whatever the clock does
    user_id: str
    user_name: str
    text: str


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The answer to a draft: where it is.

    Not `fresh` when its key had been used: then `record` is the first result.
    """

    record: Record
    fresh: bool


class Head(msgspec.Struct, frozen=True, gc=False):
    """The ends of what is kept of a room; `first` is `last + 1` when nothing is."""

    first: int
    last: int  # 0 for a room never written


class RoomSummary(msgspec.Struct, frozen=True, gc=False):
    """A room in a list of rooms."""

    room: str
    messages: int  # kept, not ever written
    last: int


class Statistics(msgspec.Struct, frozen=True):
    """What `/metrics` shows of a log; all but `pending` only grow."""

    pending: int  # drafts waiting or being committed
    groups: int  # commits that succeeded
    records: int  # fresh records in them
    failures: int  # commits that failed, each with its whole group
    late: int  # drafts answered at ANSWER_DEADLINE, because the disk had not


News = Callable[[Sequence[Record]], None]
Answer = Callable[[Stored | LogError], None]
Step = Callable[[], bool]  # does a little of some work; whether there is more
Schedule = Callable[[Step], None]  # calls a step on the loop, at once or in its turn, until there is no more


def at_once(step: Step) -> None:
    """Do all of it now: the schedule of a program that has no other."""
    while step():
        pass


class Log(Protocol):
    """Where messages live.

    `run` is the writer and owns the log's life; the rest may be called from any task while it runs. A call at
    any other time raises LogUnavailable.
    """

    @property
    def identity(self) -> Identity:
        """Which log this is; valid once `run` has started."""

    async def run(
        self, news: News, *, schedule: Schedule = at_once, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Open the log, then commit groups until cancelled; started with `await nursery.start(log.run, news)`.

        News and answers of finished groups are handed out by a step that `schedule` is given: a few in each call, in
        their order. When cancelled it refuses new drafts, commits what had been submitted within DRAIN_DEADLINE,
        answers LogUnavailable to what it could not commit by then, and closes; nothing is left to a step then. Raises
        LogOpenError if it cannot open.
        """

    def submit(self, draft: Draft, done: Answer) -> None:
        """Queue a draft; `done` is called once, on the trio loop, when its group is durable or has failed.

        Never blocks. Raises LogBusy when the queue is full or the disk has stopped answering, and ValueError for
        strings that are not Unicode text (lone surrogates); `done` is then never called. `news` and `done` must be
        short and must not raise. One that does is logged as the bug it is, and the others are called all the same.
        """

    async def append(self, draft: Draft) -> Stored:
        """Submit and wait. Cancelled, it no longer waits, but the draft may still be stored."""

    async def head(self, room: str) -> Head:
        """The ends of a room."""

    async def read(self, room: str, *, after: int, limit: int, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
        """The first records behind offset `after`, oldest first: up to `limit`, and up to `max_bytes` of text.

        Fewer than `limit` do not mean that there are no more. A record longer than `max_bytes` is read alone.
        """

    async def read_before(self, room: str, *, before: int, limit: int, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
        """The last records ahead of offset `before`, oldest first, bounded as in `read`."""

    async def latest(self, room: str, limit: int, *, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
        """The last records, oldest first, bounded as in `read`."""

    async def rooms(self, limit: int) -> list[RoomSummary]:
        """Rooms that hold something, of the MAX_READ written last, most recently written first.

        Rooms written in the same millisecond, or while the clock was set back, come in any order among themselves.
        """

    async def retain(self, *, max_messages: int, max_age_ms: int, now_ms: int) -> dict[str, int]:
        """Forget the oldest records beyond a count or an age (0 = no bound), in steps that let publishers
        through.

        Returns the new first offset of each room that lost something.
        """

    def statistics(self) -> Statistics:
        """Counters for `/metrics`."""


def within_bytes(records: Iterable[Record], max_bytes: int) -> list[Record]:
    """The first of these whose texts together are at most so many bytes of UTF-8; at least one, if there is one.

    Takes one record more than it returns, so a source that reads as it goes is not read to its end.
    """
    taken: list[Record] = []
    for record in records:
        text = record.text
        max_bytes -= len(text) if text.isascii() else len(text.encode())
        if max_bytes < 0 and taken:
            break
        taken.append(record)
    return taken
