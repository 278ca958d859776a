"""One user's conversation across many connections, without I/O: frames in, events and frames out.

Owns: where each room was read up to, what was published and not yet acknowledged, and the promise that
follows: each message of a room is delivered once and in order, or `Lost` is said; each text is published
once, or `Refused` is said. May not: import trio, read a clock (time arrives as an argument), or know a URL.

How the promise is kept:

- A room is entered with `after` = the cursor of the last message delivered. What comes twice has an offset
  that we had, and is dropped. What comes too early (a hole, a `gap`) is held until `history` filled the hole.
- A text is sent under a key of ours until it is acknowledged; the server takes a key once. One text is in
  flight at a time: if two were, and the first were refused for now, the second would overtake it.

    session = Session(rooms=["lobby"])
    session.opened()
    for frame in session.outgoing(now): ...  # send it
    for event in session.receive(frame, now): ...
"""

import math
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from chatserver.client import events, wire

HISTORY_LIMIT = 200  # messages asked for at once; a server that gives fewer is asked again
HELD_MESSAGES = 1000  # a room, while a hole is being filled; what is beyond comes from the history as well
RETRY_DELAY = 1.0  # s, when an error may pass but does not say when
CLOSE_TOO_BIG = 1009  # RFC 6455 7.4.1: what we sent is over a limit

_PASSING = frozenset({"rate_limited", "unavailable", "full", "draining", "internal", "timeout"})


class _Request(NamedTuple):
    kind: Literal["join", "leave", "history", "members", "publish"]
    subject: str  # a room; of `publish`, the key


@dataclass(slots=True)
class _Room:
    name: str
    cursor: str | None = None
    last: int | None = None  # offset of the last message delivered; None before the first one and after a loss
    entered: bool = False
    filling: bool = False  # a hole, by `history`, until held messages follow without one
    until: str | None = None  # and until this cursor, even if nothing is held
    held: dict[int, wire.Message] = field(default_factory=dict)


