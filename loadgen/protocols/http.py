"""Plain HTTP, for any web server: victims that ask again and again, newcomers that ask once, load at a rate.

Owns: requests as an `Endpoint` describes them, and a victim's connection by h11. A status below 400 is a success,
unless the page has shrunk since before the attack.
"""

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache, partial
from typing import Final, TypeVar

import trio

from loadgen.clients.client import Needs, Stage, state
from loadgen.net import sockets, wire
from loadgen.net.answers import CLOSED, OTHER_TYPE, is_planned, no_page
from loadgen.net.line import Answer, EndedError, Exchange
from loadgen.net.target import Endpoint
from loadgen.personas import persona
from loadgen.personas.honest import Speaking
from loadgen.victims.probe import CONNECT_TIMEOUT_SECONDS, Context
from loadgen.victims.victim import OperationFailedError, Protocol, Victim

T = TypeVar("T")

#: A larger body is a failure where it is read: a page of a chat's messages has some kilobytes.
MAX_BODY_BYTES: Final = 4 * 1024 * 1024

#: The failure of a server that is out of step: what it sends would be taken for the answer to the next request.
UNASKED: Final = "bytes behind an answer, for which nobody asked"


class HttpPeer:
    """A victim's connection to the server, one at a time. Raises the errors that `victim` counts as failures."""

    def __init__(self, context: Context, index: int, connection: AsyncExitStack) -> None:
        self._context = context
        self._index = index
        self._connection = connection  # closes the present one

    async def connect(self) -> None:
        """Connect, instead of any former connection."""
        await self._connection.aclose()
        self._line = await self._connection.enter_async_context(self._context.dial(self._index))
        self._is_open = True  # another request may follow, which is not so after an answer that closes
        self.is_reused = False  # it has had an answer, and a server may end it before it sees the next request

    async def asked(self, ask: Callable[[], Awaitable[T]], planned_ends: list[float] | None = None) -> T:
        """Ask, and once more on a new connection if the request has crossed with the end of an idle one.

        Where that is not certain, only what may be done twice is asked again: `planned_ends` are those of its victim.
        """
        try:
            return await ask()
        except EndedError:
            fd = self._line.fileno
            if not self.is_reused or not sockets.has_crossed(fd):
                raise
            if not sockets.ended_first(fd) and (planned_ends is None or not is_planned(planned_ends)):
                raise
        await self.connect()
        return await ask()

    async def request(self, method: str, path: str, body: bytes = b"", fields: Sequence[str] = ()) -> tuple[int, bytes]:
        exchange, answer = await self._ask(method, path, body, fields, most_bytes=MAX_BODY_BYTES)
        parts = [part async for part in exchange.body()]
        await self._end(exchange)
        return answer.status, b"".join(parts)

    async def measure(self, path: str) -> tuple[int, int, str]:
        """Fetch a page and return the status, the size of the body, which is not kept, and its type."""
        exchange, answer = await self._ask("GET", path)
        size = sum([len(part) async for part in exchange.body()])
        await self._end(exchange)
        return answer.status, size, wire.media_type(answer.fields)

    async def _end(self, exchange: Exchange) -> None:
        self._is_open, self.is_reused = not exchange.closes, True
        if self._is_open and exchange.rest:
            raise OperationFailedError(UNASKED)
        if not self._is_open:  # some servers wait for that, and serve nobody meanwhile
            await self._connection.aclose()

    async def stream(self, path: str, fields: Sequence[str] = ()) -> Exchange:
        """Request a stream, whose data is the body of this exchange."""
        exchange, answer = await self._ask("GET", path, fields=fields)
        if answer.status != 200:
            raise OperationFailedError(f"answered {answer.status}")
        return exchange

    async def _ask(
        self, method: str, path: str, body: bytes = b"", fields: Sequence[str] = (), *, most_bytes: float = math.inf
    ) -> tuple[Exchange, Answer]:
        # not sooner: a connection without a request holds a small server's worker
        if not self._is_open or (self.is_reused and self._line.ending):
            await self.connect()
        all_fields = (
            *self._context.endpoint.fields,
            *fields,
            *([f"Content-Length: {len(body)}"] if body else []),
        )
        await self._line.send(wire.request(method, path, self._context.target.authority, *all_fields) + body)
        exchange = Exchange(self._line, method, most_bytes=most_bytes)
        return exchange, await exchange.begin()


@asynccontextmanager
async def http_peer(context: Context, index: int) -> AsyncIterator[HttpPeer]:
    async with AsyncExitStack() as connection:
        peer = HttpPeer(context, index, connection)
        await peer.connect()
        yield peer


