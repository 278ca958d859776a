"""One user's conversation across many connections, without I/O: answers in, events and requests out.

Owns: the cursor of each room, the unanswered requests, and the resulting promise: each record of a room is delivered
once and in order, or a `Gap` is reported; each write is made once, or its failure is reported. May not: import trio,
read a clock (time arrives as an argument), know a URL or a transport.

How the promise is kept:

- A room is joined with `after` = the cursor of the last delivered record. A duplicate has an offset that was delivered,
  and is dropped. A record that comes too early (after a hole or a skip) is held until `history` has filled the hole.
- A room with a slow reader is paused: only its cursor is kept, and `history` fetches the rest later.
- A write is sent with a key until it is acknowledged, and the server accepts a key once. One write of each room is in
  flight at a time: with two, if the first were refused for now, the second would overtake it.
"""

import math
import random
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import msgspec

from chatserver.client import events, requests, wire
from chatserver.client.errors import ChatError, error_of, is_retryable

HISTORY_LIMIT = 200  # records in one request; a server that returns fewer is asked again
HELD_RECORDS = 1000  # held for a room while a hole is filled; later ones are fetched by `history` as well
SENT_AGAIN_FOR = 570.0  # s for which a write is sent again; the server knows its key for 600 from its arrival
RETRY_DELAY = 1.0  # s, after a passing error without a time
LONGEST_WAIT = 300.0  # s; a client that asks every five minutes harms no server, and a mistaken time does not end it
CLOSE_TOO_BIG = 1009  # RFC 6455 section 7.4.1: our message was over a limit
LOG_END = ""  # in place of a cursor: no record has it, so pages are read until one has nothing new
TOO_LARGE = "too_large"  # the same as an error, of a server that reads longer frames than messages


def waiting_time(asked: float | None) -> float:
    """Return the seconds until a repetition: as long as the server asked, within reason, but not without a pause."""
    return min(asked, LONGEST_WAIT) if asked is not None and asked > 0 else RETRY_DELAY


class Answered(NamedTuple):
    """A caller's request is answered, or has failed for good."""

    id: int
    result: wire.Answer | ChatError


Outcome: TypeAlias = events.Event | Answered


@dataclass(slots=True)
class _Asked:
    request: requests.Request
    until: float = math.inf  # the caller's deadline
    ours: bool = False  # a request of the session itself, repeated on each connection
    due: float = 0.0  # the earliest time to send it
    sent: float | None = None  # when it was sent on this connection, by a clock that goes on while the machine sleeps
    unclear_since: float = math.inf  # when it was first sent on a connection that was lost before the answer


@dataclass(slots=True)
class _Room:
    name: str
    latest: int  # the number of earlier records wanted at the first join
    cursor: str | None = None
    last: int | None = None  # offset of the last delivered record; None before the first one and after a loss
    entered: bool = False
    filling: bool = False  # fetching a hole by `history`, until the held records follow without one
    until: str | None = None  # fetch up to this cursor, or to LOG_END, even if nothing is held
    asked: str | None = None  # `until` when `history` was last asked for
    paused: bool = False  # its reader is slow: new records are fetched later by `history`
    held: dict[int, wire.Record] = field(default_factory=dict)


