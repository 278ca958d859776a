"""Honest members and users on a bad network, over WebSocket and over HTTP: no attack may hurt them."""

from functools import partial
from typing import Final

from loadgen.clients.client import Needs, Stage, state
from loadgen.net import wire
from loadgen.personas import persona
from loadgen.personas._neighbour import Neighbour, SlowUser
from loadgen.personas._requests import page, post
from loadgen.personas._websocket import Envelope
from loadgen.personas.honest import GRACE_SECONDS, poll, take_page


@persona
class Office(Neighbour):
    """One of 300 members behind one address, each of which says something once a minute.

    Offices, schools, mobile carriers and whole countries share one address. A cap per address on connections, requests
    or messages that is meant for one greedy machine hurts them first.
    """

    usual_clients = 300
    one_address = True
    speaks_first = (0.0, 60.0)
    speaks_every = (30.0, 90.0)
    patience_seconds = 10.0
    cycle_seconds = 25.0 + patience_seconds  # when 125 of them have spoken


ROUND_TRIP_SECONDS: Final = 0.6
READ_EVERY_SECONDS: Final = 0.5


@persona
class Phone2G(Neighbour):
    """A member on a phone: 600 ms away, 3 KB/s, offline for 10 s now and then.

    Its window opens in bursts, its pong comes late, and while it is offline nothing is acknowledged: a server that
    judges by one silent moment loses it. Only its own answers take 600 ms; its kernel acknowledges at once.
    """

    receive_buffer_bytes = 4096
    read_bytes = int(3072 * READ_EVERY_SECONDS)  # 24 kbit/s: EDGE at the edge of a cell
    speaks_first = (0.0, 5.0)
    speaks_every = (20.0, 40.0)
    patience_seconds = 30.0  # an acknowledgement waits behind the dark, and behind 60 KB of other data
    first_in_touch = (5.0, 25.0)
    in_touch = (20.0, 40.0)
    dark_seconds = 10.0  # behind a hill, in a lift, between two cells
    cycle_seconds = first_in_touch[1] + dark_seconds

    def on_joined(self, message: Envelope) -> None:
        super().on_joined(message)
        self.plan(READ_EVERY_SECONDS, self._read)

    def on_data(self, data: bytes) -> None:
        """Read what the network carries in one interval, and no more before its end."""
        super().on_data(data)
        if self.stage is Stage.HELD:
            self.stop_reading()

    def _read(self) -> None:
        self.plan(READ_EVERY_SECONDS, self._read)
        if not self.is_dark:
            self.resume_reading()

    def on_ping(self, payload: bytes) -> None:
        self.plan(ROUND_TRIP_SECONDS, partial(self._pong, payload))

    def _pong(self, payload: bytes) -> None:
        if self.is_dark:
            self.on_ping(payload)
        else:
            self.send(wire.frame(wire.FIN | wire.PONG, payload))


@persona
class SleepyTab(Neighbour):
    """A member in a background tab: its timers fire once a minute, its browser answers pings.

    A page's own heartbeat (every 20 s, say) does not run in the background. A server that waits for one instead of
    pinging disconnects every user with another tab in front.
    """

    speaks_first = (0.0, 30.0)
    speaks_every = (60.0, 60.0)  # Chrome and Firefox allow a background tab one timer a minute
    patience_seconds = 30.0
    cycle_seconds = speaks_every[1]


@persona
class Tunnel(Neighbour):
    """A member on a train: says something, is offline for 25 s, then back on the same connection, and speaks again.

    In a tunnel nothing is acknowledged, neither a ping nor a byte, and afterwards TCP continues. A pong deadline that
    is shorter than the tunnel closes a connection that was never broken.
    """

    speaks_first = (0.0, 5.0)
    first_in_touch = (5.0, 10.0)
    # TCP doubles its retransmission timeout, so after the tunnel it may wait as long again. If the member were in the
    # next tunnel by then, TCP would end the connection, not the server.
    in_touch = (30.0, 60.0)
    dark_seconds = 25.0
    patience_seconds = 30.0  # until TCP has retransmitted, and the server has sent everything that was missed
    cycle_seconds = first_in_touch[1] + dark_seconds  # what it says afterwards is judged only in longer runs

    def on_joined(self, message: Envelope) -> None:
        self.plan(self.between(self.speaks_first), self.say)
        self._plan_loss(self.first_in_touch)

    def regain_touch(self) -> None:
        super().regain_touch()
        self.say()


#: How long the proxy waits before it reads an answer.
READS_AFTER_SECONDS: Final = 5.0


