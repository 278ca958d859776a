"""A request typed by hand, in telnet."""

from functools import partial
from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs
from loadgen.personas import persona
from loadgen.personas._agenda import Planner

TYPES_IN_SECONDS: Final = 8.0
THINKS_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 10.0
REQUESTS: Final = 2


@persona
class SlowTypist(Planner):
    """Opens a socket by hand, types a request in 8 s, reads the answer for 5 s, and types another.

    A head may take a while and still be honest; what an attacker's does is never end. On a server that closes after an
    answer it connects again, as everybody would; closed or told off in the middle of a line it is hurt.
    """

    __slots__ = ("_answered", "_done", "_line", "_typed")

    name = "slow-typist"
    cycle_seconds = REQUESTS * (TYPES_IN_SECONDS + THINKS_SECONDS)
    honest = True
    slow = True
    needs = Needs.HTTP
    usual_clients = 20

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        place = cohort.place
        self._line = wire.request("GET", place.path, place.host)
        self._typed = 0  # letters of the request
        self._answered = False  # the request that was typed
        self._done = 0  # requests that were answered

    def opening(self) -> bytes:
        """Say nothing before it is connected."""
        return b""

    def on_connected(self) -> None:
        """Begin to type."""
        self.begin()
        self._begin_request()

    def _begin_request(self) -> None:
        self._typed, self._answered = 0, False
        self.unread = b""
        for number in range(len(self._line)):
            self.plan(TYPES_IN_SECONDS * (number + 1) / len(self._line), self._type)
        self.plan(TYPES_IN_SECONDS + PATIENCE_SECONDS, partial(self._mind, self._done + 1))

    def _type(self) -> None:
        self.send(self._line[self._typed : self._typed + 1])
        self._typed += 1

    def _mind(self, number: int) -> None:
        if self._done < number:
            self.fail(f"no answer in {PATIENCE_SECONDS:g} s")

    def on_data(self, data: bytes) -> None:
        """Look at the first line; the rest scrolls by."""
        if self._answered:
            return
        self.unread += data
        head = wire.read_head(self.unread)
        if head is None:
            return
        if head.status >= 400:
            self.reject(head.status)
            return
        self._answered, self.unread = True, b""
        self._done += 1
        self.plan(THINKS_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._done % REQUESTS:
            self._begin_request()
        else:
            self.leave(return_in=THINKS_SECONDS)

    def on_hangup(self, how: str) -> None:
        """Connect again, if it was between two requests."""
        if self._answered:
            self.cohort.engine.reopen(self)
        else:
            self.fail(how)
