"""Requests that cost the server more than the client: history, search, joins, rooms, bad tokens, sign-outs."""

import time
from base64 import urlsafe_b64encode
from hashlib import shake_128
from typing import ClassVar, Final

from loadgen.clients.client import Needs, Threat, state
from loadgen.net import wire
from loadgen.personas import persona
from loadgen.personas._requests import post, upgrading
from loadgen.personas._shapes import Asker
from loadgen.personas._websocket import Envelope, Lingerer, decode, join, publish

#: A room of its own, so that the victims' members do not get these messages.
ASK_THE_LOG_ROOM: Final = "ask-the-log"

#: The list of rooms, a page of the oldest messages, and a search. A third of the clients begins with each.
QUESTIONS: Final = ("/rooms", f"/rooms/{ASK_THE_LOG_ROOM}/messages?after=0&limit=200", "/search?q=words&limit=20")

#: Pause after a refusal. Asking again at once would be a flood of requests, which is another attack.
REFUSED_SECONDS: Final = 1.0


@persona
class AskTheLog(Asker):
    """Asks for the list of rooms, an old page or a search, and again as soon as it is answered.

    A log answers a few reads at a time. If the queue is first in, first out, every other join and page waits behind
    hundreds of these: with 20,000 rooms (`fill-rooms`), 500 of them made joins fail in chatserver.
    """

    usual_clients = 500

    _question = state(0)
    _wrote = state(False)

    def request(self) -> bytes:
        place = self.cohort.place
        if not self._wrote:
            self._wrote = True
            # From 500 clients that is 4 MB, more than servers keep of a room in memory. Servers that identify guests by
            # address and agent give each client its own rate limit.
            text = (b"old words in the log " * 400)[:8000]
            return post(place, ASK_THE_LOG_ROOM, text, f"User-Agent: asker-{self.index}")
        return place.request("GET", QUESTIONS[(self.number + self._question) % len(QUESTIONS)])

    def pause(self, status: int) -> float:
        """Wait after a refusal only; after a 404, go on to the next question."""
        if status == 404:
            self._question += 1
        return REFUSED_SECONDS if status >= 400 else 0.0


class _ChatAsker(Lingerer):
    """Asks by WebSocket, and books the `answers`."""

    threat = Threat.GREEDY
    needs = Needs.CHAT
    answers: ClassVar[tuple[str, ...]] = ("ack", "joined", "error")

    def on_text(self, frame: wire.Frame) -> None:
        message = decode(frame)
        if message.type == "message":
            self.cohort.deliveries += 1
        elif message.type in self.answers:
            self.cohort.answers[f"{message.type} {message.code}".rstrip()] += 1
            self.on_answer(message)

    def on_answer(self, message: Envelope) -> None:
        raise NotImplementedError


#: A room of its own, so that the victims do not get these messages.
CATCH_UP_ROOM: Final = "catch-up"

#: Messages that each client publishes when it connects: 3,200 from 400 clients, three times what a room keeps in
#: memory. They are short because every client reads all of them.
MESSAGES: Final = 8

#: From an answer to the next join: five a second are below the rate limits on messages (20 in chatserver).
AGAIN_SECONDS: Final = 0.2


@persona
class CatchUp(_ChatAsker):
    """WebSocket that joins a room from its first message on, reads for a moment and joins again, for ever.

    Every member does it once after an outage, and most of the messages are in the log only. If all of these reads share
    one queue, an honest reconnect waits: 12 s behind 400 of these.
    """

    usual_clients = 400
    answers = ("joined", "error")

    def on_open(self) -> None:
        self.wake_in(self.pace(REFUSED_SECONDS))
        text = "something that was said a while ago"
        self.send(b"".join(publish(CATCH_UP_ROOM, number, text) for number in range(1, MESSAGES + 1)))

    def on_answer(self, message: Envelope) -> None:
        self.wake_in(self.pace(AGAIN_SECONDS if message.type == "joined" else REFUSED_SECONDS))

    def on_time(self, moment: float) -> None:
        self.send(join(0, CATCH_UP_ROOM, after="0"))


#: Below the body limit of most servers (64 KiB), and above the limit of any on a chat message.
BODY_BYTES: Final = 62_000

#: Below every limit on the rate of requests or messages.
POST_EVERY_SECONDS: Final = 1.7


