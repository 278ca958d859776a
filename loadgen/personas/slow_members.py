"""Honest members on a bad line, over WebSocket: no attack may hurt them."""

from functools import partial
from typing import Final

from loadgen import wire
from loadgen.client import Stage
from loadgen.personas import persona
from loadgen.personas._neighbour import Neighbour

PEOPLE: Final = 300
OFFICE_SPEAKS_EVERY_SECONDS: Final = (30.0, 90.0)
OFFICE_PATIENCE_SECONDS: Final = 10.0


@persona
class Office(Neighbour):
    """One of 300 members behind one address, who all say something once a minute.

    Offices, schools, mobile carriers and whole countries come from one address. A cap on connections, requests or
    messages by address that is meant for one greedy machine hurts them first.
    """

    __slots__ = ()

    name = "office"
    cycle_seconds = OFFICE_SPEAKS_EVERY_SECONDS[0] + OFFICE_PATIENCE_SECONDS  # when some of them have spoken
    usual_clients = PEOPLE
    one_address = True

    def settle_in(self) -> None:
        """Plan the first remark."""
        self.plan(self.between(*OFFICE_SPEAKS_EVERY_SECONDS), self._speak)

    def _speak(self) -> None:
        self.plan(self.between(*OFFICE_SPEAKS_EVERY_SECONDS), self._speak)
        self.say(OFFICE_PATIENCE_SECONDS)


ROUND_TRIP_SECONDS: Final = 0.6
READ_EVERY_SECONDS: Final = 0.5

#: 3 KB/s is what EDGE gives at the edge: 24 kbit/s.
BYTES_A_SECOND: Final = 3072

#: Without touch: behind a hill, in a lift, between two cells.
DARK_SECONDS: Final = 10.0
TOUCH_SECONDS: Final = (20.0, 40.0)

PHONE_2G_SPEAKS_EVERY_SECONDS: Final = (20.0, 40.0)
#: What it says arrives behind everything that the server has for it, at 3 KB/s.
PHONE_2G_PATIENCE_SECONDS: Final = 120.0


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
        self.plan(self.between(*PHONE_2G_SPEAKS_EVERY_SECONDS), self._speak)
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
        self.plan(self.between(*PHONE_2G_SPEAKS_EVERY_SECONDS), self._speak)
        if not self.is_dark:
            self.say(PHONE_2G_PATIENCE_SECONDS)

    def _lose_touch(self) -> None:
        self.go_dark()
        self.plan(DARK_SECONDS, self._regain_touch)

    def _regain_touch(self) -> None:
        self.come_back()
        self.plan(self.between(*TOUCH_SECONDS), self._lose_touch)


#: What Chrome and Firefox leave a background tab: one timer a minute.
WAKES_EVERY_SECONDS: Final = 60.0

#: It learns of a missing acknowledgement when it next wakes.
SLEEPY_TAB_PATIENCE_SECONDS: Final = 60.0


@persona
class SleepyTab(Neighbour):
    """A member in a background tab: its timers fire once a minute, its browser answers pings.

    What a page does to be kept (a heartbeat of its own every 20 s, say) does not happen while nobody looks. A server
    that waits for one instead of pinging throws out everybody who has another tab in front.
    """

    __slots__ = ()

    name = "sleepy-tab"
    cycle_seconds = WAKES_EVERY_SECONDS

    def settle_in(self) -> None:
        """Fall asleep; the first wake is within a minute."""
        self.plan(self.between(0.0, WAKES_EVERY_SECONDS), self._wake)

    def _wake(self) -> None:
        self.plan(WAKES_EVERY_SECONDS, self._wake)
        self.say(SLEEPY_TAB_PATIENCE_SECONDS)


TUNNEL_SECONDS: Final = 25.0
FIRST_TUNNEL_AFTER_SECONDS: Final = (5.0, 15.0)

#: TCP's waits double, so after the tunnel it may not try for as long as the tunnel was. A member that
#: is in the next tunnel by then is cut off by TCP, not by the server.
DAYLIGHT_SECONDS: Final = (30.0, 60.0)

#: Until TCP has tried, and the server has said all that there was meanwhile.
TUNNEL_PATIENCE_SECONDS: Final = 60.0


@persona
class Tunnel(Neighbour):
    """A member on a train: vanished for 25 s, then back on the same connection with something to say.

    Nothing is acknowledged in a tunnel, neither a ping nor a byte, and TCP carries on as if nothing had been. A pong
    whose deadline is shorter than that closes a connection that was never broken.
    """

    __slots__ = ()

    name = "tunnel"
    cycle_seconds = FIRST_TUNNEL_AFTER_SECONDS[1] + TUNNEL_SECONDS

    def settle_in(self) -> None:
        """Ride."""
        self.plan(self.between(*FIRST_TUNNEL_AFTER_SECONDS), self._enter)

    def _enter(self) -> None:
        self.go_dark()
        self.plan(TUNNEL_SECONDS, self._leave)

    def _leave(self) -> None:
        self.come_back()
        self.plan(self.between(*DAYLIGHT_SECONDS), self._enter)
        self.say(TUNNEL_PATIENCE_SECONDS)
