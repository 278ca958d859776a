"""What honest slow clients share: several timers at once, and the definition of a failure.

The wheel has one deadline a client; an honest slow client reads, sends late pongs and waits for acknowledgements at the
same time, so it has alarms of the engine. A closed connection, a lost message, a refused one and silence are its
failures.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from loadgen.clients.client import Client, Stage, state
from loadgen.net import wire
from loadgen.net.answers import UNANSWERED
from loadgen.net.timers import NEVER, now
from loadgen.personas._requests import nothing
from loadgen.personas._websocket import Envelope, Member, decode, publish


class Planner(Client):
    """A client with a list of planned actions."""

    slow = True
    usual_clients = 50

    def plan(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` after this many seconds, if the connection lasts."""
        self.plan_at(now() + seconds, action)

    def plan_at(self, moment: float, action: Callable[[], None]) -> None:
        """Call `action` at a moment, or at once if that has passed."""
        connected_at = self.born

        def act() -> None:
            if self.stage is Stage.HELD and self.born == connected_at:
                action()

        self.cohort.engine.at(moment, act)

    def between(self, seconds: tuple[float, float]) -> float:
        """Pick a number of seconds, so that clients do not act at the same moment."""
        return self.cohort.place.random.uniform(*seconds)


class Neighbour(Planner, Member):
    """An honest member that follows its room, speaks now and then and may lose its network: no attack may hurt it."""

    speaks_first: ClassVar[tuple[float, float] | None] = None  # seconds to the first message; default: `speaks_every`
    speaks_every: ClassVar[tuple[float, float]]
    patience_seconds: ClassVar[float]  # for the acknowledgement of a message
    first_in_touch: ClassVar[tuple[float, float] | None] = None  # seconds until it first loses its network
    in_touch: ClassVar[tuple[float, float] | None] = None  # seconds until it loses it again
    dark_seconds: ClassVar[float] = 0.0  # how long it is without one

    _said = state(0)
    _acknowledged = state(0)
    _got = state(0)  # messages, gaps included
    _next_offset = state(0)  # of the room's next message; 0 while unknown

    def on_joined(self, message: Envelope) -> None:
        self.plan(self.between(self.speaks_first or self.speaks_every), self._speak)
        self._plan_loss(self.first_in_touch)

    def _plan_loss(self, in_touch: tuple[float, float] | None) -> None:
        if in_touch is not None:
            self.plan(self.between(in_touch), self.lose_touch)

    def _speak(self) -> None:
        self.plan(self.between(self.speaks_every), self._speak)
        if not self.is_dark:
            self.say()

    def say(self) -> None:
        self._said += 1
        self.send(publish(self.room, self._said, "hello, it is me again"))
        self.plan(self.patience_seconds, partial(self._check, self._said, self._got))

    def _check(self, number: int, got: int) -> None:
        if self._acknowledged < number:
            self.fail(f"{UNANSWERED}: a message not acknowledged in {self.patience_seconds:g} s")
        elif self._got == got:
            self.fail(f"{UNANSWERED}: nothing delivered in {self.patience_seconds:g} s, its own message neither")

    def lose_touch(self) -> None:
        self.go_dark()
        self.plan(self.dark_seconds, self.regain_touch)

    def regain_touch(self) -> None:
        self.come_back()
        self._plan_loss(self.in_touch)

    def on_text(self, frame: wire.Frame) -> None:
        message = decode(frame)
        match message.type:
            case "message":
                self.cohort.deliveries += 1
                self._got += 1
                self._follow(message.offset)
            case "edit" | "delete" | "reaction":
                self._follow(message.offset)  # these take offsets in the same sequence as messages
            case "ack" if isinstance(message.id, int):
                self._acknowledged = max(self._acknowledged, message.id)
            case "gap":
                self._got += 1
                self._next_offset = 0  # a gap that the server announces is no loss: the history has the messages
            case "error" if isinstance(message.id, int) and message.id > 0:
                self.fail(f"error {message.code}")
            case _:
                super().on_text(frame)

    def _follow(self, offset: int) -> None:
        if self._next_offset and offset != self._next_offset:
            self.fail("a message was lost" if offset > self._next_offset else "a message came twice")
        self._next_offset = offset + 1 if offset else 0  # 0 on a server that sends no offsets


class SlowUser(Planner):
    """An honest user over HTTP that sends a request piece by piece, reads the answer, pauses, and asks again.

    If the server closes after an answer it reconnects, as any user would; a close within a request is a failure.
    """

    piece_bytes: ClassVar[int]
    pause_seconds: ClassVar[float]  # after an answer
    patience_seconds: ClassVar[float]
    opening = nothing

    _asked = state(0)  # requests, the current one included
    _done = state(0)  # requests that were answered
    _heard = state(0)  # times that data arrived
    _unsent = state(b"")
    _next_piece = state(NEVER)  # when it is due

    def request(self, number: int) -> bytes:
        """Return the `number`th request, counted from 1."""
        raise NotImplementedError

    def piece_every(self) -> float:
        """Return the seconds between two pieces."""
        raise NotImplementedError

    def patience(self) -> float:
        """Return the seconds for each part of the answer, once the server has the request."""
        return self.patience_seconds

    def on_connected(self) -> None:
        """Begin, or continue after the server closed the connection between two requests."""
        self.hold()
        self.ask()

    def ask(self) -> None:
        self._asked += 1
        self.unread = b""
        self._unsent = self.request(self._asked)
        self._next_piece = now()
        self._send_piece()

    def _send_piece(self) -> None:
        piece, self._unsent = self._unsent[: self.piece_bytes], self._unsent[self.piece_bytes :]
        self.send(piece)
        if self._unsent:
            # On a busy machine each piece is sent late. If the next one were timed from then, a request of 8 s would
            # take longer than a server has to wait for it.
            self._next_piece += self.piece_every()
            self.plan_at(self._next_piece, self._send_piece)
        else:
            self.plan(self.patience(), partial(self._check, self._asked, self._heard))

    def _check(self, number: int, heard: int) -> None:
        if self._done >= number:
            return
        if heard == self._heard:
            self.fail(f"{UNANSWERED}: nothing came in {self.patience():g} s")
        else:
            self.plan(self.patience(), partial(self._check, number, self._heard))

    def on_data(self, data: bytes) -> None:
        self._heard += 1
        if self._done == self._asked:
            return  # the rest of an answer that counts already
        answer = self.read_answer(data)
        if answer is None:
            self.wait_for_more()
        elif answer.status >= 400:
            self.reject(answer.status)
        else:
            self._done, self.unread = self._asked, b""
            self.plan(self.pause_seconds, self.go_on)

    def go_on(self) -> None:
        self.ask()

    def read_answer(self, data: bytes) -> wire.Head | wire.Response | None:
        """Return the answer, or None while it is incomplete."""
        return self.read_response(data)

    def wait_for_more(self) -> None:
        """React to an incomplete answer."""

    def on_hangup(self, how: str) -> None:
        if self.stage is not Stage.HELD or self._done < self._asked:
            self.fail(how)
        else:
            self.cohort.engine.reopen(self)