class Session:
    """See the module's docstring. Every method is synchronous and none waits."""

    def __init__(self, rooms: Iterable[str] = ()) -> None:
        self._rooms = {name: _Room(name) for name in rooms}
        self._outbox: dict[str, tuple[str, str]] = {}  # room and text by key, in the order of publishing
        self._next_id = 1
        self._requests: dict[int, _Request] = {}  # sent, not answered
        self._due: list[tuple[float, _Request]] = []  # to be sent, not before a time

    @property
    def unacknowledged(self) -> int:
        """How many texts are published and neither acknowledged nor refused."""
        return len(self._outbox)

    def publish(self, room: str, text: str) -> str:
        """Take a text for publishing and return its key; it is sent when a connection allows."""
        key = secrets.token_urlsafe(12)
        self._outbox[key] = (room, text)
        return key

    def join(self, room: str) -> None:
        """Be in a further room."""
        if room not in self._rooms:
            self._rooms[room] = _Room(room)
            self._due.append((0.0, _Request("join", room)))

    def leave(self, room: str) -> None:
        """Be in a room no more."""
        if self._rooms.pop(room, None) is not None:
            self._due = [(when, what) for when, what in self._due if what.kind == "publish" or what.subject != room]
            self._due.append((0.0, _Request("leave", room)))

    def ask_members(self, room: str) -> None:
        """Ask who is in a room, on this connection; `Members` tells."""
        self._due.append((0.0, _Request("members", room)))

    def opened(self) -> None:
        """Begin on a new connection: nothing asked on an old one will be answered any more."""
        self._requests.clear()
        self._due = [(0.0, _Request("join", name)) for name in self._rooms]
        for room in self._rooms.values():
            room.entered = False
            room.filling = False
            room.held.clear()

    def closed(self, code: int | None) -> list[events.Event]:
        """Refuse the text that ended the connection by its size: sent again, it would end the next one as well."""
        if code != CLOSE_TOO_BIG:
            return []
        culprits = [request.subject for request in self._requests.values() if request.kind == "publish"]
        return [self._refuse(key, "too_large", "the server takes no message of this size") for key in culprits]

    def outgoing(self, now: float) -> list[str]:
        """Return the frames to send now on the open connection; calling again without news returns none."""
        frames = [self._request(what) for when, what in self._due if when <= now]
        self._due = [(when, what) for when, what in self._due if when > now]
        in_hand = [*self._requests.values(), *(what for _, what in self._due)]
        if self._outbox and not any(request.kind == "publish" for request in in_hand):
            frames.append(self._request(_Request("publish", next(iter(self._outbox)))))
        return frames

    def next_time(self) -> float:
        """Return when `outgoing` will have something more by the passing of time alone."""
        return min((when for when, _ in self._due), default=math.inf)

    def receive(self, text: str, now: float) -> list[events.Event]:
        """Take one text frame from the server."""
        match wire.decode(text):
            case wire.Joined() as joined:
                return list(self._joined(joined))
            case wire.Ack() as ack:
                return list(self._acknowledged(ack))
            case wire.History() as history:
                return list(self._filled(history))
            case wire.Pushed() as pushed:
                return list(self._offer(pushed.room, pushed, past=False))
            case wire.Left() | wire.Members() as answer:
                self._requests.pop(answer.id, None)
                return [answer] if isinstance(answer, wire.Members) else []
            case wire.Connected() | wire.PresenceChanged() | wire.GoingAway() as event:
                return [event]
            case wire.Gap() as gap:
                self._gap(gap)
            case wire.Error() as error:
                return list(self._failed(error, now))
        return []

    def _request(self, request: _Request) -> str:
        number = self._next_id
        self._next_id += 1
        self._requests[number] = request
        match request:
            case _Request("publish", key):
                room, text = self._outbox[key]
                return wire.encode(type="publish", id=number, room=room, text=text, key=key)
            case _Request("join" | "history" as kind, room):
                limit = HISTORY_LIMIT if kind == "history" else None
                return wire.encode(type=kind, id=number, room=room, after=self._rooms[room].cursor, limit=limit)
            case _Request(kind, room):
                return wire.encode(type=kind, id=number, room=room)

    def _answered(self, number: int, kind: str) -> _Room | None:
        """Return the room that a request of ours was about, unless we left it since."""
        request = self._requests.pop(number, None)
        return self._rooms.get(request.subject) if request is not None and request.kind == kind else None

    def _joined(self, joined: wire.Joined) -> Iterator[events.Event]:
        room = self._answered(joined.id, "join")
        if room is None:
            return
        room.entered = True
        resumed = room.cursor is not None
        yield events.Entered(room.name, joined.members, resumed)
        if resumed and not joined.recovered:
            yield self._lose(room)
        for message in joined.messages:
            yield from self._offer(room.name, message, past=True)
        if room.cursor is None or (not joined.messages and not joined.recovered):
            room.cursor = joined.cursor

    def _offer(self, name: str, message: wire.Message, *, past: bool) -> Iterator[events.Event]:
        """Deliver a message if it is the next one, hold it if it is early, drop it if we had it."""
        room = self._rooms.get(name)
        if room is None or not room.entered:
            return  # what comes before `joined` is in it, or leaves a hole that is filled then
        if room.last is not None and message.offset <= room.last:
            return
        early = room.last is not None and message.offset > room.last + 1
        if not room.filling and not early:
            yield self._deliver(room, message, past=past)
            return
        self._fill(room)
        if len(room.held) < HELD_MESSAGES:
            room.held[message.offset] = message
        else:
            room.until = message.cursor

    def _deliver(self, room: _Room, message: wire.Message, *, past: bool) -> events.Received:
        room.last = message.offset
        room.cursor = message.cursor
        return events.Received(message, past)

    def _gap(self, gap: wire.Gap) -> None:
        room = self._rooms.get(gap.room)
        if room is None or not room.entered:
            return
        room.cursor = room.cursor or gap.after
        self._fill(room)
        room.until = gap.until

    def _fill(self, room: _Room) -> None:
        if not room.filling:
            room.filling, room.until = True, None
            self._due.append((0.0, _Request("history", room.name)))

    def _filled(self, history: wire.History) -> Iterator[events.Event]:
        room = self._answered(history.id, "history")
        if room is None:
            return
        if not history.recovered:
            yield self._lose(room)
            room.cursor = history.cursor
        progress = False
        for message in history.messages:
            if room.last is None or message.offset > room.last:
                progress = True
                yield self._deliver(room, message, past=False)
        yield from self._release(room)
        if progress and (room.held or (room.until is not None and room.cursor != room.until)):
            self._due.append((0.0, _Request("history", room.name)))
            return
        if room.held:  # the log has nothing that would come before them
            yield self._lose(room)
            yield from self._release(room)
        room.filling = False

    def _release(self, room: _Room) -> Iterator[events.Event]:
        """Deliver held messages up to the next hole."""
        for offset in sorted(room.held):
            if room.last is not None and offset > room.last + 1:
                return
            message = room.held.pop(offset)
            if room.last is None or offset > room.last:
                yield self._deliver(room, message, past=False)

    def _lose(self, room: _Room) -> events.Lost:
        room.last = None
        return events.Lost(room.name)

    def _acknowledged(self, ack: wire.Ack) -> Iterator[events.Event]:
        request = self._requests.pop(ack.id, None)
        if request is not None and request.kind == "publish":
            del self._outbox[request.subject]
            yield events.Acknowledged(request.subject, ack.room, ack.offset)

    def _failed(self, error: wire.Error, now: float) -> Iterator[events.Event]:
        request = self._requests.pop(error.id, None) if isinstance(error.id, int) else None
        match request:
            case None | _Request("leave" | "members"):
                yield events.Complaint(None, error.code, error.message)
            case _ if error.code in _PASSING and (request.kind == "publish" or request.subject in self._rooms):
                delay = error.retry_after if error.retry_after is not None else RETRY_DELAY
                self._due.append((now + delay, request))
            case _Request("publish", key):
                yield self._refuse(key, error.code, error.message)
            case _Request("join", name):
                self._rooms.pop(name, None)
                yield events.Complaint(name, error.code, error.message)
            case _Request("history", name) if (room := self._rooms.get(name)) is not None:
                yield self._lose(room)
                yield from self._release(room)
                room.filling = False

    def _refuse(self, key: str, code: str, message: str) -> events.Refused:
        del self._outbox[key]
        return events.Refused(key, code, message)
