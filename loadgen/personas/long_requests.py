"""Requests that are as long as a request may be."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from loadgen import wire
from loadgen.client import Needs, Place
from loadgen.personas import persona
from loadgen.personas._flood import Flooder, fill

#: Below what most servers take: a head of 16 KiB (h11, IIS), 100 fields (Apache, Kestrel), 64 KiB of body (chatserver).
HEAD_BYTES: Final = 15_000
FIELDS: Final = 95
BODY_BYTES: Final = 60_000
#: Few enough for chatserver, which takes 64.
CHUNKS: Final = 60

#: They post where nobody listens: what is attacked is the server's time for each request.
_ROOMS: Final = 16
_TINY: Final = b'{"":1}'


def _one_field(place: Place, room: str) -> bytes:
    return wire.request("GET", place.path, place.host, "X-Long: " + "x" * HEAD_BYTES)


def _many_fields(place: Place, room: str) -> bytes:
    return wire.request("GET", place.path, place.host, *(f"x{number}: y" for number in range(FIELDS)))


def _objects(place: Place, room: str) -> bytes:
    """JSON with thousands of objects in a field that nobody reads, and an escape, so that it is looked at closely."""
    objects = [msgspec.Raw(_TINY)] * (BODY_BYTES // (len(_TINY) + 1))
    body = msgspec.json.encode({"text": msgspec.Raw(b'"\\u0041"'), "more": objects})
    fields = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    return wire.request("POST", place.post_path.format(room=room), place.host, *fields) + body


def _chunks(place: Place, room: str) -> bytes:
    fields = ("Content-Type: text/plain", "Transfer-Encoding: chunked")
    head = wire.request("POST", place.post_path.format(room=room), place.host, *fields)
    return head + b"8\r\n12345678\r\n" * CHUNKS + b"0\r\n\r\n"


_SHAPES: Final[tuple[Callable[[Place, str], bytes], ...]] = (_one_field, _many_fields, _objects, _chunks)


@lru_cache(_ROOMS)
def _block(place: Place, number: int) -> tuple[bytes, bytes]:
    """One request, and as many as fit a block or one: the same bytes for all who send them, not 60 KB for each."""
    request = _SHAPES[number % len(_SHAPES)](place, f"long-{number}")
    return request, fill(request) or request


@persona
class LongRequests(Flooder):
    """Sends requests as long as they may be, thousands ahead, and takes the answers.

    A quarter each: heads of one long field, heads of many fields, JSON of thousands of objects, bodies in small chunks.
    Nothing about any of them is malformed, and few servers refuse one; each costs ten times what others do, and a
    server that gives everybody one request in turn gives these its time.
    """

    __slots__ = ("_block",)

    name = "long-requests"
    needs = Needs.CHAT

    def opening(self) -> bytes:
        """Begin with the first."""
        request, self._block = _block(self.cohort.place, self.number % _ROOMS)
        return request

    def block(self) -> bytes:
        """Return as many as fit, or one."""
        return self._block

    def on_data(self, data: bytes) -> None:
        """Take the answers, so that they are not what stops it."""
