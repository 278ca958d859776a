"""Honest clients that make up the measured load: idle members, speakers, long-polls, event streams."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import msgspec

from loadgen.clients.client import Client, Stage, state
from loadgen.clients.traffic import Traffic
from loadgen.net import wire
from loadgen.net.answers import CLOSED, RETRY, UNANSWERED
from loadgen.net.timers import now
from loadgen.personas import persona
from loadgen.personas._requests import event_stream
from loadgen.personas._websocket import Envelope, Member, Message, WebSocketClient, decode, page_of, publish, shared


class Speaking(Client):
    """A client through which the schedule sends messages in any protocol, from `enter` until it fails."""

    speaks = True

    @property
    def _traffic(self) -> Traffic:
        traffic = self.cohort.place.traffic
        assert traffic is not None, "a run with speakers has traffic"
        return traffic

    def publish(self, number: int, text: str) -> None:
        """Send `text`, to be acknowledged under `number`."""
        raise NotImplementedError

    def fail(self, reason: str, *, turned_away: bool = False) -> None:
        """Leave the schedule too."""
        self._traffic.leave(self)
        super().fail(reason, turned_away=turned_away)


class Talker(Speaking, WebSocketClient):
    """A speaker by WebSocket, which after a planned end says again what was not answered."""

    def enter(self) -> None:
        """Be established, for the first time or again."""
        self._traffic.enter(self, again=True)

    def closed(self, code: int) -> None:
        self._traffic.leave(self)
        super().closed(code)


@persona
class Idle(Member):
    """WebSocket in a room; it says nothing, and answers pings.

    Most connections of a chat are like this. A server with a task or a thread for each pays for all of them.
    """


@persona
class Chat(Talker, Member):
    """WebSocket in a room; it publishes on the open-loop schedule, and times acks and echoes."""

    echoes = True

    def on_joined(self, message: Envelope) -> None:
        self.enter()

    def catch_up(self, missed: Iterable[Message]) -> None:
        super().catch_up(missed)
        for message in missed:
            self._traffic.found(self, message.text)

    def publish(self, number: int, text: str) -> None:
        self.send(publish(self.room, number, text))

    def on_text(self, frame: wire.Frame) -> None:
        message = decode(frame)
        if message.type == "message":
            self.take(message)
            self._traffic.heard(self, message.text)
        elif message.type == "ack" and isinstance(message.id, int):
            self.require_room(message.room)
            if not self._traffic.acknowledged(self, message.id):
                self._traffic.refused(message.id, "acknowledged twice, or what was never said")
        elif message.type == "error" and isinstance(message.id, int) and message.id >= 0:
            self._traffic.refused(message.id, message.code)
        else:
            super().on_text(frame)


#: Time beyond its `wait` after which the client gives up on a held poll.
GRACE_SECONDS = 15.0

#: Booked for a poll that was not held: a chat that answers so makes its clients ask all the time.
NOT_HELD: Final = "nothing new, before half of the wait was over"


def poll(client: Client, cursor: str) -> bytes:
    """Ask for what follows a cursor, to be held until there is something; without one, for the present cursor."""
    place = client.cohort.place
    query = f"after={quote(cursor, safe='')}&wait={place.poll_wait_seconds:g}" if cursor else "limit=1"
    return place.request("GET", f"/rooms/{client.room}/messages?{query}")


def take_page(client: Client, cursor: str, body: bytearray) -> str:
    """Count the messages of the page that follows a cursor, and return the next cursor."""
    page = page_of(body)
    if cursor:
        client.deliver(page.messages)
    return shared(page.cursor)


@persona
class Poll(Client):
    """Long-poll on a room; it asks again as soon as it is answered."""

    _cursor = state("")

    def opening(self) -> bytes:
        """Ask for the room's current cursor, or continue from the cursor of the former connection."""
        return poll(self, self._cursor)

    def on_connected(self) -> None:
        if self._cursor:
            self.wait()

    def on_hangup(self, how: str) -> None:
        """Ask once more if the request crossed with the end of an idle connection."""
        if not self.may_ask_again() or not self.return_as_planned():
            self.fail(how)

    def on_data(self, data: bytes) -> None:
        answer = self.read_response(data, keeps=True)
        if answer is None:
            return
        if answer.status != 200:
            self.reject(answer.status)
            return
        cursor = take_page(self, self._cursor, answer.body)
        if cursor == self._cursor and self.due - now() > GRACE_SECONDS + self.cohort.place.poll_wait_seconds / 2:
            self.cohort.answers[NOT_HELD] += 1
        self._cursor = cursor
        if answer.keeps_alive:
            self.is_reused = True
            self.wait()
            self.send_request(poll(self, self._cursor))
        else:
            self.cohort.engine.reopen(self)

    def on_time(self, moment: float) -> None:
        """Give up: the server forgot this poll."""
        self.fail(f"{UNANSWERED}: a held poll")

    def wait(self) -> None:
        self.hold()
        self.wake_in(self.cohort.place.poll_wait_seconds + GRACE_SECONDS)


