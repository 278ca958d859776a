"""Group commit: drafts that arrive while one group is being made durable are the next group.

Owns: the queue of drafts, its bounds, the order of news and answers, the end of a log's life. May not: know
how a group is stored; an engine hands it one function for that, which begins to store a group and is given
whom to tell the outcome of each draft.

Why groups: making one message durable costs a sync of the disk whatever its size, so the cost is shared by
all who wait. Why callbacks and no task: a task per publish was measured at 108 µs against 81
(docs/architecture), and one for the commits cost each of them two passes of the loop: a group begins with the
draft that finds none under way, and the next with the outcome of the one before, which is told while it is
stored. Why the end waits, shielded and for so long: a commit in a thread cannot be taken back, so what became
of it must still be learned, or an acknowledged offset could be lost.

A disk that hangs cannot be hurried, but nobody has to wait for it: each draft is answered at its deadline, and
while drafts of the commit under way are overdue, no other is taken. What the disk stores after that is news all the
same, and a publisher who was told to try again with its key is answered with it.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import trio
from outcome import Error, Outcome

from chatserver.log.interface import (
    ANSWER_DEADLINE,
    DRAIN_DEADLINE,
    MAX_GROUP,
    MAX_PENDING,
    MAX_PENDING_TEXT,
    Answer,
    Draft,
    LogBusy,
    LogError,
    LogUnavailable,
    News,
    Record,
    Statistics,
    Stored,
)

Outcomes: TypeAlias = Sequence[Stored | LogError]
#: Begins to store a group, and gives the outcome of each draft, or an engine's fault, to its second argument: later,
#: on the loop, once. It may not raise: nobody would hear of the group again.
Begin = Callable[[Sequence[Draft], Callable[[Outcome[Outcomes]], None]], None]
_Entry: TypeAlias = tuple[Draft, Answer, float]  # and when it is answered at the latest, on trio's clock

logger = logging.getLogger(__name__)


class GroupWriter:
    """The queue of one log; lives as long as `run` does."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._news: News = lambda records: None  # until `run` is given somebody to tell
        self._accepting = False
        self._waiting: deque[_Entry] = deque()
        self._waiting_text = 0
        self._committing: Sequence[_Entry] = ()
        self._overdue = 0  # the first so many of those have been answered: their deadline came before the disk
        self._idle = trio.Event()  # set whenever a group is over and none follows it
        self._groups = self._records = self._failures = self._late = 0

    @property
    def accepting(self) -> bool:
        """Whether the log is open: from the start of `run` until it is cancelled."""
        return self._accepting

    def statistics(self) -> Statistics:
        """Counters for `/metrics`."""
        return Statistics(
            pending=len(self._waiting) + len(self._committing),
            groups=self._groups,
            records=self._records,
            failures=self._failures,
            late=self._late,
        )

    def submit(self, draft: Draft, done: Answer) -> None:
        """Queue a draft, or say at once why not."""
        if not self._accepting:
            raise LogUnavailable("the log is closed")
        if self._overdue:
            raise LogBusy(f"a commit has been under way for more than {ANSWER_DEADLINE:g} s")
        if len(self._waiting) >= MAX_PENDING:
            raise LogBusy(f"{len(self._waiting):,} messages wait to be stored, limit {MAX_PENDING:,}")
        if self._waiting_text + len(draft.text) > MAX_PENDING_TEXT:
            raise LogBusy(f"{self._waiting_text:,} characters wait to be stored, limit {MAX_PENDING_TEXT:,}")
        refuse_surrogates(draft)
        self._waiting.append((draft, done, trio.current_time() + ANSWER_DEADLINE))
        self._waiting_text += len(draft.text)
        if not self._committing:
            self._begin_group()

    async def append(self, draft: Draft) -> Stored:
        """Submit and wait for the answer."""
        answered = trio.Event()
        outcome: Stored | LogError = LogUnavailable("the log gave no answer")

        def done(answer: Stored | LogError) -> None:
            nonlocal outcome
            outcome = answer
            answered.set()

        self.submit(draft, done)
        await answered.wait()
        if isinstance(outcome, LogError):
            raise outcome
        return outcome

    async def run(self, news: News, task_status: trio.TaskStatus[None]) -> None:
        """Commit groups until cancelled, then what is left, within DRAIN_DEADLINE."""
        if self._accepting:
            raise RuntimeError("this log runs already")
        self._news = news
        self._accepting = True
        task_status.started()
        try:
            await self._keep_deadlines()
        finally:
            self._accepting = False
            with trio.move_on_after(DRAIN_DEADLINE, shield=True):
                while self._committing:
                    self._idle = trio.Event()
                    await self._idle.wait()
            self._end()

    async def _keep_deadlines(self) -> None:
        """Answer whoever is due, until cancelled."""
        while True:
            now = trio.current_time()
            answered = 0
            while self._oldest_due() <= now and answered < MAX_GROUP:
                self._answer_oldest()
                answered += 1
            # Whoever comes while this sleeps is due later than it wakes.
            await trio.sleep_until(min(self._oldest_due(), now + ANSWER_DEADLINE))

    def _oldest_due(self) -> float:
        if self._overdue < len(self._committing):
            return self._committing[self._overdue][2]
        return self._waiting[0][2] if self._waiting else math.inf

    def _answer_oldest(self) -> None:
        self._late += 1
        if self._overdue < len(self._committing):
            _, done, _ = self._committing[self._overdue]
            self._overdue += 1
            _answer(done, LogUnavailable("the disk did not answer in time; it may store the message all the same"))
        else:
            draft, done, _ = self._waiting.popleft()
            self._waiting_text -= len(draft.text)
            _answer(done, LogBusy("the message waited too long for its turn, and was not stored"))

    def _begin_group(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_GROUP))]
        drafts = [draft for draft, _, _ in group]
        self._waiting_text -= sum([len(draft.text) for draft in drafts])
        self._committing = group
        self._begin(drafts, partial(self._finish_group, group))

    def _finish_group(self, group: Sequence[_Entry], outcome: Outcome[Outcomes]) -> None:
        if self._committing is not group:
            return  # the log has ended, its drain's time limit passed: all have been told
        overdue, self._overdue = self._overdue, 0
        self._committing = ()
        if isinstance(outcome, Error):  # a bug in an engine must not take every room with it
            logger.error("the log's engine failed on a group of %d drafts", len(group), exc_info=outcome.error)
            outcomes: Outcomes = [LogUnavailable("the log failed; its own log says how") for _ in group]
        else:
            outcomes = outcome.unwrap()
        if self._waiting:
            self._begin_group()  # the disk works while these are told
        self._deliver(group[overdue:], outcomes)
        if not self._committing:
            self._idle.set()

    def _end(self) -> None:
        """Tell everybody who has not been told."""
        left = [*self._committing[self._overdue :], *self._waiting]
        self._committing, self._overdue = (), 0
        self._waiting.clear()
        self._waiting_text = 0
        for _, done, _ in left:
            _answer(done, LogUnavailable("the log was closed before this message was known to be stored"))

    def _deliver(self, waiting: Sequence[_Entry], outcomes: Outcomes) -> None:
        """Tell the news of a whole group, and the outcomes of its last so many drafts."""
        fresh: list[Record] = []
        failed = False
        for outcome in outcomes:
            if isinstance(outcome, Stored):
                if outcome.fresh:
                    fresh.append(outcome.record)
            else:
                failed = True
        self._groups += not failed
        self._failures += failed
        self._records += len(fresh)
        if fresh:
            try:
                self._news(fresh)
            except Exception:
                logger.exception("the receiver of the log's news failed on %d records", len(fresh))
        for (_, done, _), outcome in zip(waiting, outcomes[len(outcomes) - len(waiting) :], strict=True):
            _answer(done, outcome)


def _answer(done: Answer, outcome: Stored | LogError) -> None:
    try:
        done(outcome)
    except Exception:
        logger.exception("a publisher's callback failed")


def refuse_surrogates(draft: Draft) -> None:
    """Raise ValueError for text that no engine can store, before it can spoil the group of others.

    A lone surrogate is what `json.loads` makes of a cut-off emoji: it has no UTF-8 form.
    """
    for text in (draft.room, draft.user_id, draft.user_name, draft.text, draft.key or ""):
        if not text.isascii():  # a flag of the object: asking costs nothing, encoding does
            text.encode()
