"""Honest members on a bad line, over WebSocket: no attack may hurt them."""

from functools import partial
from typing import Final

from loadgen import wire
from loadgen.client import Stage
from loadgen.personas import persona
from loadgen.personas._neighbour import Neighbour

PEOPLE: Final = 300


@persona
class Office(Neighbour):
    """One of 300 members behind one address, each of which says something once a minute.

    Offices, schools, mobile carriers and whole countries come from one address. A cap on connections, requests or
    messages by address that is meant for one greedy machine hurts them first.
    """

    name = "office"
    usual_clients = PEOPLE
    one_address = True
    speaks_every = (30.0, 90.0)
    patience_seconds = 10.0
    cycle_seconds = speaks_every[0] + patience_seconds  # when some of them have spoken


ROUND_TRIP_SECONDS: Final = 0.6
READ_EVERY_SECONDS: Final = 0.5

#: 3 KB/s is what EDGE gives at the edge: 24 kbit/s.
BYTES_A_SECOND: Final = 3072


@persona
class Phone2G(Neighbour):
    """A member on a phone: 600 ms away, 3 KB/s, out of touch for 10 s now and then.

    Its window is small and opens in bursts, its pong comes late and behind everything else, and while it is out of
    touch nothing is acknowledged at all. A server that judges by one silent moment loses it; so does a kernel that is
    told to (TCP_USER_TIMEOUT). The kernel still acknowledges at once what fits the window: the distance is in what
    the phone itself does.
    """

    name = "phone-2g"
    receive_buffer_bytes = 4096
    read_bytes = int(BYTES_A_SECOND * READ_EVERY_SECONDS)
    speaks_every = (20.0, 40.0)
    patience_seconds = 120.0  # its messages arrive behind everything that the server has for it, at 3 KB/s
    in_touch = (20.0, 40.0)
    dark_seconds = 10.0  # behind a hill, in a lift, between two cells
    cycle_seconds = in_touch[1] + dark_seconds

    def plan_first(self) -> None:
        """Plan reading, too."""
        super().plan_first()
        self.plan(READ_EVERY_SECONDS, self._read)

    def on_data(self, data: bytes) -> None:
        """Take what the line carries in a while, and no more for that while."""
        super().on_data(data)
        if self.stage is Stage.HELD:
            self.stop_reading()

    def _read(self) -> None:
        self.plan(READ_EVERY_SECONDS, self._read)
        if not self.is_dark:
            self.resume_reading()

    def on_ping(self, payload: bytes) -> None:
        """Answer as late as the distance has it."""
        self.plan(ROUND_TRIP_SECONDS, partial(self._pong, payload))

    def _pong(self, payload: bytes) -> None:
        if self.is_dark:
            self.on_ping(payload)
        else:
            self.send(wire.frame(wire.PONG, payload))


@persona
class SleepyTab(Neighbour):
    """A member in a background tab: its timers fire once a minute, its browser answers pings.

    What a page does to be kept (a heartbeat of its own every 20 s, say) does not happen in the background. A server
    that waits for one instead of pinging throws out every user with another tab in front.
    """

    name = "sleepy-tab"
    speaks_first = (0.0, 60.0)
    speaks_every = (60.0, 60.0)  # what Chrome and Firefox leave a background tab: one timer a minute
    patience_seconds = 60.0  # it learns of a missing acknowledgement when it next wakes
    cycle_seconds = speaks_every[1]


@persona
class Tunnel(Neighbour):
    """A member on a train: vanished for 25 s, then back on the same connection with something to say.

    Nothing is acknowledged in a tunnel, neither a ping nor a byte, and TCP carries on as if nothing had been. A pong
    whose deadline is shorter than that closes a connection that was never broken.
    """

    name = "tunnel"
    first_in_touch = (5.0, 15.0)
    # TCP's waits double, so after the tunnel it may not try for as long as the tunnel was. A member that is in the next
    # tunnel by then is cut off by TCP, not by the server.
    in_touch = (30.0, 60.0)
    dark_seconds = 25.0
    patience_seconds = 60.0  # until TCP has tried, and the server has said all that there was meanwhile
    cycle_seconds = first_in_touch[1] + dark_seconds

    def plan_first(self) -> None:
        """Ride."""
        self.plan(self.between(self.first_in_touch), self.lose_touch)

    def regain_touch(self) -> None:
        """Say something behind the tunnel."""
        super().regain_touch()
        self.say()
