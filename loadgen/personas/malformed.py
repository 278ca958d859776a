"""What no server should understand, and pages of other sites."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs, Threat
from loadgen.personas import _malformed_chat, _malformed_frames, persona
from loadgen.personas._cases import CLIENTS, PATIENCE_SECONDS, PAUSE_SECONDS, CaseByCase
from loadgen.personas._flood import Intruder
from loadgen.personas._malformed_http import cases
from loadgen.personas._websocket import decode


@persona
class MalformedHttp(CaseByCase):
    """Sends requests that are not HTTP/1.1, one on each connection, and notes which of them were taken.

    Bad bytes, two lengths, folded fields, other protocols, bad upgrades. The answers are booked by status; one below
    400 under the name of its case, because a request that two programs read differently can be two requests.
    """

    __slots__ = ()

    name = "malformed-http"

    def cases(self) -> Mapping[str, bytes]:
        """Return the catalogue for this target's paths."""
        place = self.cohort.place
        return cases(place.host, place.path, place.post_path.format(room=self.room), place.websocket_path)

    def opening(self) -> bytes:
        """Say nothing before it is connected."""
        return b""

    def on_connected(self) -> None:
        """Begin."""
        super().on_connected()
        self.play()

    def on_data(self, data: bytes) -> None:
        """Note what is answered; if the connection is kept, go."""
        before = self.answered
        super().on_data(data)
        if self.answered == before:
            return
        if self.answered < 400:
            self.book(f"answered {self.answered}")
        self.wake_in(PAUSE_SECONDS)

    def on_hangup(self, how: str) -> None:
        """Book an end without an answer under its case, too: half of the catalogue deserves a 400."""
        if not self.answered:
            self.book(how)
        super().on_hangup(how)


@persona
class MalformedFrames(Intruder, CaseByCase):
    """WebSocket that breaks RFC 6455, in one way on each connection, and notes how it is closed.

    Unmasked and reserved, control frames too long or in fragments, UTF-8 broken across fragments, close codes that may
    not be sent. 1002 or 1007 is right for nearly all; what stays open is booked under the name of its case.
    """

    __slots__ = ()

    name = "malformed-frames"

    def cases(self) -> Mapping[str, bytes]:
        """Return the catalogue."""
        return _malformed_frames.CASES

    def on_open(self, head: wire.Head) -> None:
        """Begin."""
        self.play()


_NAMES: Final = tuple(_malformed_chat.CASES)

#: What a server says without being asked.
_UNASKED: Final = frozenset(("hello", "message", "presence", "typing", "gap", "goaway"))


@persona
class MalformedChat(Intruder):
    """WebSocket whose messages are not chat.v1: bad JSON, wrong fields, rooms that are no names.

    One case after the other on one connection: each deserves an error, and none an end, a fault or silence. Errors are
    booked by code, everything else under the name of its case.
    """

    __slots__ = ("_heard", "_number")

    name = "malformed-chat"
    threat = Threat.MALFORMED
    needs = Needs.CHAT
    usual_clients = CLIENTS

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._number = cohort.made - 2  # each begins one further than the one before it
        self._heard = False  # an answer to this case

    def on_open(self, head: wire.Head) -> None:
        """Begin."""
        self._play()

    def _play(self) -> None:
        self._number += 1
        self._heard = False
        self.send(wire.frame(wire.TEXT, _malformed_chat.CASES[self._case]))
        if self.fd >= 0:
            self.wake_in(PATIENCE_SECONDS)

    @property
    def _case(self) -> str:
        return _NAMES[self._number % len(_NAMES)]

    def hear(self, data: bytes) -> None:
        """Book what is answered."""
        frames, self.unread = wire.read_frames(self.unread + data)
        for frame in frames:
            if frame.opcode == wire.PING:
                self.send(wire.frame(wire.PONG, frame.payload))
            elif frame.opcode == wire.CLOSE:
                self.cohort.answers[f"{self._case}: close {frame.close_code}"] += 1
                self.closed(frame.close_code)
                return
            elif frame.opcode == wire.TEXT:
                self._hear_message(frame)

    def _hear_message(self, frame: wire.Frame) -> None:
        message = decode(frame)
        if message.type in _UNASKED:
            return
        self.cohort.answers[
            f"error {message.code}" if message.type == "error" else f"{self._case}: {message.type}"
        ] += 1
        self._heard = True
        self.wake_in(self.pace(PAUSE_SECONDS))

    def on_time(self, moment: float) -> None:
        """Go on with the next case."""
        if not self._heard:
            self.cohort.answers[f"{self._case}: nothing in {PATIENCE_SECONDS:g} s"] += 1
        self._play()


#: A room of its own, so that the victims do not read what a server takes by mistake.
ROOM: Final = "foreign-page"

#: A name that never resolves (RFC 6761).
_SITE: Final = "page.invalid"
_ORIGIN: Final = f"Origin: http://{_SITE}"
_NO_ORIGIN: Final = "Origin: null"
_CROSS_SITE: Final = "Sec-Fetch-Site: cross-site"
_SAME_ORIGIN: Final = "Sec-Fetch-Site: same-origin"
_TEXT: Final = b"said by another site's page"


@persona
class ForeignPage(MalformedHttp):
    """Does what another site's page can have a browser do: open `/ws`, post text, come by another `Host`.

    A page needs no permission to open a WebSocket or to post text/plain, and the browser adds the user's cookies; only
    `Origin` and `Sec-Fetch-Site` tell. After DNS rebinding even these are the server's own, and only `Host` tells. Each
    request deserves 403 or 421; a request that was taken is booked under its case.
    """

    __slots__ = ()

    name = "foreign-page"
    needs = Needs.CHAT

    def cases(self) -> Mapping[str, bytes]:
        """Return the requests for this target's paths."""
        place = self.cohort.place
        return foreign_cases(place.host, place.path, place.post_path.format(room=ROOM), place.websocket_path)


@lru_cache(maxsize=4)
def foreign_cases(host: str, path: str, post_path: str, websocket_path: str) -> Mapping[str, bytes]:
    """Every request, by name, for a server whose own pages are under `host`."""
    return {
        "WebSocket from another origin": wire.upgrade_request(websocket_path, host, _ORIGIN, _CROSS_SITE),
        "WebSocket from another origin, in an old browser": wire.upgrade_request(websocket_path, host, _ORIGIN),
        "WebSocket from a sandboxed frame": wire.upgrade_request(websocket_path, host, _NO_ORIGIN, _CROSS_SITE),
        "WebSocket by another name": wire.upgrade_request(websocket_path, _SITE, _ORIGIN, _SAME_ORIGIN),
        "text from another origin": _post(post_path, host, _ORIGIN, _CROSS_SITE),
        "text from another origin, in an old browser": _post(post_path, host, _ORIGIN),
        "text from another site, without its origin": _post(post_path, host, _CROSS_SITE),
        "text from a sandboxed frame": _post(post_path, host, _NO_ORIGIN, _CROSS_SITE),
        "text by another name": _post(post_path, _SITE, _ORIGIN, _SAME_ORIGIN),
        "page by another name": wire.request("GET", path, _SITE),
    }


def _post(path: str, host: str, *fields: str) -> bytes:
    return (
        wire.request("POST", path, host, "Content-Type: text/plain", f"Content-Length: {len(_TEXT)}", *fields) + _TEXT
    )
