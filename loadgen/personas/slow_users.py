"""Honest users on a bad line, over HTTP: no attack may hurt them."""

from enum import Enum, auto
from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs
from loadgen.personas import persona
from loadgen.personas._neighbour import SlowUser
from loadgen.personas._requests import page, post_head
from loadgen.personas.honest import Poll

#: How long the proxy leaves an answer lying before it takes it.
READS_AFTER_SECONDS: Final = 5.0

#: `sleep 3` in the script's loop.
CURL_PAUSE_SECONDS: Final = 3.0


class _Doing(Enum):
    PAUSING = auto()  # the proxy keeps the connection meanwhile
    DEAF = auto()  # it has asked, and does not read yet
    WAITING = auto()


@persona
class Curl(Poll):
    """A script that long-polls again and again, through a proxy that buffers and reads late.

    The proxy keeps its connection to the server open between two polls, and does not look at it for seconds after it
    asked. Closed between polls it makes a new one, unnoticed; closed in a poll, the script has lost something.
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
REQUESTS: Final = 2


@persona
class SlowTypist(SlowUser):
    """Opens a socket by hand, types a request in 8 s, reads the answer for 5 s, and types another.

    A head may take a while and still be honest; what an attacker's does is never end. On a server that closes after an
    answer it connects again; closed or told off in the middle of a line it is hurt.
    """

    name = "slow-typist"
    needs = Needs.HTTP
    usual_clients = 20
    piece_bytes = 1
    pause_seconds = 5.0  # to read, and to think
    patience_seconds = 10.0
    cycle_seconds = REQUESTS * (TYPES_IN_SECONDS + pause_seconds)

    def request(self, number: int) -> bytes:
        """Ask for the page."""
        return page(self)

    def piece_every(self) -> float:
        """Return the seconds from letter to letter."""
        return TYPES_IN_SECONDS / len(page(self))

    def read_answer(self) -> wire.Head | None:
        """Look at the first line; the rest scrolls by."""
        return wire.read_head(self.unread)

    def go_on(self) -> None:
        """Type the next request, or go after two."""
        if self._done % REQUESTS:
            self.ask()
        else:
            self.leave(return_in=self.pause_seconds)


#: 64 kbit/s: ISDN, and mobile plans whose volume is used up.
BYTES_A_SECOND: Final = 8 * 1024
MOVES_EVERY_SECONDS: Final = 0.25

#: Half a second at that rate.
TEXT_BYTES: Final = 4000

#: At 4 KB each this page takes five seconds.
QUERY: Final = "limit=10"

#: A room of their own: `phone-2g` could not take 4 KB a message.
ROOM: Final = "bandwidth"


@persona
class Bandwidth(SlowUser):
    """Posts a message of 4 KB and reads a page of them at 8 KB/s each way, over HTTP, again and again.

    It is never silent and never fast. A minimum rate above this, for a body or for what is taken of an answer, closes
    such a connection; so does a total deadline for a whole answer.
    """

    name = "bandwidth"
    receive_buffer_bytes = 4096
    piece_bytes = read_bytes = int(BYTES_A_SECOND * MOVES_EVERY_SECONDS)
    pause_seconds = 2.0
    patience_seconds = 10.0
    cycle_seconds = 2 * (pause_seconds + patience_seconds)  # a message posted, and a page read

    def request(self, number: int) -> bytes:
        """Post and read in turn."""
        place = self.cohort.place
        if number % 2:
            return post_head(place, ROOM, f"Content-Length: {TEXT_BYTES}") + b"x" * TEXT_BYTES
        return wire.request("GET", f"/rooms/{ROOM}/messages?{QUERY}", place.host)

    def piece_every(self) -> float:
        """Return the line's interval."""
        return MOVES_EVERY_SECONDS

    def wait_for_more(self) -> None:
        """Take what the line carries in one interval, and no more before its end."""
        self.stop_reading()
        self.plan(MOVES_EVERY_SECONDS, self.resume_reading)
