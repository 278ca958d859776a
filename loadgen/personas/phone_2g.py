"""A phone at the edge of coverage."""

from functools import partial
from typing import Final

from loadgen import wire
from loadgen.client import Stage
from loadgen.personas import persona
from loadgen.personas._neighbour import Neighbour

ROUND_TRIP_SECONDS: Final = 0.6
READ_EVERY_SECONDS: Final = 0.5

#: 3 KB/s is what EDGE gives at the edge: 24 kbit/s.
BYTES_A_SECOND: Final = 3072

#: Without touch: behind a hill, in a lift, between two cells.
DARK_SECONDS: Final = 10.0
TOUCH_SECONDS: Final = (20.0, 40.0)

SPEAKS_EVERY_SECONDS: Final = (20.0, 40.0)
#: What it says arrives behind everything that the server has for it, at 3 KB/s.
PATIENCE_SECONDS: Final = 120.0


@persona
class Phone2G(Neighbour):
    """A member on a phone: 600 ms away, 3 KB/s, out of touch for 10 s now and then.

    Its window is small and opens in bursts, its pong comes late and behind everything else, and while it is out of
    touch nothing is acknowledged at all. A server that judges by one silent moment loses it; so does a kernel that is
    told to (TCP_USER_TIMEOUT). The kernel still acknowledges at once what fits the window: the distance is in what
    the phone itself does.
    """

    __slots__ = ()

    name = "phone-2g"
    cycle_seconds = TOUCH_SECONDS[1] + DARK_SECONDS
    receive_buffer_bytes = 4096
    read_bytes = int(BYTES_A_SECOND * READ_EVERY_SECONDS)

    def settle_in(self) -> None:
        """Plan reading, speaking and losing touch."""
        self.plan(READ_EVERY_SECONDS, self._read)
        self.plan(self.between(*SPEAKS_EVERY_SECONDS), self._speak)
        self.plan(self.between(*TOUCH_SECONDS), self._lose_touch)

    def on_data(self, data: bytes) -> None:
        """Take what the line carries in a while, and no more for that while."""
        super().on_data(data)
        if self.stage is Stage.HELD:
            self.stop_reading()

    def on_frame(self, frame: wire.Frame) -> None:
        """Answer a ping as late as the distance has it."""
        if frame.opcode == wire.PING:
            self.plan(ROUND_TRIP_SECONDS, partial(self._pong, frame.payload))
        else:
            super().on_frame(frame)

    def _read(self) -> None:
        self.plan(READ_EVERY_SECONDS, self._read)
        if not self.is_dark:
            self.resume_reading()

    def _pong(self, payload: bytes) -> None:
        if self.is_dark:
            self.plan(ROUND_TRIP_SECONDS, partial(self._pong, payload))
        else:
            self.send(wire.frame(wire.PONG, payload))

    def _speak(self) -> None:
        self.plan(self.between(*SPEAKS_EVERY_SECONDS), self._speak)
        if not self.is_dark:
            self.say(PATIENCE_SECONDS)

    def _lose_touch(self) -> None:
        self.go_dark()
        self.plan(DARK_SECONDS, self._regain_touch)

    def _regain_touch(self) -> None:
        self.come_back()
        self.plan(self.between(*TOUCH_SECONDS), self._lose_touch)