class GetVictim(Victim):
    """Asks for a path: the victim for any web server."""

    name = "get"
    words = "GET"

    async def live(self) -> None:
        async with http_peer(self.context, self.index) as peer:
            if self.stays:
                with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
                    failure = await self._get(peer)
                if failure:  # a server that only accepts serves nobody
                    raise OperationFailedError(failure)
            await self.speak(partial(self._ask, peer))

    async def _ask(self, peer: HttpPeer, number: int) -> None:
        self.book(number, await peer.asked(partial(self._get, peer), self._planned_ends))

    async def _get(self, peer: HttpPeer) -> str:
        """Fetch the page, which is no --request that posts; return the failure, or an empty text."""
        return self.context.fault_in_page(*await peer.measure(self.context.endpoint.path))


@persona
class Request(Speaking):
    """Connection that sends plain requests on the open-loop schedule, one after the other (what wrk2 does).

    A request that is due while the one before it is unanswered waits, and its latency includes the wait. If the server
    closes between two requests, the client reconnects when its next one is due; if it closes just as one is sent, that
    is sent once more, unless it might then be done twice (RFC 9110 section 9.2.2).
    """

    needs = Needs.HTTP

    _queue: deque[int] | None = state(None)  # due, not sent; None if empty, since a deque is four times the client
    _asked: int | None = state(None)  # sent, not answered

    def opening(self) -> bytes:
        return b""

    def on_connected(self) -> None:
        self.hold()
        self._traffic.enter(self)
        if self._asked is not None:
            self._ask()
        self._send_next()

    def publish(self, number: int, text: str) -> None:
        del text  # every request is the same
        if self._queue is None:
            self._queue = deque()
            if self.stage is Stage.WAITING and self._asked is None:  # without a connection since the last answer
                self.cohort.engine.reopen(self)
        self._queue.append(number)
        self._send_next()

    def _send_next(self) -> None:
        if self._asked is None and self._queue and self.stage is Stage.HELD:
            self._asked = self._queue.popleft()
            if not self._queue:
                self._queue = None
            self._ask()

    def _ask(self) -> None:
        self.send_request(encoded(self.cohort.place.endpoint, self.cohort.place.host))

    def on_data(self, data: bytes) -> None:
        answer = self.read_response(data, bodiless=self.cohort.place.endpoint.method == "HEAD")
        if answer is None:
            return
        if answer.keeps_alive and (self.unread or self._asked is None):
            raise wire.WireError(UNASKED)
        self._book_answer(answer)
        self.is_reused = True
        if answer.keeps_alive:
            self._send_next()
        else:
            self._rest()

    def on_hangup(self, how: str) -> None:
        """Stay away until needed: a server may end an idle connection, but not while an answer is due."""
        if self.stage is not Stage.HELD:
            self.fail(how)
            return
        may_repeat = self._asked is not None and self.cohort.place.endpoint.is_idempotent
        if may_repeat and self.may_ask_again() and self.return_as_planned():
            return
        if how == CLOSED and self.response is not None and self.response.end():
            self._book_answer(self.response)
        else:
            self._book(how)
        self._rest()

    def _book_answer(self, answer: wire.Response) -> None:
        """Book an answer, which failed if it is an error, or has no page where there was one before the run."""
        endpoint = self.cohort.place.endpoint
        if answer.status >= 400:
            self._book(f"answered {answer.status}")
        elif endpoint.method != "GET" or endpoint.page_type is None:
            self._book("")
        elif answer.status != 200 or not answer.has_body:
            self._book(no_page(answer.status))
        else:
            self._book("" if answer.media_type == endpoint.page_type else OTHER_TYPE)

    def _rest(self) -> None:
        """Reconnect if a request waits, and otherwise when the next one is due, as users' clients do."""
        if self._queue is None:
            self.cohort.engine.close(self)
        else:
            self.cohort.engine.reopen(self)

    def fail(self, reason: str, *, turned_away: bool = False) -> None:
        """Book what is due as failed, and come back when the next one is: a server that restarts serves that."""
        queue, self._queue = self._queue or (), None
        was_due = self._asked is not None or bool(queue)
        self._book(reason)
        for number in queue:
            self._traffic.refused(number, reason)
        if not was_due:
            super().fail(reason, turned_away=turned_away)
            return
        self.cohort.engine.end(self, reason, turned_away=turned_away)
        self.stage = Stage.WAITING

    def _book(self, failure: str) -> None:
        asked, self._asked = self._asked, None
        if asked is None:
            return
        if failure:
            self._traffic.refused(asked, failure)
        else:
            self._traffic.acknowledged(self, asked)


@lru_cache
def encoded(endpoint: Endpoint, host: str) -> bytes:
    fields = list(endpoint.fields)
    if endpoint.body or endpoint.method in {"POST", "PUT", "PATCH"}:  # some servers answer 411 without
        fields.append(f"Content-Length: {len(endpoint.body)}")
    return wire.request(endpoint.method, endpoint.request_path, host, *fields) + endpoint.body


PROTOCOL: Final = Protocol(
    name="http",
    victims=(GetVictim,),
    speaker="request",
    idle="request",
    proves=frozenset((Needs.HTTP,)),
)
