"""Honest users on a bad line, over HTTP: no attack may hurt them."""

from enum import Enum, auto
from functools import partial
from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs
from loadgen.personas import persona
from loadgen.personas._agenda import Planner
from loadgen.personas._posting import post_head
from loadgen.personas.honest import Poll

#: How long the proxy leaves an answer lying before it takes it.
READS_AFTER_SECONDS: Final = 5.0

#: `sleep 3` in the script's loop.
CURL_PAUSE_SECONDS: Final = 3.0


class _Doing(Enum):
    PAUSING = auto()  # the proxy keeps the connection meanwhile
    DEAF = auto()  # it has asked, and nobody reads yet
    WAITING = auto()


@persona
class Curl(Poll):
    """A script that long-polls again and again, through a proxy that buffers and reads late.

    The proxy keeps its connection to the server open between two polls, and does not look at it for seconds after it
    asked. Closed between polls it makes a new one, and nobody notices; closed in a poll, the script has lost something.
    """

    __slots__ = ("_doing",)

    name = "curl"
    cycle_seconds = 2 * (CURL_PAUSE_SECONDS + READS_AFTER_SECONDS)
    slow = True
    usual_clients = 50

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._doing = _Doing.WAITING

    def on_answered(self) -> None:
        """Sleep before the next poll."""
        self._doing = _Doing.PAUSING
        self.hold()
        self.wake_in(CURL_PAUSE_SECONDS)

    def on_time(self, moment: float) -> None:
        """Ask; look; give up."""
        match self._doing:
            case _Doing.PAUSING:
                self._doing = _Doing.DEAF
                self.stop_reading()
                self.wake_in(READS_AFTER_SECONDS)
                self.send(self.request())
            case _Doing.DEAF:
                self._doing = _Doing.WAITING
                self.resume_reading()
                self.wait()
            case _Doing.WAITING:
                super().on_time(moment)

    def on_hangup(self, how: str) -> None:
        """Connect again, if that was between two polls."""
        if self._doing is _Doing.PAUSING:
            self._doing = _Doing.WAITING
            self.cohort.engine.reopen(self)
        else:
            self.fail(how)


TYPES_IN_SECONDS: Final = 8.0
THINKS_SECONDS: Final = 5.0
SLOW_TYPIST_PATIENCE_SECONDS: Final = 10.0
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
        self.plan(TYPES_IN_SECONDS + SLOW_TYPIST_PATIENCE_SECONDS, partial(self._mind, self._done + 1))

    def _type(self) -> None:
        self.send(self._line[self._typed : self._typed + 1])
        self._typed += 1

    def _mind(self, number: int) -> None:
        if self._done < number:
            self.fail(f"no answer in {SLOW_TYPIST_PATIENCE_SECONDS:g} s")

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


#: 64 kbit/s: ISDN, and mobile plans whose volume is used up.
BYTES_A_SECOND: Final = 8 * 1024
MOVES_EVERY_SECONDS: Final = 0.25

#: Half a second at that rate.
TEXT_BYTES: Final = 4000

#: At 4 KB each this page takes five seconds.
QUERY: Final = "limit=10"

BANDWIDTH_PAUSE_SECONDS: Final = 2.0
BANDWIDTH_PATIENCE_SECONDS: Final = 10.0

#: A room of their own: `phone-2g` could not take 4 KB a message.
ROOM: Final = "bandwidth"


@persona
class Bandwidth(Planner):
    """Posts a message of 4 KB and reads a page of them at 8 KB/s each way, over HTTP, again and again.

    It is never silent and never fast. A minimum rate above this, for a body or for what is taken of an answer, closes
    such a connection; so does a total deadline for a whole answer.
    """

    __slots__ = ("_answered", "_asked", "_heard", "_unsent")

    name = "bandwidth"
    honest = True
    slow = True
    needs = Needs.CHAT
    usual_clients = 50
    receive_buffer_bytes = 4096
    read_bytes = int(BYTES_A_SECOND * MOVES_EVERY_SECONDS)
    cycle_seconds = 2 * (BANDWIDTH_PAUSE_SECONDS + BANDWIDTH_PATIENCE_SECONDS)  # a message posted, and a page read

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._unsent = b""
        self._asked = 0  # requests, the one on its way included
        self._answered = 0
        self._heard = 0  # times that something came

    def opening(self) -> bytes:
        """Say nothing before it is connected."""
        return b""

    def on_connected(self) -> None:
        """Begin, or go on after a connection that the server closed between two requests."""
        self.begin()
        self._ask()

    def _ask(self) -> None:
        place = self.cohort.place
        self._asked += 1
        if self._asked % 2:
            self._unsent = post_head(place, ROOM, f"Content-Length: {TEXT_BYTES}") + b"x" * TEXT_BYTES
        else:
            self._unsent = wire.request("GET", f"/rooms/{ROOM}/messages?{QUERY}", place.host)
        self._send_some()

    def _send_some(self) -> None:
        piece, self._unsent = self._unsent[: self.read_bytes], self._unsent[self.read_bytes :]
        self.send(piece)
        if self._unsent:
            self.plan(MOVES_EVERY_SECONDS, self._send_some)
        else:
            self.plan(BANDWIDTH_PATIENCE_SECONDS, partial(self._mind, self._asked, self._heard))

    def _mind(self, number: int, heard: int) -> None:
        if self._answered >= number:
            return
        if heard == self._heard:
            self.fail(f"nothing came in {BANDWIDTH_PATIENCE_SECONDS:g} s")
        else:
            self.plan(BANDWIDTH_PATIENCE_SECONDS, partial(self._mind, number, self._heard))

    def on_data(self, data: bytes) -> None:
        """Take what the line carries in one interval, and no more before its end."""
        self._heard += 1
        self.unread += data
        answer = wire.read_response(self.unread)
        if answer is None:
            self.stop_reading()
            self.plan(MOVES_EVERY_SECONDS, self.resume_reading)
        elif answer.status >= 400:
            self.reject(answer.status)
        else:
            self.unread = answer.rest
            self._answered = self._asked
            self.plan(BANDWIDTH_PAUSE_SECONDS, self._ask)

    def on_hangup(self, how: str) -> None:
        """Connect again, if that was between two requests."""
        if self._answered < self._asked:
            self.fail(how)
        else:
            self.cohort.engine.reopen(self)
