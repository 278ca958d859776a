"""An honest user whose line carries little, and always the same."""

from functools import partial
from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs
from loadgen.personas import persona
from loadgen.personas._agenda import Planner
from loadgen.personas._posting import post_head

#: 64 kbit/s: ISDN, and mobile plans whose volume is used up.
BYTES_A_SECOND: Final = 8 * 1024
MOVES_EVERY_SECONDS: Final = 0.25

#: Half a second at that rate.
TEXT_BYTES: Final = 4000

#: At 4 KB each this page takes five seconds.
QUERY: Final = "limit=10"

PAUSE_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 10.0

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
    cycle_seconds = 2 * (PAUSE_SECONDS + PATIENCE_SECONDS)  # a message posted, and a page read

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
            self.plan(PATIENCE_SECONDS, partial(self._mind, self._asked, self._heard))

    def _mind(self, number: int, heard: int) -> None:
        if self._answered >= number:
            return
        if heard == self._heard:
            self.fail(f"nothing came in {PATIENCE_SECONDS:g} s")
        else:
            self.plan(PATIENCE_SECONDS, partial(self._mind, number, self._heard))

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
            self.plan(PAUSE_SECONDS, self._ask)

    def on_hangup(self, how: str) -> None:
        """Connect again, if that was between two requests."""
        if self._answered < self._asked:
            self.fail(how)
        else:
            self.cohort.engine.reopen(self)
