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

from loadgen.client import TURNED_AWAY
from loadgen.fingerprint.exchange import Exchange, Field, GarbledError, exchange
from loadgen.fingerprint.findings import Failed, Finding
from loadgen.fingerprint.line import EndedError
from loadgen.fingerprint.member import frame, frame_head, join
from loadgen.fingerprint.search import UnclearError, search
from loadgen.fingerprint.site import ANSWER_SECONDS, Site
from loadgen.fingerprint.survey import BODY_BEGIN, BODY_TYPE

#: Where each search begins and gives up. The largest are beyond what any server of messages takes, and small enough
#: to be sent twenty times in a few seconds.
_HEAD_BYTES: Final = (2048, 1024 * 1024)
_FIELDS: Final = (8, 8192)
_BODY_BYTES: Final = (1024, 32 * 1024 * 1024)
_MESSAGE_BYTES: Final = (256, 32 * 1024 * 1024)
_FRAGMENTS: Final = (2, 65_536)
_OVERHEAD_BYTES: Final = (1024, 1024 * 1024)

#: A field of this size passes servers that limit a line to 8 KiB.
_LINE_BYTES: Final = 4000

#: Name, colon, blank and line end of a field whose name is one letter; such a field has one more byte at least.
_FIELD_OVERHEAD: Final = 5

#: Sent at once, so that nothing large is ever in memory.
_BLOCK: Final = b" " * 65_536

#: One byte of body and seventy of everything else.
_FAT_CHUNK: Final = b"1;x=" + b"a" * 61 + b"\r\n \r\n"

_SMALL_BODY_BYTES: Final = 16

#: A message of the chat contract that is answered and told to nobody; others answer it as they like.
_MESSAGE: Final = (b'{"type":"ping","id":1', b"}")


async def head_bytes(site: Site) -> Finding:
    """A head of many fields."""
    return await _head(site, line_bytes=_LINE_BYTES)


async def field_bytes(site: Site) -> Finding:
    """A head with one large field."""
    return await _head(site, line_bytes=_HEAD_BYTES[1])


async def _head(site: Site, *, line_bytes: int) -> Finding:
    bare = len(site.plain_request(site.exchange()))

    async def ask(size: int) -> str:
        return await _plain(site, padding(size - bare, line_bytes))

    return await _like_a_small_one(ask, bare, *_HEAD_BYTES, until=site.until)


async def head_fields(site: Site) -> Finding:
    """A head of many small fields."""
    bare = 1 + len(site.survey.plain_fields)  # Host is one

    async def ask(number: int) -> str:
        return await _plain(site, (("x", "1"),) * (number - bare))

    return await _like_a_small_one(ask, bare, *_FIELDS, until=site.until)


def padding(size: int, line_bytes: int) -> tuple[Field, ...]:
    """Fields that take exactly so many bytes in a head, none of them more than `line_bytes`."""
    fields = []
    while size:
        part = min(size, line_bytes)
        if 0 < size - part <= _FIELD_OVERHEAD:  # too little for one more field: leave it more
            part -= _FIELD_OVERHEAD
        fields.append(("x", "a" * (part - _FIELD_OVERHEAD)))
        size -= part
    return tuple(fields)


async def _plain(site: Site, fields: tuple[Field, ...]) -> str:
    talk = site.exchange()
    return await _answered(site, talk, [site.plain_request(talk, fields)])


async def body_bytes(site: Site) -> Finding:
    """A body with a length."""

    async def post(size: int) -> str:
        talk = site.exchange()
        head = talk.request("POST", site.survey.body_path, [BODY_TYPE, ("Content-Length", str(size))])
        return await _answered(site, talk, chain([head, BODY_BEGIN], blank(size - len(BODY_BEGIN))))

    return await _like_a_small_one(post, _SMALL_BODY_BYTES, *_BODY_BYTES, until=site.until)


async def chunk_overhead(site: Site) -> Finding:
    """A small body in chunks with fat extensions."""

    async def post(overhead: int) -> str:
        talk = site.exchange()
        head = talk.request("POST", site.survey.body_path, [BODY_TYPE, ("Transfer-Encoding", "chunked")])
        chunks = repeat(_FAT_CHUNK, overhead // len(_FAT_CHUNK))
        return await _answered(site, talk, chain([head], _blocks(chunks), [b"0\r\n\r\n"]))

    return await _like_a_small_one(post, 0, *_OVERHEAD_BYTES, until=site.until)


async def _like_a_small_one(
    ask: Callable[[int], Awaitable[str]], small: int, first: int, most: int, *, until: float
) -> Finding:
    try:
        wanted = await ask(small)
    except UnclearError as error:
        return Failed(why=f"a small one: {error}")

    async def attempt(size: int) -> str | None:
        answered = await ask(size)
        return None if answered == wanted else answered

    return await search(attempt, first=first, most=most, until=until)


async def _answered(site: Site, talk: Exchange, pieces: Iterable[bytes]) -> str:
    """The status of the answer and whether it is the last on the line, or how the line ended without one."""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            async with site.dial() as line:
                answer = await exchange(line, talk, pieces)
    except EndedError as error:
        return error.ending
    except GarbledError:
        return "an answer that is no HTTP"
    except trio.TooSlowError:
        raise UnclearError("no answer in time") from None
    if answer.status in TURNED_AWAY and answer.status != site.survey.plain_status:
        raise UnclearError(f"answered {answer.status}")
    return f"{answer.status}, closing" if answer.closes else str(answer.status)


async def message_bytes(site: Site) -> Finding:
    """A message in one frame."""

    async def attempt(size: int) -> str | None:
        begin, end = _MESSAGE
        return await _said(site, chain([frame_head(Opcode.TEXT, size), begin], blank(size - len(begin + end)), [end]))

    return await search(attempt, first=_MESSAGE_BYTES[0], most=_MESSAGE_BYTES[1], until=site.until)


async def fragments(site: Site) -> Finding:
    """A small message in many fragments, all but the first of them empty."""
    first = frame(Opcode.TEXT, b"".join(_MESSAGE), final=False)
    empty, last = frame(Opcode.CONTINUATION, b"", final=False), frame(Opcode.CONTINUATION, b"")

    async def attempt(number: int) -> str | None:
        return await _said(site, chain([first], _blocks(repeat(empty, number - 2)), [last]))

    return await search(attempt, first=_FRAGMENTS[0], most=_FRAGMENTS[1], until=site.until)


async def _said(site: Site, pieces: Iterable[bytes]) -> str | None:
    try:
        with trio.fail_after(ANSWER_SECONDS):
            async with join(site) as member:
                return await member.say(pieces)
    except trio.TooSlowError:
        raise UnclearError("neither a pong nor a close in time") from None


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