class Session:
    """See the module's docstring. Every method is synchronous and none waits."""

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._rooms: dict[str, _Room] = {}
        self._last_id = 0
        self._writes: dict[str, dict[int, _Asked]] = {}  # by room, in the order of calls; the first may be sent
        self._others: dict[int, _Asked] = {}

    def ask(self, request: requests.Request, *, until: float = math.inf) -> int:
        """Queue a request; `Answered` will have the returned id. A write without a key gets one."""
        if isinstance(request, requests.Write) and not request.key:
            request = msgspec.structs.replace(request, key=secrets.token_urlsafe(12))
        return self._add(_Asked(request, until))

    def forget(self, id_: int) -> _Asked | None:
        """Drop a request that is answered, or whose caller no longer waits. A write that was sent may still be made."""
        if (asked := self._others.pop(id_, None)) is not None:
            return asked
        for room, queue in self._writes.items():
            if (asked := queue.pop(id_, None)) is not None:
                if not queue:
                    del self._writes[room]
                return asked
        return None

    def join(self, room: str, *, after: str | None = None, latest: int = 0) -> None:
        """Join another room from a cursor, or with this many of the latest records (as far as the server has them)."""
        self._drop(room)  # a `leave` that was refused for now would come behind the join
        self._rooms[room] = _Room(room, latest, cursor=after)
        self._enter(room)

    def leave(self, room: str) -> None:
        self._drop(room)
        self._add(_Asked(requests.Leave(room=room), ours=True))

    def pause(self, room: str) -> None:
        """Stop delivering a room's records, and keep only its cursor."""
        if (found := self._rooms.get(room)) is not None:
            found.paused = True

    def resume(self, room: str) -> None:
        """Continue where `pause` stopped."""
        if (found := self._rooms.get(room)) is not None:
            found.paused = False
            if found.until is not None:
                self._fill(found)

    def opened(self, clock: float) -> list[Answered]:
        """Begin on a new connection: requests sent on the old one will not be answered any more.

        A write that was sent long ago fails: if it was made, it might be made again.
        """
        self._others = {id_: asked for id_, asked in self._others.items() if not asked.ours}
        for asked in (*self._others.values(), *self._firsts.values()):
            if asked.sent is not None:
                asked.unclear_since, asked.sent = min(asked.unclear_since, asked.sent), None
        lost = [id_ for id_, asked in self._firsts.items() if clock > asked.unclear_since + SENT_AGAIN_FOR]
        for id_ in lost:
            self.forget(id_)
        for room in self._rooms.values():
            room.entered = room.filling = False
            room.until = None
            room.held.clear()
            self._enter(room.name)
        why = "no connection for ten minutes; it may be stored all the same"
        return [Answered(id_, error_of("unavailable", why)) for id_ in lost]

    def closed(self, code: int | None = None) -> list[Answered]:
        """Note that the connection is gone. A write that was too big for it fails, or it would end the next one too."""
        return self._refuse_longest("the server takes no message of this size") if code == CLOSE_TOO_BIG else []

    def outgoing(self, now: float, clock: float) -> list[requests.Request]:
        """Return the requests to send now on the open connection; a second call without news returns none."""
        found = []
        for id_, asked in (self._others | self._firsts).items():
            if asked.sent is None and asked.due <= now:
                asked.sent = clock
                found.append(self._filled_in(asked.request, id_))
        return found

    def next_time(self) -> float:
        """Return the time at which `outgoing` will have more, if nothing else happens."""
        waiting = [*self._others.values(), *self._firsts.values()]
        return min((asked.due for asked in waiting if asked.sent is None), default=math.inf)

    def receive(self, frame: wire.Frame | wire.Record | None, now: float) -> list[Outcome]:
        """Take a frame or record from the server; return the outcomes."""
        match frame:
            case wire.Record():
                return list(self._offer(frame))
            case wire.Joined():
                return list(self._joined(frame))
            case wire.History() if self._is_ours(frame.id):
                return list(self._fill_from(frame))
            case wire.Read(id=None):
                return [frame]
            case wire.Left(id=None, room=room):
                if room in self._rooms:
                    self._enter(room)  # the refusal says why
            case wire.Read() | wire.Left() | wire.History() | wire.Members() | wire.Ack() | wire.Authenticated():
                return self._answered(frame)
            case wire.Skipped():
                self._skip(frame)
            case wire.Error(id=None):
                return self._complained(frame)
            case wire.Error():
                return list(self._failed(frame, now))
            case wire.GoingAway() | None:
                pass
            case push:
                return [push]
        return []

    # -- requests -----------------------------------------------------------------------------------------------------

    def _add(self, asked: _Asked) -> int:
        self._last_id += 1
        is_write = isinstance(asked.request, requests.Write)
        queue = self._writes.setdefault(asked.request.room, {}) if is_write else self._others
        queue[self._last_id] = asked
        return self._last_id

    @property
    def _firsts(self) -> dict[int, _Asked]:
        """The first write of each room."""
        return dict(next(iter(queue.items())) for queue in self._writes.values())

    def _enter(self, room: str) -> None:
        self._add(_Asked(requests.Join(room=room), ours=True))

    def _filled_in(self, request: requests.Request, id_: int) -> requests.Request:
        """Set the id of a request, and in one of the session itself also the room's present cursor."""
        if isinstance(request, requests.Typing):
            del self._others[id_]  # no caller waits for its only answer, an error
        if self._is_ours(id_) and isinstance(request, requests.Join | requests.History):
            return msgspec.structs.replace(request, id=id_, after=self._rooms[request.room].cursor)
        return msgspec.structs.replace(request, id=id_)

    def _is_ours(self, id_: int) -> bool:
        asked = self._others.get(id_)
        return asked is not None and asked.ours

    def _answered(self, answer: wire.Answer) -> list[Outcome]:
        id_ = answer.id or 0
        asked = self.forget(id_)
        return [] if asked is None or asked.ours else [Answered(id_, answer)]

    def _refuse_longest(self, why: str) -> list[Answered]:
        """Fail the longest write that was sent: the server has not read what was too long, and so cannot name it."""
        sent = {id_: asked.request for id_, asked in self._firsts.items() if asked.sent is not None}
        if not sent:
            return []
        id_ = max(sent, key=lambda id_: len(msgspec.json.encode(sent[id_])))
        self.forget(id_)
        return [Answered(id_, error_of(TOO_LARGE, why))]

    def _complained(self, error: wire.Error) -> list[Outcome]:
        """Take an error that names no request."""
        if error.code == TOO_LARGE and (refused := self._refuse_longest(error.message)):
            return [*refused]
        if error.room is not None:
            self._drop(error.room)
        return [events.Complaint(error.room, error.code, error.message, error.retry_after)]

    def _failed(self, error: wire.Error, now: float) -> Iterator[Outcome]:
        id_ = error.id or 0
        asked = (self._others | self._firsts).get(id_)
        if asked is None:
            return
        name = asked.request.room
        if is_retryable(error.code, error.retry_after):
            delay = waiting_time(error.retry_after)
            if error.code == "rate_limited":
                # Two programs of one user share its rate: if both came at the earliest moment, the same one could be
                # first each time. Coming later costs little, since the rate allows more then.
                delay += min(delay, RETRY_DELAY) * self._jitter()
            if now + delay < asked.until:
                asked.sent, asked.due = None, now + delay
                yield events.Postponed(name, error.code, error.message, delay)
                return
        self.forget(id_)
        if not asked.ours:
            yield Answered(id_, error_of(error.code, error.message, error.retry_after))
        elif not isinstance(asked.request, requests.Leave):
            if isinstance(asked.request, requests.Join):
                self._drop(name)
            else:
                self.leave(name)  # without its history we cannot keep our promise
            yield events.Complaint(name, error.code, error.message, error.retry_after)

    # -- rooms --------------------------------------------------------------------------------------------------------

    def _drop(self, room: str) -> None:
        """Forget a room, and our own requests for it, which would be sent with its cursor."""
        self._rooms.pop(room, None)
        self._others = {
            id_: asked for id_, asked in self._others.items() if not (asked.ours and asked.request.room == room)
        }

    def _room_of(self, id_: int) -> _Room | None:
        """Return the room of a request of the session itself, unless we have left it since."""
        asked = self._others.pop(id_, None)
        return None if asked is None else self._rooms.get(asked.request.room)

    def _joined(self, joined: wire.Joined) -> Iterator[Outcome]:
        room = self._room_of(joined.id)
        if room is None:
            return
        room.entered = True
        resumed = room.cursor is not None
        found = joined.records
        skipped = [] if resumed else found[: max(0, len(found) - room.latest)]
        records = found[len(skipped) :]
        until, place = found[-1].offset if found else 0, None if records else joined.cursor
        yield events.Entered(room.name, joined.members, resumed, until, place)
        if not joined.recovered:
            yield self._lose(room)
        for record in skipped[-1:]:
            room.last, room.cursor = record.offset, record.cursor
        for record in records:
            yield from self._offer(record)
        if not records:
            room.cursor = joined.cursor

    def _offer(self, record: wire.Record) -> Iterator[Outcome]:
        """Deliver a record if it is the next one, hold it if it is early, drop it if it was delivered."""
        room = self._rooms.get(record.room)
        if room is None or not room.entered:
            return  # records that come before `joined` are in it, or leave a hole that is filled then
        if room.last is not None and record.offset <= room.last:
            return
        if room.paused and room.cursor is not None:  # else there is no place from which to read it later
            room.until = record.cursor
            return
        early = room.last is not None and record.offset > room.last + 1
        if not room.filling and not early:
            yield from self._deliver(room, record)
            return
        self._fill(room)
        if len(room.held) < HELD_RECORDS:
            room.held[record.offset] = record
        else:
            room.until = record.cursor

    def _deliver(self, room: _Room, record: wire.Record) -> Iterator[Outcome]:
        room.last = record.offset
        room.cursor = record.cursor
        if room.until == record.cursor:
            room.until = None
        if isinstance(record, wire.Message | wire.Edit | wire.Deletion | wire.Reaction):
            yield record  # a record of an unknown type only moves the cursor

    def _skip(self, skipped: wire.Skipped) -> None:
        room = self._rooms.get(skipped.room)
        if room is None or not room.entered:
            return
        if not room.paused:
            self._fill(room)
        room.until = skipped.until

    def _fill(self, room: _Room) -> None:
        if not room.filling:
            room.filling = True
            self._ask_history(room)

    def _ask_history(self, room: _Room) -> None:
        room.asked = room.until
        self._add(_Asked(requests.History(room=room.name, limit=HISTORY_LIMIT), ours=True))

    def _fill_from(self, history: wire.History) -> Iterator[Outcome]:
        room = self._room_of(history.id)
        if room is None:
            return
        before = room.cursor
        if not history.recovered:
            yield self._lose(room)
            room.cursor, room.last = history.cursor, _end_without(room.held, history)
        for record in history.records:
            if room.last is None or record.offset > room.last:
                yield from self._deliver(room, record)
        yield from self._release(room)
        # Over HTTP, a skip may have overtaken this answer, which then does not have what was skipped.
        may_go_on = room.cursor != before or room.until != room.asked
        more = may_go_on and (bool(room.held) or room.until is not None)
        if more and room.paused:  # its reader is slow: `resume` continues
            if room.held:  # they may be before `until` or behind it
                room.until = LOG_END
                room.held.clear()
            room.filling = False
            return
        if more:
            self._ask_history(room)
            return
        if room.held:  # the log has no records before these
            yield self._lose(room)
            yield from self._release(room)
        room.filling, room.until = False, None

    def _release(self, room: _Room) -> Iterator[Outcome]:
        """Deliver held records up to the next hole."""
        for offset in sorted(room.held):
            if room.last is not None and offset > room.last + 1:
                return
            record = room.held.pop(offset)
            if room.last is None or offset > room.last:
                yield from self._deliver(room, record)

    def _lose(self, room: _Room) -> events.Gap:
        gap = events.Gap(room.name, room.cursor)
        room.last = room.cursor = None  # until the next record, or the end of the answer
        return gap


def _end_without(held: Iterable[int], history: wire.History) -> int | None:
    """The offset at the end of an answer without records, unless one up to there is held, which is delivered.

    Over HTTP, the next record to come may be one that was delivered, or may have overtaken others.
    """
    offset = history.cursor.rpartition("-")[2]
    if history.messages or not offset.isdecimal() or len(offset) > 16 or min(held, default=math.inf) <= int(offset):
        return None
    return int(offset)
