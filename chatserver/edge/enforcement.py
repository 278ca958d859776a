"""Applies mutes, bans, kicks and sign-outs to open connections, on every transport.

Owns: the search for the connections of the users concerned, then, except for a mute, for users who are present without
one (between two polls, or after a reload). May not: know the reason. Users who join during a search were
checked already (chat/moderation.py).

After a ban or a kick a WebSocket is notified and leaves the room (a ban from all rooms closes it), a held poll is
refused, an event stream is notified and ends. After a mute both are notified; a poll's answer has no field for it.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import cast

from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.moderation import Enforcement
from chatserver.chat.principal import Principal
from chatserver.chat.ring import Encoding
from chatserver.edge.responses import Responder
from chatserver.fair import LongWork, do_step
from chatserver.log.sanctions import EVERYWHERE, Penalty
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.states import Priority
from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode, Reason

#: Memberships of one WebSocket ended at once: 0.1 ms.
ENDED_AT_ONCE = 16
#: What a user reads whose connection a sign-out ends.
SIGNED_OUT = "signed out"


class Enforcer:
    def __init__(self, connections: Connections, hub: Hub, responder: Responder) -> None:
        self._connections = connections
        self._hub = hub
        self._responder = responder

    def apply(self, enforcement: Enforcement) -> None:
        """Begin the search; the enforcement's `over` is set at its end."""
        self._connections.scheduler.submit(Priority.FIRST, do_step, self._search(enforcement))

    def _search(self, enforcement: Enforcement) -> Iterator[None]:
        act = self._notify if enforcement.kind is Penalty.MUTE else self._end
        try:
            where = self._places(enforcement.room)
            yield from search(self._connections, where, enforcement.concerns, partial(act, enforcement=enforcement))
            if enforcement.kind is Penalty.MUTE:
                return
            for room, principal in self._hub.leaseholders(enforcement.room):
                if enforcement.concerns(principal) and enforcement.applies(principal, room.name):
                    enforcement.ended += self._hub.end_lease(room, principal)
                yield
        finally:
            enforcement.over.set()  # set even after a failure, since a moderator waits for it

    def _places(self, name: str) -> Iterable[Connection | None]:
        """The connections with something open in a room; for all rooms, the whole table. Safe while they change."""
        if name == EVERYWHERE:
            return self._connections.table
        room = self._hub.rooms.get(name)
        there = () if room is None else (*room.members, *(room.waiters or ()))
        return (cast(Connection | None, each.connection) for each in there)

    def _notify(self, connection: Connection, enforcement: Enforcement) -> None:
        """Tell a muted user, once on each connection to the room."""
        encoding: Encoding
        match connection.context:
            case WebSocketSession(dialect=encoding, principal=principal) as session:
                rooms = [EVERYWHERE, *(member.room.name for member in session.rooms())]
            case Member(encoding=encoding, room=room) as member:
                principal, rooms = room.members[member], [room.name]
            case _:
                return
        notice = encoding.moderated("", enforcement.refusal.sentence, enforcement.refusal.seconds_left)
        if notice and any(enforcement.applies(principal, room) for room in rooms):
            self._connections.send(connection, notice)

    def _end(self, connection: Connection, enforcement: Enforcement) -> bool:
        """End what the connection has open in the room. True: there may be more of it."""
        refusal = enforcement.refusal
        match connection.context:
            case WebSocketSession() as session:
                return self._end_memberships(connection, session, enforcement)
            case PollWaiter() as waiter:
                self._refuse_held(connection, waiter, enforcement)
            case Member(room=room) as member if enforcement.applies(principal := room.members[member], room.name):
                enforcement.ended += 1
                notice = member.encoding.moderated(room.name, refusal.sentence, refusal.seconds_left)
                self._connections.finish(
                    connection, Reason.KICKED if enforcement.kind is None else Reason.BANNED, notice
                )
                self._hub.end_lease(room, principal)
        return False

    def _refuse_held(self, connection: Connection, waiter: PollWaiter, enforcement: Enforcement) -> None:
        principal = waiter.principal
        left = [room for room, _ in waiter.places() if enforcement.applies(principal, room.name)]
        if not left:
            return
        enforcement.ended += 1
        sentence, seconds_left = enforcement.refusal.sentence, enforcement.refusal.seconds_left
        where = enforcement.room if enforcement.applies(principal, enforcement.room) else left[0].name
        error = MessageError(ErrorCode.FORBIDDEN, sentence, wait=seconds_left, room=where)
        self._responder.refuse(connection, self._responder.exchange_of(waiter), error)
        for room in left:
            self._hub.end_lease(room, principal)

    def _end_memberships(self, connection: Connection, session: WebSocketSession, enforcement: Enforcement) -> bool:
        refusal, dialect, principal = enforcement.refusal, session.dialect, session.principal
        concerned = filter(lambda member: enforcement.applies(principal, member.room.name), session.rooms())
        notices, some = b"", list(islice(concerned, ENDED_AT_ONCE))
        enforcement.ended += len(some)
        for member in some:
            session.remove(member)
            self._hub.leave(member)
            notices += dialect.moderated(member.room.name, refusal.sentence, refusal.seconds_left)
        if notices:
            self._connections.send(connection, notices)
        if some:
            return True
        if enforcement.kind is Penalty.BAN and enforcement.applies(principal, EVERYWHERE):
            self._connections.finish(connection, Reason.BANNED, dialect.close(Reason.BANNED, refusal.sentence))
        return False


