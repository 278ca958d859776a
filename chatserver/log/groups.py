"""Group commit: drafts that arrive while one group is being made durable are the next group.

Owns: the queue of drafts, its bounds, the order of news and answers, the end of a log's life. May not: know
how a group is stored; an engine hands it one function for that, which gets a group and returns an outcome for
each draft.

Why groups: making one message durable costs a sync of the disk whatever its size, so the cost is shared by
all who wait. Why callbacks and not a task each: a task per publish was measured at 108 µs against 81
(docs/architecture). Why the writer is shielded: a commit in a thread cannot be taken back, so a cancelled
writer must still learn what became of it, or an acknowledged offset could be lost. The shield gets its time
limit on cancellation.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio

from chatserver.log.interface import (
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

Commit = Callable[[Sequence[Draft]], Awaitable[Sequence[Stored | LogError]]]

logger = logging.getLogger(__name__)


class GroupWriter:
    """The queue and the loop of one log; lives as long as `run` does."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._accepting = False
        self._waiting: deque[tuple[Draft, Answer]] = deque()
        self._waiting_text = 0
        self._in_commit = 0
        self._arrived = trio.Event()
        self._groups = self._records = self._failures = 0

    @property
    def accepting(self) -> bool:
        """Whether the log is open: from the start of `run` until it is cancelled."""
        return self._accepting

    def statistics(self) -> Statistics:
        """Counters for `/metrics`."""
        return Statistics(
            pending=len(self._waiting) + self._in_commit,
            groups=self._groups,
            records=self._records,
            failures=self._failures,
        )

    def submit(self, draft: Draft, done: Answer) -> None:
        """Queue a draft, or say at once why not."""
        if not self._accepting:
            raise LogUnavailable("the log is closed")
        if len(self._waiting) >= MAX_PENDING:
            raise LogBusy(f"{len(self._waiting):,} messages wait to be stored, limit {MAX_PENDING:,}")
        if self._waiting_text + len(draft.text) > MAX_PENDING_TEXT:
            raise LogBusy(f"{self._waiting_text:,} characters wait to be stored, limit {MAX_PENDING_TEXT:,}")
        refuse_surrogates(draft)
        self._waiting.append((draft, done))
        self._waiting_text += len(draft.text)
        self._arrived.set()

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
        shield = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commit_groups, news, shield)
            self._accepting = True
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._accepting = False
                self._arrived.set()
                shield.deadline = trio.current_time() + DRAIN_DEADLINE

    async def _commit_groups(self, news: News, shield: trio.CancelScope) -> None:
        try:
            with shield:
                while self._accepting or self._waiting:
                    await self._arrived.wait()
                    self._arrived = trio.Event()
                    while self._waiting:
                        await self._commit_one(news)
        finally:
            self._accepting = False
            self._give_up([done for _, done in self._waiting])
            self._waiting.clear()
            self._waiting_text = 0

    async def _commit_one(self, news: News) -> None:
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_GROUP))]
        drafts = [draft for draft, _ in taken]
        self._waiting_text -= sum([len(draft.text) for draft in drafts])
        self._in_commit = len(drafts)
        try:
            outcomes = await self._commit(drafts)
        except trio.Cancelled:
            # Only the drain's time limit comes through the shield.
            self._give_up([done for _, done in taken])
            raise
        except Exception:  # a bug in an engine must not take every room with it
            logger.exception("the log's engine failed on a group of %d drafts", len(drafts))
            outcomes = [LogUnavailable("the log failed; its own log says how") for _ in drafts]
        finally:
            self._in_commit = 0
        self._deliver(news, [done for _, done in taken], outcomes)

    def _deliver(self, news: News, answers: Sequence[Answer], outcomes: Sequence[Stored | LogError]) -> None:
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
                news(fresh)
            except Exception:
                logger.exception("the receiver of the log's news failed on %d records", len(fresh))
        for done, outcome in zip(answers, outcomes, strict=True):
            _answer(done, outcome)

    def _give_up(self, answers: Sequence[Answer]) -> None:
        for done in answers:
            _answer(done, LogUnavailable("the log was closed before this message was known to be stored"))


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
