"""What the loop does next: one queue for all work.

Owns: the order of steps, the shares of the loop's time, the fault boundary around each step. May not: know what a step
does, or what an item is.

    scheduler.submit(Priority.NORMAL, step, item, network)
    step(item) -> bool          about 0.1 ms; True: there is more to do

1. In each round each class (`Priority`) has its time, or less when it has nothing to do.
2. An item that has more to do goes to the tail of `BULK`: nothing long is ever in front of somebody.
3. Within a class each network has a queue of its own, and the queues take turns: five hundred peers of one address are
   one voice.
4. A fault in a step costs what `faulted` takes from its item, and nothing else.

Between two passes every other task of the loop runs. Everything that works for somebody is an item: connections that
are ready, rooms to tell, polls to answer, handshakes, expiries, answers of the log.

Newcomers and those who have asked before are one class. With a class for each, users waited four times as long beside
8,000 that flood and come back: so many of these, new and old, stood in the class of the old at a time that a user was
one of hundreds, in a quarter of the loop's time. In one class those who never stop are behind everybody who does.
"""

from collections import deque
from collections.abc import Callable
from threading import Lock
from time import perf_counter
from typing import Any, TypeAlias

from chatserver.fair import FairQueue
from chatserver.net.states import Priority

Step: TypeAlias = Callable[[Any], bool]

#: Seconds of each class in a round, and one step at least: a handshake of TLS in `BULK` takes 0.7 ms. Beside 8,000 who
#: send as much as they can, users wait a fifth longer with 1 ms for `NORMAL`; with less than 0.6 ms it is behind the
#: listener (`ACCEPT_BATCH`). `BULK` has little, so that those who never stop stand there and not in front of others:
#: with 0.4 ms, users wait 47 ms beside 200 that flood, with this 4. With 0.1 ms publishers who send ahead get so few
#: turns beside a busy room's broadcast that each send carries less, and a delivery costs a quarter more.
QUANTUM: dict[Priority, float] = {Priority.FIRST: 0.0004, Priority.NORMAL: 0.0006, Priority.BULK: 0.0002}

#: Seconds after which the rest of several things of unknown length is another step.
STEP = 0.0003


class Scheduler:
    """See the module. `round` is called by the one task that runs it."""

    def __init__(self, *, faulted: Callable[[Any], None], wake: Callable[[], None]) -> None:
        self._faulted = faulted
        self._wake = wake  # calls the task that runs rounds, when it sleeps
        self._queues: tuple[FairQueue[tuple[Step, Any, str]], ...] = tuple(FairQueue() for _ in Priority)
        self._shares = tuple((self._queues[priority], QUANTUM[priority]) for priority in Priority)
        self.asleep = False  # set by that task before it waits
        # A log commits one group at a time, so hardly more than one.
        self._posted: deque[Callable[[], object]] = deque()
        self._taking = False  # while rounds are run
        self._lock = Lock()  # guards that: what wakes is closed afterwards

    def submit(self, priority: Priority, step: Step, item: object, network: str = "") -> None:
        """Have this done when its turn comes."""
        self._queues[priority].push(network, (step, item, network))
        if self.asleep:
            self.asleep = False
            self._wake()

    def post(self, call: Callable[[], object]) -> bool:
        """From any thread: have this called before the next step. False: no rounds are run."""
        with self._lock:
            if self._taking:
                self._posted.append(call)
                self._wake()
            return self._taking

    def begin(self) -> None:
        """Rounds are run from now on."""
        self._taking = True

    def end(self) -> list[Callable[[], object]]:
        """No more are run. What was posted and not called, for the caller to see to."""
        with self._lock:
            self._taking = False
        left = list(self._posted)
        self._posted.clear()
        return left

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do."""
        first, normal, bulk = self._queues
        return not (normal.length or first.length or bulk.length)

    def round(self) -> None:
        """Each class for its share of time, or until it has nothing to do."""
        self._call_posted()
        for queue, share in self._shares:
            if queue.length:
                self._run(queue, share)

    def _call_posted(self) -> None:
        for _ in range(len(self._posted)):  # not what is posted meanwhile: the log in memory would commit without end
            posted = self._posted.popleft()
            try:
                posted()
            except Exception:  # noqa: BLE001  the fault boundary
                self._faulted(posted)

    def _run(self, queue: FairQueue[tuple[Step, Any, str]], share: float) -> None:
        until = perf_counter() + share
        bulk = self._queues[Priority.BULK]
        while True:
            step, item, network = queue.pop()
            try:
                if step(item):
                    bulk.push(network, (step, item, network))
            except Exception:  # noqa: BLE001  the fault boundary: it costs the item what `faulted` takes
                self._faulted(item)
            if self._posted:
                self._call_posted()
            if not queue.length or perf_counter() >= until:
                return

    def statistics(self) -> dict[str, int]:
        """Items waiting, by class."""
        return {priority.name.lower(): len(self._queues[priority]) for priority in Priority}