class SignOutSearch:
    """Ends the connections of users who have signed out: one search at a time; during it, others wait for the next."""

    def __init__(self, connections: Connections, hub: Hub, responder: Responder) -> None:
        self._connections = connections
        self._hub = hub
        self._run = LongWork(self._search, partial(connections.scheduler.submit, Priority.FIRST), self)
        self._responder = responder
        self._numbers: set[int] = set()  # of this search
        self._waiting: set[int] = set()  # for the next one

    def begin(self, number: int) -> None:
        """End all connections of this person."""
        self._waiting.add(number)
        self._run.begin()

    def _search(self) -> Iterator[None]:
        while self._waiting:
            self._numbers, self._waiting = self._waiting, set()
            yield from search(self._connections, self._connections.table, self._concerns, self._end)
            for room, principal in self._hub.leaseholders(EVERYWHERE):
                if self._concerns(principal):
                    self._hub.end_lease(room, principal)
                yield

    def _concerns(self, principal: Principal) -> bool:
        return principal.number in self._numbers

    def _end(self, connection: Connection) -> None:
        """End a connection, or refuse what it waits for."""
        match connection.context:
            case WebSocketSession(dialect=dialect):
                self._connections.finish(connection, Reason.EXPIRED, dialect.close(Reason.EXPIRED, SIGNED_OUT))
            case PollWaiter() as waiter:
                error = MessageError(ErrorCode.UNAUTHENTICATED, SIGNED_OUT)
                self._responder.refuse(connection, self._responder.exchange_of(waiter), error)
            case Member():
                self._connections.finish(connection, Reason.EXPIRED)


def search(
    connections: Connections, places: Iterable[Connection | None], concerns: Callable[[Principal], bool],
    act: Callable[[Connection], object],
) -> Iterator[None]:  # fmt: skip
    """Act on the connections of the principals concerned; one item of work for each place.

    If `act` returns true, it is called again with the next item. A fault ends the connection at which it happens, and
    the search goes on.
    """

    def visit(connection: Connection) -> object:
        principal = _principal_of(connection.context)
        return principal is not None and concerns(principal) and act(connection)

    for connection in places:
        while connection is not None and connections.step(connection, visit):
            yield
        yield


def _principal_of(context: object) -> Principal | None:
    """The principal of a connection with this context: a WebSocket, a held poll or an event stream; else None."""
    if isinstance(context, WebSocketSession | PollWaiter):
        return context.principal
    return context.room.members.get(context) if isinstance(context, Member) else None
