"""Size limits, each found by a search with a new connection for every step.

Owns: how a request or a message is made to a size, and what counts as let through: the same answer as a small one gets,
the connection kept or closed like after that; or a pong that comes back behind it. What the content means does not
matter; it is of a kind that a chat server answers with an error and keeps nowhere.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import Final

import trio
from wsproto.frame_protocol import Opcode

from loadgen.fingerprint.exchange import GarbledError, NotServedError, TurnedAwayError, exchange, word
from loadgen.fingerprint.findings import Failed, Finding, NotApplicable, Unit
from loadgen.fingerprint.line import EndedError, Ending
from loadgen.fingerprint.member import join
from loadgen.fingerprint.practice import Probe
from loadgen.fingerprint.search import UnclearError, search
from loadgen.fingerprint.site import ANSWER_SECONDS, BODY_BEGIN, Need, Site
from loadgen.frames import FIN, frame

#: Where each search begins and gives up. The largest are beyond what any server of messages takes, and small enough
#: to be sent twenty times in a few seconds.
_HEAD_BYTES: Final = (2048, 1024 * 1024)
_FIELDS: Final = (8, 8192)
_BODY_BYTES: Final = (1024, 32 * 1024 * 1024)
_MESSAGE_BYTES: Final = (256, 32 * 1024 * 1024)
_FRAGMENTS: Final = (2, 65_536)
_OVERHEAD_BYTES: Final = (128, 1024 * 1024)

#: A field of this size passes servers that limit a line to 8 KiB.
_LINE_BYTES: Final = 4000

#: Name, colon, blank and line end of a field whose name is one letter; such a field has one more byte at least.
_FIELD_OVERHEAD: Final = 5

#: Sent at once, so that nothing large is ever in memory.
_BLOCK: Final = b" " * 65_536

#: One byte of body and seventy of everything else.
_FAT_CHUNK: Final = b"1;x=" + b"a" * 61 + b"\r\n \r\n"

_SMALL_BODY_BYTES: Final = 16

#: A server that answers so to a small one does not take the kind at all, whatever its size; nor does a WebSocket server
#: that closes after a message of ours.
_NOT_TAKEN: Final = ("411", "413", "415", "417", "431", "501", "505", "close ")

#: A message of the chat contract that is answered and told to nobody; others answer it as they like.
_MESSAGE: Final = (b'{"type":"ping","id":1', b"}")


async def head_bytes(site: Site) -> Finding:
    """A head of many fields."""
    return await _head(site, line_bytes=_LINE_BYTES)


async def field_bytes(site: Site) -> Finding:
    """A head with one large field."""
    return await _head(site, line_bytes=_HEAD_BYTES[1])


async def _head(site: Site, *, line_bytes: int) -> Finding:
    bare = len(site.plain_request())

    async def ask(size: int) -> str:
        return await _plain(site, padding(size - bare, line_bytes))

    return await _like_a_small_one(ask, bare, _HEAD_BYTES, until=site.until)


async def head_fields(site: Site) -> Finding:
    """A head of many small fields."""
    bare = 1 + len(site.survey.plain_fields)  # Host is one

    async def ask(number: int) -> str:
        return await _plain(site, ("x: 1",) * (number - bare))

    return await _like_a_small_one(ask, bare, _FIELDS, until=site.until)


def padding(size: int, line_bytes: int) -> tuple[str, ...]:
    """Fields that take exactly so many bytes in a head, none of them more than `line_bytes`."""
    fields = []
    while size:
        part = min(size, line_bytes)
        if 0 < size - part <= _FIELD_OVERHEAD:  # too little for one more field: leave it more
            part -= _FIELD_OVERHEAD
        fields.append("x: " + "a" * (part - _FIELD_OVERHEAD))
        size -= part
    return tuple(fields)


async def _plain(site: Site, fields: tuple[str, ...]) -> str:
    return await _answered(site, [site.plain_request(*fields)])


async def body_bytes(site: Site) -> Finding:
    """A body with a length."""

    async def post(size: int) -> str:
        head = site.post(f"Content-Length: {size}")
        return await _answered(site, chain([head, BODY_BEGIN], blank(size - len(BODY_BEGIN))))

    return await _like_a_small_one(post, _SMALL_BODY_BYTES, _BODY_BYTES, until=site.until)


async def chunk_overhead(site: Site) -> Finding:
    """A small body in chunks with fat extensions."""

    async def post(overhead: int) -> str:
        chunks = repeat(_FAT_CHUNK, overhead // len(_FAT_CHUNK))
        head = site.post("Transfer-Encoding: chunked")
        return await _answered(site, chain([head], _blocks(chunks), [b"0\r\n\r\n"]))

    return await _like_a_small_one(post, 0, _OVERHEAD_BYTES, until=site.until)


async def _like_a_small_one(
    ask: Callable[[int], Awaitable[str]], small: int, bounds: tuple[int, int], *, until: float
) -> Finding:
    """Search for the largest that is answered as a small one is."""
    try:
        wanted = await ask(small)
    except UnclearError as error:
        return Failed(why=f"a small one: {error}")
    if wanted.startswith(_NOT_TAKEN):
        return NotApplicable(why=f"not even a small one is taken: {wanted}")
    if wanted in set(Ending):
        return Failed(why=f"a small one: {wanted}")

    async def attempt(size: int) -> str | None:
        answered = await ask(size)
        return None if answered == wanted else answered

    return await search(attempt, first=bounds[0], most=bounds[1], until=until)


async def _answered(site: Site, pieces: Iterable[bytes]) -> str:
    """The status of the answer and whether it is the last on the line, or how the line ended without one."""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            async with site.dial() as line:
                answer = await exchange(line, pieces)
    except (EndedError, GarbledError) as error:
        return str(error)
    except (trio.TooSlowError, TurnedAwayError) as error:
        raise UnclearError(word(error)) from None
    return f"{answer.status}, closing" if answer.closes else str(answer.status)


async def message_bytes(site: Site) -> Finding:
    """A message in one frame."""
    begin, end = _MESSAGE

    async def say(size: int) -> str:
        middle = blank(size - len(begin + end))
        return await _said(site, chain([frame(FIN | Opcode.TEXT, begin, announced=size)], middle, [end]))

    return await _like_a_small_one(say, len(begin + end), _MESSAGE_BYTES, until=site.until)


async def fragments(site: Site) -> Finding:
    """A small message in many fragments, all but the first of them empty."""
    first = frame(Opcode.TEXT, b"".join(_MESSAGE))
    empty, last = frame(Opcode.CONTINUATION), frame(FIN | Opcode.CONTINUATION)

    async def say(number: int) -> str:
        if number == 1:
            return await _said(site, [frame(FIN | Opcode.TEXT, b"".join(_MESSAGE))])
        return await _said(site, chain([first], _blocks(repeat(empty, number - 2)), [last]))

    return await _like_a_small_one(say, 1, _FRAGMENTS, until=site.until)


async def _said(site: Site, pieces: Iterable[bytes]) -> str:
    try:
        with trio.fail_after(ANSWER_SECONDS):
            async with join(site) as member:
                return await member.say(pieces)
    except trio.TooSlowError:
        raise UnclearError("neither a pong nor a close in time") from None
    except (NotServedError, TurnedAwayError) as error:
        raise UnclearError(str(error)) from None


def blank(size: int) -> Iterator[bytes]:
    """So many blanks."""
    yield from repeat(_BLOCK, size // len(_BLOCK))
    yield _BLOCK[: size % len(_BLOCK)]


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, more of them at once."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= len(_BLOCK):
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


PROBES: Final = (
    Probe(
        name="head size",
        figure="head_bytes",
        meaning="largest request head, in fields of up to 4 KB",
        why="node and h11 16 KiB, Kestrel 32, Tomcat 8; cookies alone reach 4",
        unit=Unit.BYTES,
        good=(4096, 128 * 1024),
        need=Need.HTTP,
        play=head_bytes,
    ),
    Probe(
        name="field size",
        figure="field_bytes",
        meaning="largest request head with all of it in one field",
        why="Apache, websockets and aiohttp 8 KiB a line, http.server 64; one cookie is 4 at most",
        unit=Unit.BYTES,
        good=(2048, 128 * 1024),
        need=Need.HTTP,
        play=field_bytes,
    ),
    Probe(
        name="fields",
        figure="head_fields",
        meaning="most fields in one request head",
        why="Kestrel, Apache and http.server 100, websockets and aiohttp 128; browsers send 20",
        unit=Unit.FIELDS,
        good=(50, 1000),
        need=Need.HTTP,
        play=head_fields,
    ),
    Probe(
        name="body size",
        figure="body_bytes",
        meaning="largest request body",
        why="nginx and aiohttp 1 MiB, Kestrel 30 MB; for a chat 64 KiB are plenty",
        unit=Unit.BYTES,
        good=(4096, 32_000_000),
        need=Need.BODY,
        play=body_bytes,
    ),
    Probe(
        name="chunk extensions",
        figure="chunk_overhead_bytes",
        meaning="most bytes of chunk extensions that one request may bring",
        why="Go 16 KiB since CVE-2023-39326, node 16 KiB a chunk; nobody has a use for any",
        unit=Unit.BYTES,
        good=(None, 64 * 1024),
        need=Need.BODY,
        play=chunk_overhead,
    ),
    Probe(
        name="message size",
        figure="ws_message_bytes",
        meaning="largest WebSocket message, in one frame",
        why="Centrifugo 64 KiB, websockets and trio-websocket 1 MiB, aiohttp 4, uvicorn 16, node ws 100",
        unit=Unit.BYTES,
        good=(4096, 4 * 1024 * 1024),
        need=Need.WEBSOCKET,
        play=message_bytes,
    ),
    Probe(
        name="fragments",
        figure="ws_fragments",
        meaning="most fragments of one WebSocket message, empty ones included",
        why="websockets 4,096; trio-websocket kept 200,001 empty ones",
        unit=Unit.FRAGMENTS,
        good=(8, 4096),
        need=Need.WEBSOCKET,
        play=fragments,
    ),
)
