"""Slow read, as published with slowhttptest in 2012."""

from typing import Final

from loadgen import wire
from loadgen.client import Attacker, Cohort
from loadgen.personas import persona

#: Requests in one write. An answer must be larger than the server's send buffer and our window together, and pages
#: are small: slowhttptest multiplies them the same way (its `-k`). Apache allows 100 on a connection, nginx 1,000.
REQUESTS: Final = 100

#: The least that Linux gives (2,304 bytes, bookkeeping included).
RECEIVE_BUFFER_BYTES: Final = 1024

#: Ethernet's. The loopback's 64 KiB would let one segment past the smallest window.
SEGMENT_BYTES: Final = 1460

#: What half of them read at a time, and how often: a window opens anew twice a minute, often enough for every timer
#: that starts again with each byte taken (nginx 60 s, Apache 60 s), and a quarter of what Kestrel asks for (240 B/s).
SIP_BYTES: Final = 256
SIP_EVERY_SECONDS: Final = 4.0

#: How often a client that reads nothing asks whether it is still held.
LOOK_EVERY_SECONDS: Final = 2.0


@persona
class SlowRead(Attacker):
    """Asks for a hundred pages through a tiny window; half of them read a little now and then, the others never.

    nginx and Apache start their clock anew with each byte taken, and are held for hours; others gather the answers in
    memory for as long as nobody takes them, or wait in a `drain` without a deadline.
    """

    __slots__ = ("_sips",)

    name = "slow-read"
    usual_clients = 2500  # each holds up to some hundred KB of kernel memory, of which a machine has a few GB
    receive_buffer_bytes = RECEIVE_BUFFER_BYTES
    segment_bytes = SEGMENT_BYTES
    read_bytes = SIP_BYTES

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._sips = cohort.made % 2 == 0

    def opening(self) -> bytes:
        """Ask for everything at once."""
        return wire.request("GET", self.cohort.place.path, self.cohort.place.host) * REQUESTS

    def on_data(self, data: bytes) -> None:
        """Take one sip; but read on what is no page, to learn how it ends."""
        super().on_data(data)
        if self.answered < 400:
            self.stop_reading()
            self.wake_in(self.pace(SIP_EVERY_SECONDS if self._sips else LOOK_EVERY_SECONDS))

    def on_time(self, moment: float) -> None:
        """Take the next sip, unless all is over."""
        if self.is_forgotten():
            self.fail("closed with its answers unread")
        elif self._sips:
            self.resume_reading()
        else:
            self.wake_in(self.pace(LOOK_EVERY_SECONDS))

    def on_hangup(self, how: str) -> None:
        """Book a refusal under its status; that it was given pages says nothing about the end."""
        if self.answered >= 400:
            self.reject(self.answered)
        else:
            self.fail(how)
