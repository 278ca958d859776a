"""The opening handshake and its extensions (families 0, 12; RFC 6455 section 4.2); the closing one (family 7)."""

from collections.abc import Iterator
from typing import Final

from loadgen.cases.case import (
    BAD_TEXT,
    HELLO,
    NORMAL,
    Case,
    End,
    Opening,
    Script,
    close,
    closes,
    echo,
    fails,
    fragments,
    frame,
    ping,
    scripted,
    text,
)
from loadgen.net.wire import CLOSE, FIN, TEXT

_VERSION: Final = "Sec-WebSocket-Version"
_EXTENSIONS: Final = "Sec-WebSocket-Extensions"
_DEFLATE: Final = "permessage-deflate"
_UNKNOWN: Final = "conform.example"
_CLIENT_ERRORS: Final = frozenset(range(400, 500))

#: For requests that need not be upgrades: any answer but 101 is right.
_ANY: Final = frozenset(range(200, 600))


def opening() -> Iterator[Case]:
    """Families 0 and 12."""
    yield _opens("0.1", "the usual request", "4.2.2")
    yield _opens("0.2", "byte by byte", "4.2.1", bytewise=True)
    yield _opens("0.3", "names in other letters", "4.2.1", ("Upgrade: websocket", "upgrade: WebSocket"))
    yield _opens("0.4", "one connection option of two", "4.2.1", (": Upgrade", ": keep-alive, Upgrade"))
    yield _opens("0.5", "unknown field", "4.2.1", fields=("X-Conform: 1",))
    yield _opens("0.6", "unknown subprotocol", "4.2.2", fields=(f"Sec-WebSocket-Protocol: {_UNKNOWN}",),
                 subprotocol=_UNKNOWN)  # fmt: skip
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
    # no message follows, because it would have to be compressed
    agreed = Opening(fields=(f"{_EXTENSIONS}: {_DEFLATE}",), extension=_DEFLATE)
    yield scripted("12.3", "extension that was offered, as it was offered", "RFC 7692 7.1", Script(opening=agreed))


def _opens(id_: str, title: str, section: str, *changes: tuple[str, str], fields: tuple[str, ...] = (),
           bytewise: bool = False, subprotocol: str = "") -> Case:  # fmt: skip
    opening = Opening(changes=changes, bytewise=bytewise, fields=fields, subprotocol=subprotocol)
    return scripted(id_, title, section, Script(sends=[text(HELLO)], hears=[echo(HELLO)], opening=opening))


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


_LONG: Final = b"BAsd7&jh23" * (256 * 1024 // 10)
_MOST_REASON: Final = 123

_GOOD: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
_BAD: Final = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999)


def closing() -> Iterator[Case]:
    """Family 7."""
    first, last = fragments(TEXT, b"fragment1", b"fragment2")
    normal = close(NORMAL)
    yield closes("7.1.1", "text, then close", "5.5.1", [text(HELLO)], echo(HELLO), then=[normal])
    yield closes("7.1.2", "two close frames", "5.5.1", [normal, normal])
    yield closes("7.1.3", "ping after close", "5.5.1", [normal, ping(b"")])
    yield closes("7.1.4", "text after close", "5.5.1", [normal, text(HELLO)])
    yield closes("7.1.5", "close within a fragmented text", "5.5.1", [first, normal, last], lenient=True)
    sends = [text(_LONG), text(HELLO), normal, ping(b"")]
    yield closes("7.1.6", "texts of 256 KiB and 13 bytes, close, ping", "7.1.1", sends, *map(echo, (_LONG, HELLO)))
    yield closes("7.3.1", "close without a code", "5.5.1", [close()], codes=[1005, NORMAL])
    yield fails("7.3.2", "close of one byte", "5.5.1", [frame(FIN | CLOSE, b"a")])
    yield closes("7.3.3", "close with a code", "5.5.1", [normal])
    yield closes("7.3.4", "close with a reason", "5.5.1", [close(NORMAL, HELLO)])
    yield closes("7.3.5", "close with the longest reason", "5.5", [close(NORMAL, b"*" * _MOST_REASON)])
    yield fails("7.3.6", "close of 126 bytes", "5.5", [close(NORMAL, b"*" * (_MOST_REASON + 1))])
    bad = [close(NORMAL, "κόσμε".encode() + b"\xed\xa0\x80edited")]
    yield fails("7.5.1", "close with a reason that is not UTF-8", "8.1", bad, codes=[BAD_TEXT])
    for number, code in enumerate(_GOOD, 1):
        yield closes(f"7.7.{number}", f"close with {code}", "7.4", [close(code)], codes=[code])
    for number, code in enumerate(_BAD, 1):
        yield fails(f"7.9.{number}", f"close with {code}, which may not be sent", "7.4", [close(code)])
