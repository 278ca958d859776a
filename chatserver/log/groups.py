"""Group commit: drafts that arrive while one group is being stored form the next group.

Owns: the queue of drafts, in which networks take turns, its bounds, the order of news and answers, the end of a log's
life. May not: know how a group is stored; an engine provides one function for that.

A commit costs one sync of the disk whatever its size, so all waiting drafts share it. A group begins with the first
draft that finds no commit under way, or when the commit before it ends. Each costs a thread's wake-up (as PostgreSQL's
`commit_delay`), so on a fast disk it does not begin before the engine's interval has passed since the last one began,
for each draft that the last one had, up to STRETCH: drafts that come one at a time do not wait, and busy rooms share.

A commit in a thread cannot be cancelled: closing the log waits for it, and if the disk hangs, each draft is answered at
its deadline, and new ones are refused. A message that is stored after all is announced, and a retry with its key gets
that message.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TypeAlias, TypeVar

import msgspec
import trio
from outcome import Error, Outcome

from chatserver.fair import FairQueue
from chatserver.log.interface import (
    ANSWER_DEADLINE,
    DRAIN_DEADLINE,
    MAX_GROUP,
    MAX_GROUP_TEXT,
    MAX_PENDING,
    MAX_PENDING_TEXT,
    SHARED_PENDING,
    Draft,
    LogBusy,
    LogError,
    LogUnavailable,
    News,
    OnAnswer,
    Refused,
    Statistics,
    Stored,
    counted_text,
)
from chatserver.log.program import PLAIN_PROGRAM, Defer, Faulted, Post, Program, RunSteps, at_once, never_post

Outcomes: TypeAlias = Sequence[Stored | LogError | None]
#: Begins to store a group. Later, on the loop, it calls its second argument once, with the outcome of each draft or
#: the exception that the engine raised. None, which never all are, lets a draft wait for the next group.
Begin = Callable[[Sequence[Draft], Callable[[Outcome[Outcomes]], None]], None]
_by_deadline = attrgetter("deadline")
T = TypeVar("T")

#: Characters that a draft counts for once it was put back, since its group was full: as many as the longest text.
LONGEST_TEXT = 8 * 1024
#: Seconds from which on a commit is slow: the index and retention then wait until no draft does, for PATIENCE at most.
#: On a fast disk they go on between two groups, since a busy log has no such time for hours.
SLOW_COMMIT, PATIENCE = 0.5, 60.0
#: Intervals between the beginnings of two groups at most. At 1,800 messages a second each costs a quarter less than
#: with one, and arrives 1.3 ms later; at 500 nothing changes.
STRETCH = 4
#: Answers handed out in one step: 0.1 to 0.3 ms, since an answer is a write to a socket.
ANSWERS_PER_STEP = 8


class _Entry(msgspec.Struct, gc=False, eq=False):
    """A draft that waits for its answer."""

    draft: Draft
    done: OnAnswer
    deadline: float  # of the answer, on trio's clock
    text: int  # characters that it counts for


class GroupWriter:
    """The queue of one log."""

    def __init__(self, begin: Begin, *, interval: float = 0.0) -> None:
        self._begin = begin
        self._interval = interval  # s, between the beginnings of two groups for each draft of the first
        self._next_begin = -math.inf
        self._hangs_from = math.inf  # when the commit under way counts as one that hangs; its drafts are older than it
        self.accepting = False  # from the start of `run` until it is cancelled
        self._waiting: FairQueue[_Entry] = FairQueue()
        self._waiting_text = 0
        self._committing: Sequence[_Entry] = ()
        self._overdue = 0  # how many of these, from the first, were answered at their deadline
        self._unanswered: FairQueue[tuple[OnAnswer, Stored | LogError]] = FairQueue()
        self._idle = trio.Event()  # set when a commit has ended and no other follows
        self._took = 0.0  # seconds of the last commit
        self._counts = Statistics()
        # Set by `run`.
        self._news: News
        self._schedule: RunSteps
        self.defer: Defer
        self._post: Post
        self._faulted: Faulted
        self._now: Callable[[], float]
        self._nap: trio.CancelScope  # of the task that keeps the deadlines

    def statistics(self) -> Statistics:
        return msgspec.structs.replace(self._counts, pending=len(self._waiting) + len(self._committing))

    def count_failure(self) -> None:
        """Count a commit of others that failed, so that operators hear of it too."""
        self._counts.failures += 1

    def post_for(self, drafts: Sequence[Draft]) -> Post:
        """The `Post` that brings the outcome of this group from its thread to the loop.

        A small group's is posted, because waiting for a pass of the loop doubles users' 99th percentile beside 8,000
        slow peers. A larger one's waits for a pass, so that the next group gets more drafts, unless that is full.
        """
        return self._post if len(drafts) <= ANSWERS_PER_STEP or len(self._waiting) >= MAX_GROUP else never_post

    def submit(self, draft: Draft, done: OnAnswer) -> None:
        """Queue a draft; see `Log.submit`."""
        if not self.accepting:
            raise LogUnavailable("the log is closed")
        now = self._now()
        if self._committing and now >= self._hangs_from:
            self._counts.late += 1  # or the alert for it would end while the disk still hangs
            raise LogBusy(f"a commit has been under way for more than {ANSWER_DEADLINE:g} s")
        waiting = self._waiting
        if waiting.length >= MAX_PENDING:
            raise LogBusy(f"{waiting.length:,} messages wait to be stored, limit {MAX_PENDING:,}")
        if waiting.length >= SHARED_PENDING and waiting.has_share(draft.network):
            raise LogBusy(f"the messages of {draft.network} that wait to be stored have its share of the queue")
        text = counted_text(draft.text)
        waiting_text = self._waiting_text + text
        if waiting_text > MAX_PENDING_TEXT:
            raise LogBusy(f"{self._waiting_text:,} characters wait to be stored, limit {MAX_PENDING_TEXT:,}")
        waiting.push(draft.network, _Entry(draft, done, now + ANSWER_DEADLINE, text))
        self._waiting_text = waiting_text
        if not self._committing:
            self._begin_when_due()

    async def give_way(self) -> None:
        """If commits are slow, wait while drafts do: behind one more commit, some would miss their deadline."""
        if self._took > SLOW_COMMIT:
            with trio.move_on_after(PATIENCE):
                await self._until_idle()

    async def _until_idle(self) -> None:
        while self._committing:
            if self._idle.is_set():
                self._idle = trio.Event()
            await self._idle.wait()

    async def run(
        self, news: News, program: Program = PLAIN_PROGRAM, *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:  # fmt: skip
        """Commit groups until cancelled, then the remaining drafts within DRAIN_DEADLINE."""
        self._news = news
        _, self._schedule, self._post, self.defer, self._faulted = program
        self._now = trio.lowlevel.current_clock().current_time  # `trio.current_time` looks the clock up at each call
        self.accepting = True
        task_status.started()
        try:
            await self._keep_deadlines()
        finally:
            self.accepting = False
            if not self._committing:
                self._begin_when_due()
            with trio.move_on_after(DRAIN_DEADLINE, shield=True):
                await self._until_idle()
            self._end()

    async def _keep_deadlines(self) -> None:
        """Begin groups when they are due, and answer drafts whose deadline has come, until cancelled."""
        look = self._now()
        while True:
            now = self._now()
            if now >= look:
                look = self._answer_overdue(now)
            with trio.CancelScope(deadline=look) as self._nap:
                if not self._committing:
                    self._begin_when_due()
                await trio.sleep_forever()

    def _answer_overdue(self, now: float) -> float:
        """Answer the next drafts whose deadline has come. Returns when to look again."""
        committing = self._committing
        while self._overdue < len(committing) and committing[self._overdue].deadline <= now:
            done = committing[self._overdue].done
            self._overdue += 1
            self._counts.late += 1
            self._guarded(done, LogUnavailable("the message was not stored in time, and may be stored all the same"))
        late = [(network, entry) for network, entry in self._waiting.firsts() if entry.deadline <= now][:MAX_GROUP]
        for network, entry in late:
            self._waiting.remove(network, entry)
            self._waiting_text -= entry.text
            self._counts.late += 1
            self._guarded(entry.done, LogBusy("the message waited too long for its turn, and was not stored"))
        dues = [entry.deadline for entry in islice(committing, self._overdue, self._overdue + 1)]
        dues += [entry.deadline for _, entry in self._waiting.firsts()]
        return min(dues, default=now + ANSWER_DEADLINE)  # any draft that arrives later is due after that

    def _begin_when_due(self) -> None:
        # Backpressure: with so many answers still to hand out, storing another group would only lengthen their queue.
        if not self._waiting.length or (self._unanswered.length > SHARED_PENDING and self.accepting):
            return
        if self._now() >= self._next_begin or self._waiting.length >= MAX_GROUP or not self.accepting:
            self._begin_group()
        elif self._next_begin < self._nap.deadline:  # else it is set already; setting it is six calls in trio
            self._nap.deadline = self._next_begin

    def _begin_group(self) -> None:
        now = self._now()
        self._committing = group = self._take_group()
        self._next_begin, self._hangs_from = now + self._interval * min(len(group), STRETCH), now + ANSWER_DEADLINE
        # In a fault boundary, because an exception in a callback of trio's ends the program.
        finish = partial(self._guarded, partial(self._finish_group, group))
        try:
            self._begin([entry.draft for entry in group], finish)
        except Exception as error:  # noqa: BLE001 -- reported later, as other outcomes are
            trio.lowlevel.current_trio_token().run_sync_soon(finish, Error(error))

    def _take_group(self) -> list[_Entry]:
        """The next drafts: networks take turns to be chosen, and within the group the order is that of arrival."""
        waiting, text, group = self._waiting, 0, list[_Entry]()
        while waiting.length and len(group) < MAX_GROUP and text < MAX_GROUP_TEXT:
            entry = waiting.pop()
            group.append(entry)
            text += entry.text
        self._waiting_text -= text
        group.sort(key=_by_deadline)
        return group

    def _finish_group(self, group: Sequence[_Entry], outcome: Outcome[Outcomes]) -> None:
        if self._committing is not group:
            return  # the log was closed before the disk answered, and all drafts were answered then
        overdue, self._overdue = self._overdue, 0
        self._committing = ()
        self._took = self._now() - self._hangs_from + ANSWER_DEADLINE
        outcomes = self._checked(outcome, len(group))
        if None in outcomes:
            self._put_back(
                [entry for entry, each in zip(group[overdue:], outcomes[overdue:], strict=True) if each is None]
            )
        self._begin_when_due()  # so that the disk works while these are answered
        self._send(group[overdue:], outcomes)
        if not self._committing:
            self._idle.set()

    def _put_back(self, entries: Sequence[_Entry]) -> None:
        """Let drafts for which a group had no place wait in front of those that came after them."""
        for entry in reversed(entries):
            entry.text = LONGEST_TEXT
            self._waiting.put_back(entry.draft.network, entry)
            self._waiting_text += entry.text

    def _send(self, waiting: Sequence[_Entry], outcomes: Outcomes) -> None:
        """Call `news` with the records of a group, and schedule the answers to its last drafts, which still wait."""
        stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        fresh = [one.record for one in stored if one.fresh]
        if len(stored) == len(outcomes) or all(one is None or isinstance(one, Stored | Refused) for one in outcomes):
            self._counts.groups += 1
        else:
            self._counts.failures += 1
        if fresh:
            self._guarded(self._news, fresh)
        is_scheduled = self._unanswered.length > 0
        for entry, outcome in zip(waiting, outcomes[len(outcomes) - len(waiting) :], strict=True):
            if outcome is not None:
                self._unanswered.push(entry.draft.network, (entry.done, outcome))
        if not is_scheduled:
            self._schedule(self._hand_out)

    def _hand_out(self) -> bool:
        """Hand out the next few answers, networks in turn; returns whether there are more."""
        for done, outcome in self._unanswered.take(ANSWERS_PER_STEP):
            self._guarded(done, outcome)
        if not self._committing:
            self._begin_when_due()
        return self._unanswered.length > 0

    def _end(self) -> None:
        """Answer the remaining drafts, and hand out all answers."""
        left = [*self._committing[self._overdue :], *self._waiting.take(len(self._waiting))]
        self._committing = ()
        closed = LogUnavailable("the log was closed before this message was known to be stored")
        for entry in left:
            self._unanswered.push(entry.draft.network, (entry.done, closed))
        at_once(self._hand_out)

    def _guarded(self, call: Callable[[T], object], argument: T) -> None:
        """Make a call inside a fault boundary, so that those after it are made too."""
        try:
            call(argument)
        except Exception:  # noqa: BLE001
            self._faulted(self)

    def _checked(self, outcome: Outcome[Outcomes], count: int) -> Outcomes:
        """An outcome for each draft of a group. A fault of the engine fails the group, not the process."""
        try:
            outcomes = outcome.unwrap()
            if len(outcomes) != count:
                raise RuntimeError(f"{len(outcomes)} outcomes for {count} drafts")
        except LogUnavailable as error:
            return [error] * count
        except Exception:  # noqa: BLE001
            self._faulted(self)
            return [LogUnavailable("the log failed; the server's log says how") for _ in range(count)]
        return outcomes
