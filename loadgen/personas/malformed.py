"""Input that servers should refuse: malformed requests, frames and messages, and requests from other sites' pages."""

import json
from collections.abc import Mapping
from functools import cache
from itertools import chain
from typing import ClassVar, Final

from loadgen.cases import requests
from loadgen.cases.case import End
from loadgen.cases.websocket import closing, fragmented, framing, pings, reserved, utf8
from loadgen.clients.client import Attacker, Needs, Stage, Threat, state
from loadgen.net import wire
from loadgen.personas import persona
from loadgen.personas._requests import nothing
from loadgen.personas._websocket import LastWord, Lingerer, decode

PIECE_EVERY_SECONDS: Final = 0.005

#: Longer than the head deadline of good servers (10 s), so that a case which the server takes for an incomplete request
#: is booked under the answer that it gets then.
PATIENCE_SECONDS: Final = 15.0

#: After an answer that does not close the connection, or before the next case.
PAUSE_SECONDS: Final = 0.5


class CaseByCase(Attacker):
    threat = Threat.MALFORMED
    usual_clients = 100  # more would get the same answers
    # of a case, assigned to the clients in turn: a run is too short for one client to play every case in each way
    pieces: ClassVar[tuple[int, ...]] = (1, 2, 200)

    _is_answered = state(False)
    _played = state(-1)  # number of the present case, counted from one that is another for each client
    _size = state(0)  # of a piece
    _unsent = state(b"")

    def cases(self) -> Mapping[str, bytes]:
        raise NotImplementedError

    @property
    def case(self) -> str:
        return list(self.cases())[(self.number + self._played) % len(self.cases())]

    def play(self) -> None:
        self._played += 1
        self._is_answered = False
        self._unsent = self.cases()[self.case]
        self._size = -(-len(self._unsent) // self.pieces[self.number % len(self.pieces)])
        self._send_piece()

    def _send_piece(self) -> None:
        piece, self._unsent = self._unsent[: self._size], self._unsent[self._size :]
        self.send(piece)
        self.wake_in(PIECE_EVERY_SECONDS if self._unsent else PATIENCE_SECONDS)

    def book(self, answer: str) -> None:
        """Count an unexpected answer, under the name of its case."""
        self.cohort.answers[f"{self.case}: {answer}"] += 1

    def note_answer(self) -> None:
        self._is_answered = True
        self.wake_in(self.pace(PAUSE_SECONDS))

    def go_on(self) -> None:
        self.leave(return_in=self.pace(PAUSE_SECONDS))

    def on_time(self, moment: float) -> None:
        if self._unsent and not self._is_answered:
            self._send_piece()
            return
        if not self._is_answered:
            self.book(f"nothing in {PATIENCE_SECONDS:g} s")
        self.go_on()


@persona
class MalformedHttp(CaseByCase):
    """Sends requests that are not HTTP/1.1, one on each connection, and records which of them were accepted.

    Bad bytes, two lengths, folded fields, other protocols, bad upgrades. Answers are booked by status, and those below
    400 under the name of the case: a malformed request that is accepted may be a smuggled one. So is a 404 to one that
    must be refused, which shows nothing.
    """

    opening = nothing

    def cases(self) -> Mapping[str, bytes]:
        place = self.cohort.place
        post_path = place.post_path(self.room)
        return requests.cases(place.host, place.path, post_path, place.websocket_path)

    def on_connected(self) -> None:
        super().on_connected()
        self.play()

    def on_data(self, data: bytes) -> None:
        before = self.answered
        super().on_data(data)
        if self.answered != before:
            self.note_answer()

    def go_on(self) -> None:
        """Book the answer and leave, because the server keeps the connection."""
        self._book_answer()
        super().go_on()

    def on_hangup(self, how: str) -> None:
        """Book an end without an answer under its case too: half of the catalogue deserves a 400."""
        if self.stage is Stage.HELD:
            self._book_answer(requests.then_closed(self.case))
            if not self.answered:
                self.book(how)
        super().on_hangup(how)

    def _book_answer(self, then: str = "") -> None:
        if 0 < self.answered < 400 or requests.tells_nothing(self.case, self.answered):
            self.book(f"answered {self.answered}{then}")


@cache
def malformed_frames() -> Mapping[str, bytes]:
    """The cases of `loadgen conform` that must fail the connection, frames that RFC 6455 forbids, by name."""
    found = chain(framing(), pings(), reserved(), fragmented(), utf8(), closing())
    scripts = {f"{case.title} ({case.id})": case.script() for case in found}
    return {name: b"".join([*each.sends, *each.then]) for name, each in scripts.items() if each.end is End.FAILED}


@persona
class MalformedFrames(LastWord, CaseByCase):
    """WebSocket that breaks RFC 6455, in one way on each connection, and records how it is closed.

    Unmasked and reserved frames, control frames that are too long or fragmented, UTF-8 broken across fragments, invalid
    close codes. 1002 or 1007 is right for nearly all; a connection left open is booked under the name of its case.
    """

    def cases(self) -> Mapping[str, bytes]:
        return malformed_frames()

    def on_open(self) -> None:
        self.play()


#: Deep enough for a recursive parser's stack (CPython's json gives up at about 1,000), short enough for any limit.
_DEPTH: Final = 5000

_OBJECTS: Final[Mapping[str, object]] = {
    "an array": [],
    "a string": "join",
    "a number": 42,
    "null": None,
    "no type": {"room": "lobby"},
    "unknown type": {"type": "dance", "id": 1},
    "type that is a number": {"type": 1},
    "type that is a list": {"type": ["join"]},
    "no room": {"type": "join", "id": 1},
    "room that is a number": {"type": "join", "id": 1, "room": 7},
    "room that is null": {"type": "join", "id": 1, "room": None},
    "id that is an object": {"type": "ping", "id": {}},
    "id of 10,000 characters": {"type": "ping", "id": "x" * 10_000},
    "text that is a list": {"type": "publish", "id": 1, "room": "lobby", "text": ["hi"]},
    "unknown field": {"type": "ping", "id": 1, "admin": True},
    "empty room": {"type": "join", "id": 1, "room": ""},
    "room of 10,000 letters": {"type": "join", "id": 1, "room": "a" * 10_000},
    "room with a NUL": {"type": "join", "id": 1, "room": "a\0b"},
    "room with control characters": {"type": "join", "id": 1, "room": "a\x07\x1b[31mb"},
    # shown as "exe.txt", a harmless file name
    "room with a bidi override": {"type": "join", "id": 1, "room": "\u202etxt.exe"},
    # with 10,000 it would be refused for its 20 KB
    "room of combining marks": {"type": "join", "id": 1, "room": "a" + "\u0301" * 7000},
    "room that is a path": {"type": "join", "id": 1, "room": "../../etc/passwd"},
    "room with a line feed": {"type": "join", "id": 1, "room": "a\nb"},
    "text of control characters": {"type": "publish", "id": 1, "room": "malformed", "text": "\0\x07\x1b[2J"},
    "empty text": {"type": "publish", "id": 1, "room": "malformed", "text": ""},
    "key that is a number": {"type": "publish", "id": 1, "room": "malformed", "text": "hi", "key": 7},
    "key of 10,000 characters": {"type": "publish", "id": 1, "room": "malformed", "text": "hi", "key": "k" * 10_000},
    "cursor of letters": {"type": "join", "id": 1, "room": "malformed", "after": "yesterday"},
    "negative cursor": {"type": "join", "id": 1, "room": "malformed", "after": -1},
    "huge cursor": {"type": "join", "id": 1, "room": "malformed", "after": "e-" + "9" * 400},
    "limit below zero": {"type": "history", "id": 1, "room": "malformed", "limit": -5},
    "limit beyond reason": {"type": "history", "id": 1, "room": "malformed", "limit": 1 << 62},
    "before and after": {"type": "history", "id": 1, "room": "malformed", "before": 5, "after": 1},
    "leave of a room never joined": {"type": "leave", "id": 1, "room": "elsewhere"},
}

#: Texts that are not chat.v1. A server should answer each with an error and keep the connection.
CHAT_TEXTS: Final[Mapping[str, bytes]] = {
    **{name: json.dumps(value, ensure_ascii=False).encode() for name, value in _OBJECTS.items()},
    "nothing": b"",
    "not JSON": b"hello",
    "half an object": b'{"type":"join"',
    "two objects": b'{"type":"ping","id":1}{"type":"ping","id":2}',
    "deep arrays": b"[" * _DEPTH + b"]" * _DEPTH,
    "deep objects in a field": b'{"type":"ping","id":' + b'{"a":' * 2000 + b"1" + b"}" * 2001,
    # Python turns digits into an int in quadratic time, and refuses above 4,300 of them (CVE-2020-10735)
    "number of 9,000 digits": b'{"type":"ping","id":' + b"9" * 9000 + b"}",
    "number too large for a float": b'{"type":"ping","id":1e999999}',
    "NaN": b'{"type":"ping","id":NaN}',
    "number with a leading zero": b'{"type":"ping","id":007}',
    "the same field twice": b'{"type":"ping","id":1,"type":"leave"}',
    "two rooms": b'{"type":"join","id":1,"room":"malformed","room":"lobby"}',
    "half a surrogate pair": b'{"type":"publish","id":1,"room":"malformed","text":"\\ud800"}',
    "byte order mark": b'\xef\xbb\xbf{"type":"ping","id":1}',
    "single quotes": b"{'type':'ping'}",
    "comment": b'{"type":"ping"/*x*/,"id":1}',
}

_MESSAGES: Final = {name: wire.frame(wire.FIN | wire.TEXT, text) for name, text in CHAT_TEXTS.items()}

#: Message types that a server sends unasked.
_UNASKED: Final = frozenset(("hello", "message", "presence", "typing", "read", "gap", "goaway"))


@persona
class MalformedChat(Lingerer, CaseByCase):
    """WebSocket whose messages are not chat.v1: bad JSON, wrong fields, invalid room names.

    One case after the other on one connection: each deserves an error, and none a close, a crash or silence. Errors are
    booked by code, everything else under the name of its case.
    """

    needs = Needs.CHAT
    pieces = (1,)

    def cases(self) -> Mapping[str, bytes]:
        return _MESSAGES

    def on_open(self) -> None:
        self.play()

    def on_close(self, frame: wire.Frame) -> None:
        self.book(f"close {frame.close_code}")
        super().on_close(frame)

    def on_text(self, frame: wire.Frame) -> None:
        message = decode(frame)
        if message.type in _UNASKED:
            return
        if message.type == "error":
            self.cohort.answers[f"error {message.code}"] += 1
        else:
            self.book(message.type)
        self.note_answer()

    def go_on(self) -> None:
        self.play()


#: A room of its own, so that the victims do not get what a server accepts by mistake.
ROOM: Final = "foreign-page"


@persona
class ForeignPage(MalformedHttp):
    """Sends what another site's page can make a browser send: an upgrade, a post of text, a foreign `Host`.

    Only `Origin` and `Sec-Fetch-Site` distinguish such a request from the user's own, and after DNS rebinding only
    `Host`. Each deserves 403 or 421; an accepted request is booked under its case.
    """

    needs = Needs.CHAT

    def cases(self) -> Mapping[str, bytes]:
        place = self.cohort.place
        return requests.foreign(place.host, place.path, place.post_path(ROOM), place.websocket_path)
