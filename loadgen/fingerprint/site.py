"""The target as the probes see it: where to connect, what it serves, how much time is left, and a request to it.

Owns: the options of a fingerprint, what a probe may need of a server, and how exact a measured time is. A request is
sent in pieces while its answer is awaited, and a failed connection becomes a finding.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import inf
from typing import Annotated, Final, TypeVar

import trio
from cyclopts import Parameter

from loadgen.fingerprint.found import Failed, Finding, NotApplicable
from loadgen.flags import MAX_SECONDS, N, Range, Seconds, UrlPath
from loadgen.net import sockets, wire
from loadgen.net.answers import TURNED_AWAY
from loadgen.net.line import FAILURES, Answer, EndedError, Exchange, GarbledError, Line, describe, dial
from loadgen.net.target import Target

K = TypeVar("K")
T = TypeVar("T")


class NotServedError(Exception):
    """The server does not serve what the probe needs."""


class TurnedAwayError(Exception):
    """The server has no capacity, which says nothing about the request itself."""


#: Every way in which a request can fail.
TROUBLE: Final = (*FAILURES, GarbledError, NotServedError, TurnedAwayError)


async def tried(play: Callable[[], Awaitable[T]]) -> T | Failed | NotApplicable:
    """Return the finding, or a failed connection as one; the error does not reach the other probes."""
    try:
        return await play()
    except NotServedError as error:
        return NotApplicable(why=str(error))
    except TROUBLE as error:
        return Failed(why=describe(error))


async def side_by_side(plays: Mapping[K, Callable[[], Awaitable[Finding]]], until: float = inf) -> dict[K, Finding]:
    """Play all at once, and return the finding of each; what has not ended by then has failed."""
    findings: dict[K, Finding] = dict.fromkeys(plays, Failed(why="it did not end in time"))

    async def play(name: K) -> None:
        findings[name] = await tried(plays[name])

    with trio.move_on_at(until):
        async with trio.open_nursery() as nursery:
            for name in plays:
                nursery.start_soon(play, name)
    return findings


async def while_sending(
    line: Line, pieces: Iterable[bytes], listen: Callable[[], Awaitable[T]], pace: float = 0.0
) -> T:
    """Send the pieces, the first at once and then one each `pace` seconds, until `listen` returns.

    It may return before all of them are sent: the server may answer early, or close.
    """

    async def send() -> None:
        due = trio.current_time()
        with suppress(EndedError):  # the listener sees it too, after the server's last bytes
            for piece in pieces:
                await trio.sleep_until(due)
                await line.send(piece)
                due += pace

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        trouble = None
        try:
            heard = await listen()
        except (EndedError, GarbledError) as error:
            trouble = error  # raised outside, because the nursery would wrap it in an exception group
        nursery.cancel_scope.cancel()
    if trouble is not None:
        raise trouble
    return heard


async def exchange(line: Line, pieces: Iterable[bytes], *, pause: float = 0.0, enough: float = inf) -> Answer:
    """Send a request in pieces and return the answer, which may come before the last piece, up to `enough` bytes."""
    answer = await while_sending(line, pieces, partial(Exchange(line).whole, enough), pause)
    if answer.status in TURNED_AWAY:
        raise TurnedAwayError(f"turned away: {answer.status}")
    return answer


#: The survey takes two or three seconds; any time beyond this is taken off the probes', so that the run still ends.
LOOK_AROUND_SECONDS: Final = 5.0

#: A plain request, or one step of a search, that takes longer counts as unanswered.
ANSWER_SECONDS: Final = 5.0

#: A server that has not begun to answer after this long is waiting for more input.
PROMPT_SECONDS: Final = 1.0

#: How often our own lateness is checked; a stall that begins and ends between two checks is not seen.
LAG_EVERY_SECONDS: Final = 0.05

#: Stands for the seconds in the path of a long-poll.
WAIT: Final = "{wait}"

#: A body that no chat server takes for a message, at any size: it gets an answer, but no entry in a log.
BODY_TYPE: Final = "Content-Type: application/json"
BODY_BEGIN: Final = b"{"

#: Source addresses used in turn: more than there are probes, so that a cap per address affects only its own probe. The
#: next one is that probe's.
SOURCES: Final = 200

_NO_FLAG: Final = Parameter(parse=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a fingerprint. The default paths are those of the chat contract."""

    # long enough to see nginx's and aiohttp's 75 s and node's 89 s, short enough for two minutes in all; the honest
    # slow probes take 8 s, so a run of less than ten would fail every server
    within: Annotated[Seconds, Parameter(validator=Range(10, MAX_SECONDS))] = 105.0
    """Patience of each probe in seconds: a deadline beyond it is not seen."""
    path: UrlPath = "/"
    """A page for plain requests."""
    read_path: UrlPath | None = None
    """What the slow readers ask for; by default --path, many times over."""
    post_path: UrlPath = "/rooms/fingerprint/messages"
    """Where the server takes a body; if it is not there, --path."""
    poll_path: Annotated[str, Parameter(metavar="PATH")] = f"/rooms/fingerprint-quiet/messages?wait={WAIT}"
    """Where a request is held for {wait} seconds if there is no news."""
    ws_path: UrlPath = "/ws"
    """Where the server speaks WebSocket."""
    # twice a large office; more could use up the descriptors of a small server, and thousands would be an attack
    connections: Annotated[N, Parameter(validator=Range(0, 5000))] = 600
    """Connections to open from one address, to find its cap; 0 leaves that alone."""
    # seconds between two drips, and between two plain requests
    pace: Annotated[float, _NO_FLAG] = 1.0
    # bytes a second of the slow readers: 0; values on both sides of the minimum rates in use (240, 256), because the
    # fate of a reader at exactly that rate depends on its segment size; 3 KB/s, a phone on 2G
    read_rates: Annotated[tuple[int, ...], _NO_FLAG] = (0, 50, 100, 200, 300, 600, 1000, 3072)