_messages: Final = msgspec.json.Decoder(Message)
_EVENT_DATA: Final = re.compile(rb"^data:(.*)", re.MULTILINE)
_EVENT_ID: Final = re.compile(rb"^id: ?([!-~]+)", re.MULTILINE)


@persona
class Sse(Client):
    """Event stream of a room; all of it is read."""

    _last_id = state("")
    _has_begun = state(False)  # a whole line has come
    _is_told = state(False)  # when to come back, by the last line so far, which is not the first

    def opening(self) -> bytes:
        """Ask for what follows the last event of the former connection."""
        self._has_begun = self._is_told = False
        return event_stream(self, *([f"Last-Event-ID: {self._last_id}"] if self._last_id else []))

    def on_data(self, data: bytes) -> None:
        """Count what is in whole lines, which a proxy may cut into chunks anywhere."""
        if self.stage is Stage.HELD and self.response is None:
            self.unread = self._take(self.unread + data)
            return
        ended = self.read_response(data, keeps=True)
        stream = ended or self.response
        if stream is None or stream.head is None:
            return
        if self.stage is not Stage.HELD:
            if stream.status != 200:
                self.reject(stream.status)
                return
            if not stream.head.fields.get("content-type", "").startswith("text/event-stream"):
                raise wire.WireError("an event stream of another content type")
            self.hold()
        rest = self._take(bytes(stream.body))
        if ended is not None:
            self._end(CLOSED, is_planned=True)
        elif stream.ends_with_connection:  # all that comes is lines, without a response to keep
            del self.cohort.engine.responses[self]
            self.unread = rest
        else:
            stream.body = bytearray(rest)

    def _take(self, text: bytes) -> bytes:
        """Count what is in whole lines, and return the rest."""
        lines, _, rest = text.rpartition(b"\n")
        if len(rest) > wire.MAX_LINE_BYTES:
            raise wire.WireError(f"a line of more than {wire.MAX_LINE_BYTES:,} bytes")
        before, _, last = lines.strip().rpartition(b"\n")
        if last:
            self._is_told = last.startswith(RETRY) and (bool(before) or self._has_begun)
            self._has_begun = True
        mark = self.cohort.place.mark.encode()
        try:
            self.deliver([_messages.decode(data) for data in _EVENT_DATA.findall(lines) if mark in data])
        except wire.UNREADABLE:
            raise wire.WireError("an event that is not chat.v1") from None
        if ids := _EVENT_ID.findall(lines):
            self._last_id = shared(ids[-1].decode())
        return rest

    def on_hangup(self, how: str) -> None:
        self._end(how, is_planned=how == CLOSED and self._is_told)

    def _end(self, how: str, *, is_planned: bool) -> None:
        if not is_planned or not self.return_as_planned():
            self.fail(how)