#: Balanced bidirectional isolates, all of which a check has to count; thousands of keys, one of them escaped, which has
#: to be unescaped before they are compared; letters with as many combining marks as chatserver allows.
_ISOLATES: Final = "\N{LEFT-TO-RIGHT ISOLATE}\N{POP DIRECTIONAL ISOLATE}".encode()
_KEYS: Final = b"".join(b',"%04x":0' % number for number in range((BODY_BYTES - 30) // len(b',"0000":0')))
_MARKS: Final = ("a" + "\N{COMBINING ACUTE ACCENT}" * 8).encode()

_BODIES: Final = (
    ("text/plain; charset=utf-8", _ISOLATES * (BODY_BYTES // len(_ISOLATES))),
    ("application/json", b'{"text":"","\\u006b":0' + _KEYS + b"}"),
    ("text/plain; charset=utf-8", _MARKS * (BODY_BYTES // len(_MARKS))),
)


@persona
class CostlyText(Asker):
    """Posts 62 KB of balanced isolates, of escaped keys or of combining marks every 1.7 s, all of it refused.

    A server that checks content before size and rate reads each to its end: milliseconds of a loop that all clients
    share. 500 of these raised the ping time of every chatserver client to 1.5 s.
    """

    usual_clients = 500

    def request(self) -> bytes:
        content_type, body = _BODIES[self.number % len(_BODIES)]
        return post(self.cohort.place, self.room, body, content_type=content_type)

    def pause(self, status: int) -> float:
        return POST_EVERY_SECONDS


#: Rooms that one connection may be in: chatserver 100, Centrifugo 128.
FILL_ROOMS_ROOMS: Final = 100


@persona
class FillRooms(_ChatAsker):
    """WebSocket that publishes one message in each of a hundred rooms of its own and stays in all of them.

    No limit of a connection is exceeded, but a thousand of these take all rooms that a server keeps in memory (100,000
    in chatserver): no new room can be opened while they stay.
    """

    usual_clients = 1000

    _joined = state(0)  # rooms, on this connection

    def on_open(self) -> None:
        self._joined = 0
        self._write()

    def on_answer(self, message: Envelope) -> None:
        if message.type == "ack":
            self.send(join(self._joined, self._room))
        elif message.type == "joined":
            self._joined += 1
            self._write()
        else:
            self.wake_in(self.pace(REFUSED_SECONDS))

    def on_time(self, moment: float) -> None:
        self._write()

    @property
    def _room(self) -> str:
        return f"fill-{self.index}-{self._joined}"

    def _write(self) -> None:
        if self._joined < FILL_ROOMS_ROOMS:
            self.send(publish(self._room, self._joined, "mine"))


JOIN_MANY_ROOMS: Final = 100_000

#: Joins that await their answers: enough that the server never waits for us.
WINDOW: Final = 50


@persona
class JoinMany(_ChatAsker):
    """WebSocket that joins 100,000 rooms in which it is alone, as fast as the server answers.

    A room takes memory in the server: a history, a list of members, an entry in a cache. The defence is a cap on the
    rooms of a connection; the answers beyond it are booked.
    """

    _asked = state(0)  # joins
    _open = state(0)  # joins without an answer yet

    def on_open(self) -> None:
        self._asked = self._open = 0
        self._ask()

    def on_answer(self, message: Envelope) -> None:
        self._open -= 1
        if self._open <= WINDOW // 2:
            self._ask()

    def _ask(self) -> None:
        first = self._asked
        self._asked = min(first + WINDOW - self._open, JOIN_MANY_ROOMS)
        self._open += self._asked - first
        self.send(b"".join(join(number, self._room(number)) for number in range(first, self._asked)))

    def _room(self, number: int) -> str:
        """Name a room; half of the clients use the longest names, of which fewer fit into one read of the server."""
        name = f"join-{self.index}-{number}"
        return name.ljust(64, "-") if self.index % 2 else name


#: Headers, and bytes of the signature. Those that name no key make a server try each key of the algorithm.
_FORGED: Final = (
    (b"bad", 32),
    (b'{"alg":"HS256"}', 32),
    (b'{"alg":"none"}', 0),
    (b'{"alg":"RS256"}', 256),
    (b'{"alg":"ES256"}', 64),
    (b'{"alg":"EdDSA"}', 64),
    (b'{"alg":"ES256","kid":"unknown"}', 64),
    (b'{"alg":"HS256","typ":"JWT"}', 32),
)


def bad_token(number: int) -> str:
    """Return a different token for each number. Of eight, six are forged, one is unsigned, one is noise.

    None has expired, so that a server that checks this first must go on to the signature. One has as many useless
    claims as fit the 4 KB that servers take as a token.
    """
    header, size = _FORGED[number % len(_FORGED)]
    more = b',"more":"%b"' % (b"x" * 2_500) if number % len(_FORGED) == 1 else b""
    claims = b'{"sub":"u_%d","exp":%d%b}' % (number, time.time() + 3600, more)
    parts = (header, claims, shake_128(b"%d" % number).digest(size))
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


class _Bearer(Asker):
    usual_clients = 500

    _asked = state(0)

    def next_number(self) -> int:
        """Return a number that no other request of the run has."""
        self._asked += 1
        return (self.index << 32) + self._asked - 1


@persona
class BadTokens(_Bearer):
    """Posts, or asks for a WebSocket, with a new bad token each time, and again as soon as it is refused.

    Verifying a signature takes 40 to 100 microseconds for each key that a server tries, and no cache helps, since every
    token is new: 10,000 a second take a whole core, unless size and rate are checked before the signature.
    """

    forged = True

    def request(self) -> bytes:
        """Return the next request; half of the clients ask for a WebSocket."""
        field = f"Authorization: Bearer {bad_token(self.next_number())}"
        if self.number % 2:
            return upgrading(field)(self)
        return post(self.cohort.place, "bad-tokens", b"said by nobody", field)  # if a server accepts it: a room apart


@persona
class SignOuts(_Bearer):
    """Signs out as a guest that the server has never seen, and as another one as soon as it is answered.

    A sign-out has to be kept for as long as its token might be used. A server that keeps all runs out of memory, and a
    server that keeps the latest forgets those of others, whose stolen tokens are valid again.
    """

    def request(self) -> bytes:
        return self.cohort.place.request("DELETE", "/session", f"Authorization: Bearer {self.next_number():016x}")