@persona
class Curl(SlowUser):
    """A script that long-polls again and again, through a proxy that buffers and reads late.

    The proxy keeps its connection between two polls, and does not read for seconds after a request. A close between
    polls is unnoticed; one within a poll is a failure.
    """

    piece_bytes = 4096  # all at once
    pause_seconds = 3.0  # the script's loop has a `sleep 3`
    cycle_seconds = 2 * (pause_seconds + READS_AFTER_SECONDS)

    _cursor = state("")

    def request(self, number: int) -> bytes:
        return poll(self, self._cursor)

    def patience(self) -> float:
        return self.cohort.place.poll_wait_seconds + GRACE_SECONDS

    def ask(self) -> None:
        super().ask()
        if self._cursor:
            self.stop_reading()
            self.plan(READS_AFTER_SECONDS, self.resume_reading)

    def read_answer(self, data: bytes) -> wire.Response | None:
        answer = self.read_response(data, keeps=True)
        if answer is not None and answer.status == 200:
            self._cursor = take_page(self, self._cursor, answer.body)
        return answer


#: Between two requests of a connection: not the 5 s after which uvicorn, Node and Apache end an idle one, because a
#: request that is sent at just that moment crosses with the end.
THINKS_SECONDS: Final = 3.0

TYPES_IN_SECONDS: Final = 8.0
REQUESTS: Final = 2


@persona
class SlowTypist(SlowUser):
    """Opens a socket by hand, types a request in 8 s, reads the answer for 3 s, and types another.

    An honest head may take a while; an attacker's never ends. If the server closes after an answer, it reconnects; a
    close or a refusal in the middle of a line is a failure.
    """

    needs = Needs.HTTP
    usual_clients = 20
    piece_bytes = 1
    pause_seconds = THINKS_SECONDS
    patience_seconds = 10.0
    cycle_seconds = REQUESTS * (TYPES_IN_SECONDS + pause_seconds)

    def request(self, number: int) -> bytes:
        return page(self)

    def piece_every(self) -> float:
        return TYPES_IN_SECONDS / len(page(self))

    def read_answer(self, data: bytes) -> wire.Head | None:
        """Return the head of the answer; the body does not count."""
        self.unread += data
        return wire.read_head(self.unread)

    def go_on(self) -> None:
        if self._done % REQUESTS:
            self.ask()
        else:
            self.leave(return_in=self.pause_seconds)


MOVES_EVERY_SECONDS: Final = 0.25

#: Half a second at that rate.
TEXT_BYTES: Final = 4000

#: A room of their own: `phone-2g` could not take 4 KB a message.
ROOM: Final = "bandwidth"


@persona
class Bandwidth(SlowUser):
    """Posts a message of 4 KB and reads a page of them at 8 KB/s each way, over HTTP, again and again.

    It is never silent and never fast. A higher minimum rate, for a body or for reading an answer, would close such a
    connection; so would a total deadline for a whole answer.
    """

    receive_buffer_bytes = 4096
    piece_bytes = read_bytes = int(8 * 1024 * MOVES_EVERY_SECONDS)  # 64 kbit/s: mobile plans that are out of volume
    pause_seconds = 2.0
    patience_seconds = 10.0
    cycle_seconds = 2 * (pause_seconds + patience_seconds)  # a message posted, and a page read

    def request(self, number: int) -> bytes:
        place = self.cohort.place
        if number % 2:
            return post(place, ROOM, b"x" * TEXT_BYTES)
        return place.request("GET", f"/rooms/{ROOM}/messages?limit=10")  # they take five seconds

    def piece_every(self) -> float:
        return MOVES_EVERY_SECONDS

    def wait_for_more(self) -> None:
        """Read what the network carries in one interval, and no more before its end."""
        self.stop_reading()
        self.plan(MOVES_EVERY_SECONDS, self.resume_reading)


#: Messages that are posted at once: below a burst of most rate limits on publishing (40 in chatserver).
BATCH: Final = 10

#: Below the limit of any chat; ten of them take ten reads of many servers.
BATCH_TEXT_BYTES: Final = 1200


@persona
class Batch(SlowUser):
    """A script that posts ten messages of 1.2 KB in one write, and ten more once all of them are answered.

    Pipelining is legal (RFC 9112 section 9.3.2). A server that reads on while the first request waits for its log may
    take two requests for one, or lose those behind the first.
    """

    usual_clients = 20
    piece_bytes = BATCH * (BATCH_TEXT_BYTES + 1024)  # all at once
    pause_seconds = THINKS_SECONDS
    patience_seconds = 10.0
    cycle_seconds = pause_seconds + patience_seconds

    _unanswered = state(0)

    def request(self, number: int) -> bytes:
        self._unanswered = BATCH
        return post(self.cohort.place, f"batch-{self.number}", b"x" * BATCH_TEXT_BYTES) * BATCH

    def read_answer(self, data: bytes) -> wire.Response | None:
        """Return the first refusal, or the last of the answers; behind one that closes there is no other."""
        while (answer := self.read_response(data)) is not None:
            self._unanswered -= 1
            if answer.status >= 400 or not answer.keeps_alive or not self._unanswered:
                return answer
            data = b""
        return None
