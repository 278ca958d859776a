"""The order of the loop's work: every step that serves a connection, a room or an answer of the log.

Owns: the order of steps, the shares of the loop's time, the fault boundary around each step. May not: know what a step
does, or what an item is.

In each round each class (`Priority`) has its time; within a class each network has a queue of its own, and the queues
take turns. `step(item)` takes about 0.1 ms; if there is more to do, the item goes to the tail of `BULK`, so long work
never delays short work. Only the server's own work stays in `FIRST`: in `BULK` it would be one network beside thousands
that flood. Between two passes every other task of the loop runs.
"""

from collections import deque
from collections.abc import Callable, Hashable
from threading import Lock
from time import perf_counter
from typing import Any, TypeAlias

from chatserver.fair import FairQueue
from chatserver.net.states import Priority

#: A step, its item, and the network at whose turn it runs.
_Queued: TypeAlias = tuple[Callable[[Any], bool | None], Any, Hashable]

#: Seconds of each class in a round, and one step at least (docs/measurements/2026-11-29-scheduler.md). `NORMAL` must
#: keep up with the listener (`ACCEPT_BATCH`). `BULK` has little, so that floods, which end up there, delay users
#: little; with half of it, publishers that send ahead beside a busy room get too few turns.
QUANTUM: dict[Priority, float] = {Priority.FIRST: 0.0004, Priority.NORMAL: 0.0006, Priority.BULK: 0.0002}

#: Networks that wait in `NORMAL` above which fewer peers are accepted: they would only wait here instead of in the
#: kernel's queue, and persons with them.
CROWD = 64

#: Steps that wait above which no call is deferred: it would come too late behind them.
FEW_STEPS = 4


class Scheduler:
    """See the module. `round` is called by the one task that runs it."""

    def __init__(self, *, faulted: Callable[[Any], None], wake: Callable[[], None]) -> None:
        self._faulted = faulted
        self._wake = wake  # wakes the task that runs rounds
        self._queues: tuple[FairQueue[_Queued], ...] = tuple(FairQueue() for _ in Priority)
        first, normal, bulk = self._queues
        # Of each class: its queue, its share of a round, and the queue in which an item goes on.
        self._classes = (
            (first, QUANTUM[Priority.FIRST], first),
            (normal, QUANTUM[Priority.NORMAL], bulk),
            (bulk, QUANTUM[Priority.BULK], bulk),
        )
        self.asleep = False  # whether that task waits, and must be woken
        # Seldom more than one: a log commits one group at a time.
        self._posted: deque[Callable[[], object]] = deque()
        self._deferred: deque[Callable[[], object]] = deque()
        self._taking = False  # whether rounds are run
        self._lock = Lock()  # guards `_taking`: after `end` the readiness object is closed, and `_wake` must not run

    def submit(
        self, priority: Priority, step: Callable[[Any], bool | None], item: object, network: Hashable = ""
    ) -> None:
        """Queue an item; `step(item)` runs when its turn comes, and returns whether there is more to do."""
        self._queues[priority].push(network, (step, item, network))
        if self.asleep:
            self.asleep = False
            self._wake()

    @property
    def crowded(self) -> bool:
        """Whether so many networks wait that new peers should not be added."""
        return self._queues[Priority.NORMAL].active > CROWD

    def post(self, call: Callable[[], object]) -> bool:
        """From any thread: schedule a call before the next step. False: no rounds are run, and it is not called."""
        with self._lock:
            if self._taking:
                self._posted.append(call)
                if self.asleep:
                    self.asleep = False
                    self._wake()
            return self._taking

    def defer(self, call: Callable[[], object]) -> None:
        """Make a call when the loop is about to wait for events, or after a round that leaves work; at once if busy."""
        first, normal, bulk = self._queues
        if self._taking and first.length + normal.length + bulk.length <= FEW_STEPS:
            self._deferred.append(call)
        else:
            call()

    def begin(self) -> None:
        """Accept calls: rounds are run from now on."""
        self._taking = True

    def end(self) -> list[Callable[[], object]]:
        """Accept no more calls, and wake nobody from now on. Returns the calls that were not made yet."""
        with self._lock:
            self._taking = self.asleep = False
        left = [*self._posted, *self._deferred]
        self._posted.clear()
        self._deferred.clear()
        return left

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do."""
        first, normal, bulk = self._queues
        return not (normal.length or first.length or bulk.length or self._posted)

    def sleep(self) -> bool:
        """Note that the task that runs rounds is about to wait. False: it may not, there is something to do.

        First the note, then the look at what was posted; a thread that posts does both in the opposite order.
        """
        self.asleep = True
        self.asleep = self.idle
        return self.asleep

    def round(self) -> None:
        """Run each class for its share of time, or until it has nothing to do."""
        self._call_posted()
        for queue, share, tail in self._classes:
            if queue.length:
                self._run(queue, share, tail)

    def _call_posted(self) -> None:
        for _ in range(len(self._posted)):  # none posted meanwhile, or the memory log could commit for ever
            self._call(self._posted.popleft())

    def call_deferred(self) -> None:
        """Make the deferred calls."""
        while self._deferred:
            self._call(self._deferred.popleft())

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001  the fault boundary
            self._faulted(call)

    def _run(self, queue: FairQueue[_Queued], share: float, tail: FairQueue[_Queued]) -> None:
        until = perf_counter() + share
        while True:
            step, item, network = queue.pop()
            try:
                if step(item):
                    tail.push(network, (step, item, network))
            except Exception:  # noqa: BLE001  the fault boundary
                self._faulted(item)
            if self._posted:
                self._call_posted()
            if not queue.length or perf_counter() >= until:
                return

    def statistics(self) -> dict[str, int]:
        """Items waiting, by class."""
        return {priority.name.lower(): len(self._queues[priority]) for priority in Priority}
