"""Size limits, each found by a search with a new connection for every step.

Owns: the steps (double until refused, bisect, try both edges again), how a request or a message of a given size is
made, and what counts as passed: a request that gets the answer of a small one, with the connection kept or closed as
then, or a message after which a ping is answered. The content is such that a chat server answers it with an error and
stores nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import chain, repeat
from typing import Final

import trio
from wsproto.frame_protocol import Opcode

from loadgen.fingerprint.clients import join
from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable, Unit
from loadgen.fingerprint.practice import Probe
from loadgen.fingerprint.site import ANSWER_SECONDS, BODY_BEGIN, Need, NotServedError, Site, TurnedAwayError
from loadgen.net.line import EndedError, Ending, GarbledError, describe
from loadgen.net.wire import FIN, frame

#: Below this, limits are found to the last byte; above it to one part in 256, because each step costs megabytes.
_EXACT_BELOW: Final = 1 << 17
_PART: Final = 256

#: An unclear step (no answer in time, 503) is tried once more after this long.
RETRY_SECONDS: Final = 1.0

#: A search fails if its edges change more often than this when tried again. One connection in a few dozen may fail by
#: accident, and a search makes some twenty.
_SURPRISES: Final = 3

Try = Callable[[int], Awaitable[str | None]]
Make = Callable[[Site, int], Iterable[bytes]]  # a request or a message of a size, in pieces
Send = Callable[[Site, Iterable[bytes]], Awaitable[str]]  # the answer, or how the server ended it

#: Errors of a step that say nothing about the size.
UNCLEAR: Final = (trio.TooSlowError, NotServedError, TurnedAwayError)


async def search(attempt: Try, *, first: int, most: int, until: float) -> Finding:
    """Find the largest size from `first` to `most` that passes."""
    gap = _Search(attempt, first, most)
    unclear = ""
    with trio.move_on_at(until):
        try:
            await gap.narrow()
        except UNCLEAR as error:
            unclear = describe(error)
    if gap.surprises > _SURPRISES:
        return Failed(why=f"the same size is let through and refused: {gap.passed or gap.refused:,}")
    if gap.refused is not None:
        how = gap.how if not unclear else f"{gap.how}; then {unclear}"
        return Found(value=gap.passed, uncertainty=gap.refused - gap.passed, how=how)
    if not gap.passed:
        return Failed(why=unclear or "no step of the search was answered in time")
    return NoneSeen(looked=gap.passed, how="" if gap.passed >= most else unclear or "time was over")


class _Search:
    """What is known so far: the limit is at least `passed` and below `refused`."""

    def __init__(self, attempt: Try, first: int, most: int) -> None:
        self.passed = 0
        self.refused: int | None = None
        self.how = ""
        self.surprises = 0
        self._attempt = attempt
        self._first = first
        self._most = most

    async def narrow(self) -> None:
        """Narrow the gap until both its edges give the same results when tried again."""
        while self.surprises <= _SURPRISES:
            while (size := self._next()) is not None:
                await self._try(size)
            refused, passed = self.refused, self.passed
            if refused is not None:
                await self._try(refused)
            if self.refused == refused and passed:
                await self._try(passed)
            if (self.refused, self.passed) == (refused, passed):
                return
            self.surprises += 1

    def _next(self) -> int | None:
        if not self.passed:
            return self._first if self.refused is None or self.refused > self._first else None
        if self.refused is None:
            return min(self.passed * 2, self._most) if self.passed < self._most else None
        near = 1 if self.passed < _EXACT_BELOW else self.passed // _PART
        return (self.passed + self.refused) // 2 if self.refused - self.passed > near else None

    async def _try(self, size: int) -> None:
        try:
            refusal = await self._attempt(size)
        except UNCLEAR:
            await trio.sleep(RETRY_SECONDS)
            refusal = await self._attempt(size)
        if refusal is None:
            self.passed = size
            if self.refused == size:
                self.refused = None
        else:
            self.refused, self.how = size, refusal
            if self.passed == size:
                self.passed = 0


#: Name, colon, space and line end of a field; the value adds at least one byte. Each field has a name of its own, since
#: Apache joins those of one name and limits their sum.
_NAME: Final = "x{:04}"
_FIELD_OVERHEAD: Final = len(_NAME.format(0)) + 4

#: The most that is sent at once, so that nothing large is ever in memory.
_BLOCK: Final = b" " * 65_536

#: One byte of body, so that a body with extensions and one without are both blank.
_LEAN_CHUNK: Final = b"1\r\n \r\n"

#: The same with seventy of framing.
_FAT_CHUNK: Final = b"1;x=" + b"a" * 61 + b"\r\n \r\n"

#: Answers to a small request or message that mean the server takes none of that kind, whatever the size.
_NOT_TAKEN: Final = ("411", "413", "415", "417", "431", "501", "505", "close ")

#: A message of the chat contract that is answered but not broadcast; other servers may answer it as they like.
_MESSAGE: Final = b'{"type":"ping","id":1}'


async def _seek(site: Site, *, make: Make, send: Send, small: int, first: int, most: int) -> Finding:
    """Find the largest size that is answered as a small one is."""
    try:
        wanted = await send(site, make(site, small))
    except UNCLEAR as error:
        return Failed(why=f"at a small size: {describe(error)}")
    if wanted.startswith(_NOT_TAKEN):
        return NotApplicable(why=f"not even a small size is accepted: {wanted}")
    if wanted in set(Ending):
        return Failed(why=f"at a small size: {wanted}")

    async def attempt(size: int) -> str | None:
        answered = await send(site, make(site, size))
        return None if answered == wanted else answered

    return await search(attempt, first=first, most=most, until=site.until)


async def _ask(site: Site, pieces: Iterable[bytes], *, pause: float = 0.0) -> str:
    """Return the status and whether the server closes after it, or how the connection ended without an answer."""
    try:
        answer = await site.ask(*pieces, pause=pause)
    except (EndedError, GarbledError) as error:
        return str(error)
    return f"{answer.status}, closing" if answer.closes else str(answer.status)


#: With time for the server to read the head before its last line end: what it reads at once may pass, however much.
_ask_head: Final = partial(_ask, pause=0.3)


async def _say(site: Site, pieces: Iterable[bytes]) -> str:
    """Return whether a pong comes after the message, or how the server ended the connection."""
    with trio.fail_after(ANSWER_SECONDS):
        async with join(site) as member:
            return await member.say(pieces)


def _head(site: Site, size: int, line_bytes: int) -> Iterable[bytes]:
    bare = len(site.plain_request())
    return _unfinished(site.plain_request(*padding(max(size - bare, 0), line_bytes)))


def _fields(site: Site, number: int) -> Iterable[bytes]:
    bare = 1 + len(site.fields) + len(site.plain_fields)  # Host is one
    return _unfinished(site.plain_request(*(f"{_NAME.format(at)}: 1" for at in range(number - bare))))


def _unfinished(head: bytes) -> Iterable[bytes]:
    return head[:-2], head[-2:]


def _body(site: Site, size: int) -> Iterable[bytes]:
    return chain([site.post(f"Content-Length: {size}"), BODY_BEGIN], blank(size - len(BODY_BEGIN)))


def _chunks(site: Site, overhead: int) -> Iterable[bytes]:
    """A small body in chunks with long extensions."""
    chunks = repeat(_FAT_CHUNK, overhead // len(_FAT_CHUNK))
    return chain([site.post("Transfer-Encoding: chunked") + _LEAN_CHUNK], _blocks(chunks), [b"0\r\n\r\n"])


def _frame(site: Site, size: int) -> Iterable[bytes]:
    return chain([frame(FIN | Opcode.TEXT, _MESSAGE, announced=size)], blank(size - len(_MESSAGE)))


def _fragments(site: Site, number: int) -> Iterable[bytes]:
    """A small message in many fragments, all but the first of them empty."""
    if number == 1:
        return [frame(FIN | Opcode.TEXT, _MESSAGE)]
    first = frame(Opcode.TEXT, _MESSAGE)
    empty, last = frame(Opcode.CONTINUATION), frame(FIN | Opcode.CONTINUATION)
    return chain([first], _blocks(repeat(empty, number - 2)), [last])


def padding(size: int, line_bytes: int) -> tuple[str, ...]:
    """Return fields that take exactly `size` bytes in a head, none of them more than `line_bytes`."""
    fields: list[str] = []
    while size:
        part = min(size, line_bytes)
        if 0 < size - part <= _FIELD_OVERHEAD:  # the rest is too small for another field: leave more for it
            part -= _FIELD_OVERHEAD
        fields.append(f"{_NAME.format(len(fields))}: {'a' * (part - _FIELD_OVERHEAD)}")
        size -= part
    return tuple(fields)


def blank(size: int) -> Iterator[bytes]:
    yield from repeat(_BLOCK, size // len(_BLOCK))
    yield _BLOCK[: size % len(_BLOCK)]


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= len(_BLOCK):
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


#: Go's net/http, and what is built on it, has a limit of 1 MiB and 4 KiB: it is too large, but not missing.
_seek_head: Final = partial(_seek, small=0, first=2048, most=1 << 21, send=_ask_head)

#: The largest sizes tried are beyond the limits of any message server, and can still be sent twenty times in a few
#: seconds.
PROBES: Final = (
    Probe(name="head size", figure="head_bytes", meaning="largest request head, in fields of up to 4 KB",
          why="node and h11 16 KiB, Kestrel 32, Tomcat 8, Go 1 MiB; cookies alone reach 4", unit=Unit.BYTES,
          good=(4096, 128 * 1024),
          play=partial(_seek_head, make=partial(_head, line_bytes=4000))),
    Probe(name="field size", figure="field_bytes", meaning="largest request head with all of it in one field",
          why="Apache, websockets and aiohttp 8 KiB a line, http.server 64; one cookie is 4 at most", unit=Unit.BYTES,
          good=(2048, 128 * 1024),
          play=partial(_seek_head, make=partial(_head, line_bytes=1 << 21))),
    Probe(name="fields", figure="head_fields", meaning="most fields in one request head",
          why="Kestrel, Apache and http.server 100, websockets and aiohttp 128; browsers send 20", unit=Unit.FIELDS,
          good=(50, 1000), play=partial(_seek, make=_fields, small=0, first=8, most=8192, send=_ask_head)),
    Probe(name="body size", figure="body_bytes", meaning="largest request body",
          why="nginx and aiohttp 1 MiB, Kestrel 30 MB; for a chat 64 KiB are plenty", unit=Unit.BYTES,
          good=(4096, 32_000_000), need=Need.BODY,
          play=partial(_seek, make=_body, small=16, first=1024, most=1 << 25, send=_ask)),
    Probe(name="chunk extensions", figure="chunk_overhead_bytes",
          meaning="most bytes of chunk extensions in one request",
          why="Go 16 KiB since CVE-2023-39326, node 16 KiB a chunk; no client has a use for any", unit=Unit.BYTES,
          good=(None, 64 * 1024), need=Need.CHUNKS,
          play=partial(_seek, make=_chunks, small=0, first=128, most=1 << 20, send=_ask)),
    Probe(name="message size", figure="ws_message_bytes", meaning="largest WebSocket message, in one frame",
          why="Centrifugo 64 KiB, websockets and trio-websocket 1 MiB, aiohttp 4, uvicorn 16, node ws 100",
          unit=Unit.BYTES, good=(4096, 4 * 1024 * 1024), need=Need.WEBSOCKET,
          play=partial(_seek, make=_frame, small=len(_MESSAGE), first=256, most=1 << 25, send=_say)),
    Probe(name="fragments", figure="ws_fragments",
          meaning="most fragments of one WebSocket message, empty ones included",
          why="websockets 4,096; trio-websocket kept 200,001 empty ones", unit=Unit.FRAGMENTS, good=(8, 4096),
          need=Need.WEBSOCKET, play=partial(_seek, make=_fragments, small=1, first=2, most=65_536, send=_say)),
)  # fmt: skip