class Need(Enum):
    NOTHING = "nothing"
    HTTP = "an answer to a plain request"
    KEEPALIVE = "a connection kept for another request"
    BODY = "a path where a body is waited for"
    CHUNKS = "the same for a body in chunks"
    POLL = "a path where a request is held"
    WEBSOCKET = "a WebSocket"
    TLS = "TLS"
    CROWD = "many connections"


class Site:
    def __init__(self, target: Target, options: Options, fields: tuple[str, ...] = ()) -> None:
        self.target = target
        self.options = options
        self.fields = fields  # of every request
        self.lacks: dict[Need, Finding] = {}  # needs that are not met, with the finding of the probes that have them
        self.beside_crowd: Finding = NotApplicable(why="not tried")  # whether another address is served beside many
        self.notes: list[str] = []
        # a request that the server is known to take: a GET, or an upgrade if it refuses that
        self.plain_status = 0
        self.plain_path = options.path
        self.plain_fields: tuple[str, ...] = ()
        self.body_path = "/"
        self.begun = trio.current_time()
        self.until = self.begun + options.within  # when the probes' patience ends; `begin` moves it
        self.usual_seconds = 0.0  # what a plain request takes when there are no others
        self.worst_lag = 0.0  # seconds: the latest that our own schedule ran so far
        self._dialled = 0

    def begin(self) -> None:
        """Start the clock of the probes; time that the survey took beyond its own limit is taken off theirs."""
        self.until = min(trio.current_time(), self.begun + LOOK_AROUND_SECONDS) + self.options.within

    def dial(
        self, *, source: str | None = None, plaintext: bool = False, options: Iterable[tuple[int, int, int]] = ()
    ) -> AbstractAsyncContextManager[Line]:
        """Connect, each time from another source address if the target allows it."""
        self._dialled += 1
        source = source or self.target.source(self._dialled % SOURCES)
        return dial(self.target, source=source, plaintext=plaintext, options=options)

    def get(self, path: str, *fields: str) -> bytes:
        return wire.request("GET", path, self.target.authority, *self.fields, *fields)

    def plain_request(self, *more: str) -> bytes:
        """Return the request that this server is known to answer, with more fields."""
        return self.get(self.plain_path, *self.plain_fields, *more)

    def post(self, *fields: str, path: str = "") -> bytes:
        """Return the head of a request for which the server awaits a body."""
        return wire.request("POST", path or self.body_path, self.target.authority, BODY_TYPE, *self.fields, *fields)

    async def ask(self, *pieces: bytes, pause: float = 0.0, enough: float = inf) -> Answer:
        with trio.fail_after(ANSWER_SECONDS + pause * len(pieces)):
            async with self.dial() as line:
                return await exchange(line, pieces, pause=pause, enough=enough)

    def doubt(self, line: Line) -> float:
        """Seconds by which a time may be off: a round trip, our own lateness, and the interval of checking that."""
        return sockets.round_trip_seconds(line.fileno) + self.worst_lag + LAG_EVERY_SECONDS
