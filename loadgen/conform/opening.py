"""The opening handshake and what is agreed in it (families 0 and 12; RFC 6455 section 4.2)."""

from collections.abc import Iterator
from typing import Final

from loadgen.conform.case import Case, End, Opening, Script, echo, scripted, text

_HELLO: Final = b"Hello, world!"
_VERSION: Final = "Sec-WebSocket-Version"
_EXTENSIONS: Final = "Sec-WebSocket-Extensions"
_DEFLATE: Final = "permessage-deflate"
_CLIENT_ERRORS: Final = frozenset(range(400, 500))

#: Requests that need not be meant for a WebSocket: any answer will do but a yes.
_ANY: Final = frozenset(range(200, 600))


def opening() -> Iterator[Case]:
    """Families 0 and 12."""
    yield _opens("0.1", "the usual request", "4.2.2")
    yield _opens("0.2", "byte by byte", "4.2.1", bytewise=True)
    yield _opens("0.3", "names in other letters", "4.2.1", ("Upgrade: websocket", "upgrade: WebSocket"))
    yield _opens("0.4", "one connection option of two", "4.2.1", (": Upgrade", ": keep-alive, Upgrade"))
    yield _opens("0.5", "unknown field", "4.2.1", fields=("X-Conform: 1",))
    yield _opens("0.6", "unknown subprotocol", "4.2.2", fields=("Sec-WebSocket-Protocol: conform.example",))
    yield _refused("0.7", "no upgrade field", ("Upgrade: websocket\r\n", ""), codes=_ANY)
    yield _refused("0.8", "no connection option", ("Connection: Upgrade\r\n", ""), codes=_ANY)
    yield _refused("0.9", "upgrade to something else", ("Upgrade: websocket", "Upgrade: conform"), codes=_ANY)
    yield _refused("0.10", "POST", ("GET ", "POST "), ("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"))
    yield _refused("0.11", "HTTP/1.0", ("HTTP/1.1", "HTTP/1.0"), codes=_ANY)
    yield _refused("0.12", "no key", ("Sec-WebSocket-Key", "X-Conform"))
    yield _refused("0.13", "key that is not of 16 bytes", ("-Key: ", "-Key: AAAA"), lenient=True)
    yield _refused("0.14", "two keys", (_VERSION, f"Sec-WebSocket-Key: AAAA\r\n{_VERSION}"), lenient=True)
    yield _refused("0.15", "no version", (f"{_VERSION}: 13\r\n", ""))
    yield _refused("0.16", "version 99", (": 13", ": 99"), section="4.4", field=_VERSION.lower())
    yield _refused("0.17", "no host", ("Host: ", "X-Conform: "))
    yield _opens("12.1", "no extension that was not offered", "9.1")
    yield _opens("12.2", "no unknown extension", "9.1", fields=(f"{_EXTENSIONS}: x-conform",))
    # nothing is said afterwards: it would have to be compressed
    agreed = Opening(fields=(f"{_EXTENSIONS}: {_DEFLATE}",), extension=_DEFLATE)
    yield scripted("12.3", "extension that was offered, as it was offered", "RFC 7692 7.1", Script(opening=agreed))


def _opens(id_: str, title: str, section: str, *changes: tuple[str, str], fields: tuple[str, ...] = (),
           bytewise: bool = False) -> Case:  # fmt: skip
    opening = Opening(changes=changes, bytewise=bytewise, fields=fields)
    return scripted(id_, title, section, Script(sends=[text(_HELLO)], hears=[echo(_HELLO)], opening=opening))


def _refused(
    id_: str,
    title: str,
    *changes: tuple[str, str],
    section: str = "4.2.1",
    codes: frozenset[int] = _CLIENT_ERRORS,
    field: str = "",
    lenient: bool = False,
) -> Case:
    script = Script(end=End.REFUSED, codes=codes, opening=Opening(changes=changes), field=field, lenient=lenient)
    return scripted(id_, title, section, script)
