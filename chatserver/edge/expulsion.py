"""Removes kicked and banned users from their rooms, on every transport.

Owns: the search for their connections, then for users who are present without one (between two polls, or after a
reload); how a connection of each kind ends. May not: know the reason, or whether the user may return. Users who join
during a search were checked already (chat/moderation.py).

A WebSocket is notified and leaves the room, a held poll is refused, an event stream is notified and ends: each client
can show why. A ban from all rooms closes WebSockets too.
"""

from collections.abc import Iterator
from time import perf_counter
from typing import NamedTuple

from chatserver.api.session import WebSocketSession
from chatserver.chat.hub import Hub
from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.moderation import Expulsion
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.edge.http import HttpExchanges
from chatserver.fair import STEP
from chatserver.log.sanctions import EVERYWHERE
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.states import Priority
from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode, Reason

#: Places of the connection table searched in one step (0.1 ms) at most; fewer if the connections that end there take
#: longer. To end one takes up to a hundred times as long as to pass it, and with 100 rooms a hundred times that.
SEARCH_STEP = 512


class _Search(NamedTuple):
    """A search under way: an expulsion, and the next place in the table."""

    expulsion: Expulsion
    at: int


class _LostSearch(NamedTuple):
    """The same for users without a connection."""

    expulsion: Expulsion
    left: Iterator[tuple[Room, Principal]]


class Expeller:
    """See the module."""

    def __init__(self, connections: Connections, hub: Hub, exchanges: HttpExchanges) -> None:
        self._connections = connections
        self._hub = hub
        self._exchanges = exchanges

    def expel(self, expulsion: Expulsion) -> None:
        """Begin the search; the expulsion's `over` is set at its end."""
        self._go_on(_Search(expulsion, 0))

    def _go_on(self, search: _Search) -> None:
        self._connections.scheduler.submit(Priority.NORMAL, self._step, search)

    def _step(self, search: _Search) -> bool:
        expulsion, at = search
        table = self._connections.table
        end, until = min(at + SEARCH_STEP, len(table)), perf_counter() + STEP
        try:
            while at < end:
                connection = table[at]
                at += 1
                if connection is not None and self._expelled(connection, expulsion) and perf_counter() >= until:
                    break
        finally:
            if at < len(table):
                self._go_on(_Search(expulsion, at))
            else:
                self._go_on_with_lost(_LostSearch(expulsion, self._hub.lost_ones(expulsion.room)))
        return False

    def _go_on_with_lost(self, search: _LostSearch) -> None:
        self._connections.scheduler.submit(Priority.NORMAL, self._lost_step, search)

    def _lost_step(self, search: _LostSearch) -> bool:
        expulsion, found = search
        left, until = SEARCH_STEP, perf_counter() + STEP
        try:
            for room, principal in found:
                left -= 1
                if expulsion.concerns(principal) and self._hub.forget_lost(room, principal):
                    expulsion.ended += 1
                    left = left if perf_counter() < until else 0
                if not left:
                    break
        finally:
            if not left:
                self._go_on_with_lost(search)
            else:
                expulsion.over.set()  # set even after a failure, since a moderator waits for it
        return False

    def _expelled(self, connection: Connection, expulsion: Expulsion) -> bool:
        """Whether the expulsion concerns this connection; if so, what it has open there has been ended."""
        principal = principal_of(connection.context)
        if principal is None or not expulsion.concerns(principal):
            return False
        if self._connections.step(connection, self._end, expulsion):
            self._connections.resume(connection, later=True)
        return True

    def _end(self, connection: Connection, expulsion: Expulsion) -> bool:
        """End what the connection has open in the room. True: another request may be in the inbox."""
        refusal = expulsion.refusal
        match connection.context:
            case WebSocketSession() as session:
                self._end_memberships(connection, session, expulsion)
            case PollWaiter() as waiter:
                return self._refuse_held(connection, waiter, expulsion)
            case Member() as member if expulsion.is_from(member.room.name):
                expulsion.ended += 1
                room, principal = member.room, member.room.members[member]
                told = member.encoding.expelled(room.name, refusal.sentence, refusal.seconds_left)
                self._connections.finish(connection, Reason.BANNED if expulsion.banned else Reason.KICKED, told)
                self._hub.forget_lost(room, principal)
        return False

    def _refuse_held(self, connection: Connection, waiter: PollWaiter, expulsion: Expulsion) -> bool:
        left = [room for room, _ in waiter.places() if expulsion.is_from(room.name)]
        if not left:
            return False
        expulsion.ended += 1
        sentence, seconds_left = expulsion.refusal.sentence, expulsion.refusal.seconds_left
        error = MessageError(ErrorCode.FORBIDDEN, sentence, wait=seconds_left, room=expulsion.room)
        more = self._exchanges.refuse_held(connection, waiter, error)
        for room in left:
            self._hub.forget_lost(room, waiter.principal)
        return more

    def _end_memberships(self, connection: Connection, session: WebSocketSession, expulsion: Expulsion) -> None:
        refusal, dialect = expulsion.refusal, session.dialect
        told = b""
        for member in session.rooms():
            room = member.room.name
            if expulsion.is_from(room):
                expulsion.ended += 1
                session.remove(member)
                self._hub.leave(member)
                told += dialect.expelled(room, refusal.sentence, refusal.seconds_left)
        if expulsion.banned and expulsion.room == EVERYWHERE:
            told += dialect.close(Reason.BANNED, refusal.sentence)
            self._connections.finish(connection, Reason.BANNED, told)
        elif told:
            self._connections.send(connection, told)


def principal_of(context: object) -> Principal | None:
    """The principal of a connection with this context: a WebSocket, a held poll or an event stream; else None."""
    if isinstance(context, WebSocketSession | PollWaiter):
        return context.principal
    return context.room.members.get(context) if isinstance(context, Member) else None
