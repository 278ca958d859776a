"""The inputs that cost the most to parse, of each kind that a peer can send: one request, or one read of frames.

Owns: the inputs, and the calls of `protocol` that the server makes with them. May not: measure, or judge; the bench
`costly` prints their costs, tests/protocol/test_costly.py tests what keeps them cheap.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from chatserver.protocol.bodies import decode_publish
from chatserver.protocol.body import body_reader
from chatserver.protocol.client_messages import decode
from chatserver.protocol.errors import HttpError, MessageError
from chatserver.protocol.head import find_head_end, parse_head
from chatserver.protocol.proxy import client_of
from chatserver.protocol.response import cookie, query_fields
from chatserver.protocol.upgrade import accept_upgrade
from chatserver.protocol.websocket import Text, receive
from tests.support.limits import BODY_LIMITS, FRAME_LIMITS, HEAD_LIMITS
from tests.support.peers import frame


def request(body: bytes = b"", *fields: bytes, target: bytes = b"/rooms/lobby/messages") -> bytes:
    """A POST with this body, or a GET."""
    line = b"%b %b HTTP/1.1" % (b"POST" if body else b"GET", target)
    length = (b"Content-Length: %d" % len(body),) if body else ()
    return b"\r\n".join((line, b"Host: chat.example", *fields, *length, b"", b"")) + body


def http(wire: bytes) -> None:
    """Parse one request as the server does, without an answer."""
    with suppress(HttpError, MessageError):
        end = find_head_end(wire, 0, HEAD_LIMITS)
        head = parse_head(wire[:end], HEAD_LIMITS)
        body = body_reader(head, BODY_LIMITS)
        body.receive(wire[end:])
        query_fields(head.query)
        cookie(head.headers.get("cookie", ""), "chat_session")
        client_of(head.headers.get("x-forwarded-for", ""), lambda _: True)
        if head.method == "POST":
            decode_publish("lobby", body.body, head.headers.get("content-type"))
        elif "upgrade" in head.headers:
            accept_upgrade(head)


def frames(wire: bytes) -> None:
    """Parse one read of frames as the server does."""
    rest, assembly, more = wire, None, True
    while more:
        events, rest, assembly, more = receive(rest, assembly, FRAME_LIMITS)
        for event in events:
            if isinstance(event, Text):
                with suppress(MessageError):
                    decode(event.data)


def _filled(one: str, size: int) -> str:
    """As many copies of a text as fit into `size` bytes."""
    return one * (size // len(one.encode("utf-8", "surrogatepass")))


def _posted(name: str, text: str) -> bytes:
    return request(text.encode("utf-8", "surrogatepass"), b"Content-Type: " + name.encode())


def _json(text: str) -> bytes:
    return _posted("application/json", text)


def _said(text: str) -> bytes:
    """A publish in one frame."""
    message = json.dumps({"type": "publish", "id": 1, "room": "lobby", "text": text}, ensure_ascii=False)
    return frame(message.encode("utf-8", "surrogatepass"))


def _sent(text: str) -> bytes:
    return frame(text)


def _fields(count: int, name: str = "k{}", value: str = "1") -> str:
    return ",".join(f'"{name.format(number)}":{value}' for number in range(count))


_CHUNKED = request(b"", b"Transfer-Encoding: chunked").replace(b"GET", b"POST")
_BALANCED = "\u2066\u2069"
_NESTED = "\u2066" * 1365 + "\u2069" * 1365
_STACKED = "e" + "\u0301" * 8
_THAI, _HAN, _EMOJI, _MUSIC = "ก็", "漢字", "👩\u200d", "\U0001d165"
_TEXT_BYTES = 8 * 1024

#: By name: a request, whole.
REQUESTS: dict[str, bytes] = {
    "62 KB of balanced isolates": _posted("text/plain", _filled(_BALANCED, 62_000)),
    "62 KB of stacked marks": _posted("text/plain", _filled(_STACKED, 62_000)),
    "62 KB of line breaks": _posted("text/plain", _filled("\r\n", 62_000)),
    "16 KB of line breaks": _posted("text/plain", _filled("\r\n", 2 * _TEXT_BYTES)),
    "8 KB of balanced isolates": _posted("text/plain", _filled(_BALANCED, _TEXT_BYTES)),
    "8 KB of nested isolates": _posted("text/plain", _NESTED),
    "8 KB with 128 isolates": _posted("text/plain", _filled(_BALANCED, 128 * 6) + _filled(_HAN, _TEXT_BYTES - 128 * 6)),
    "8 KB of stacked marks": _posted("text/plain", _filled(_STACKED, _TEXT_BYTES)),
    "8 KB of Thai": _posted("text/plain", _filled(_THAI, _TEXT_BYTES)),
    "8 KB of Chinese": _posted("text/plain", _filled(_HAN, _TEXT_BYTES)),
    "8 KB of emoji": _posted("text/plain", _filled(_EMOJI, _TEXT_BYTES)),
    "8 KB of marks beyond 16 bits": _posted("text/plain", _filled("\U0001f600" + _MUSIC * 8, _TEXT_BYTES)),
    "8 KB of ASCII": _posted("text/plain", "a\t" * (_TEXT_BYTES // 2)),
    "8 KB of blanks": _posted("text/plain", "\u3000" * 2700),
    "2,700 keys with an escape": _json("{" + _fields(2_700, "{}") + ',"text":"\\u0061"}'),
    "7,000 keys with an escape": _json("{" + _fields(7_000, "{}") + ',"text":"\\u0061"}'),
    "1,800 keys, all escapes": _json("{" + _fields(1_800, "\\u0061{}") + ',"text":"a"}'),
    "one key 2,300 times": _json("{" + _fields(2_300, "text", '"a"') + "}"),
    "one key 2,200 times, with nulls": _json('{"text":"a",' + _fields(2_200, "key", "null") + "}"),
    "24 KB of escapes": _json('{"text":"' + "\\u0061" * 4096 + '"}'),
    "24 KB of escapes, and an unknown field": _json('{"x":1,"text":"' + "\\u0061" * 4096 + '"}'),
    "24 KB of escaped isolates": _json('{"text":"' + "\\u2066\\u2069" * 2_000 + '"}'),
    "names as values": _json('{"key":"text","text":' + json.dumps('"text":' * 800) + "}"),
    "25 KB of nesting": _json('{"text":"a","x":' + "[" * 12_500 + "]" * 12_500 + "}"),
    "nesting, 900 deep, 14 times": _json('{"text":"a",' + _fields(14, value="[" * 900 + "]" * 900) + "}"),
    "nesting, 900 deep, 4 times": _json('{"text":"a",' + _fields(4, value="[" * 900 + "]" * 900) + "}"),
    "objects in a field": _json('{"text":"\\u0061","x":[' + ",".join(['{"":1}'] * 3_700) + "]}"),
    "a number of 26,000 digits": _json('{"text":"a","x":1' + "0" * 26_000 + "}"),
    "a text that is a number of 26,000 digits": _json('{"text":1' + "0" * 26_000 + "}"),
    "a fraction of 26,000 digits": _json('{"text":0.' + "1" * 26_000 + "}"),
    "26 KB of space": _json('{"text":"\\u0061","x":1' + " " * 26_000 + "}"),
    "26 KB of strings": _json('{"text":"a","x":[' + ",".join(['""'] * 8_600) + "]}"),
    "120 fields, 8 KB": _json("{" + _fields(120, "\\u0061{}", '"' + "x" * 50 + '"') + ',"text":"a"}'),
    "26 KB of JSON that is wrong at its end": _json('{"text":"' + "\\u00fc" * 4_300 + '"'),
    "64 chunks": _CHUNKED + b"2\r\nab\r\n" * 64 + b"0\r\n\r\n",
    "8,000 chunks": _CHUNKED + b"2\r\nab\r\n" * 8_000,
    "64 chunks with extensions": _CHUNKED + b"40;%b\r\n%b\r\n" % (b"e" * 180, b"x" * 64) * 64 + b"0\r\n\r\n",
    "64 chunks and 40 trailers": _CHUNKED + b"2\r\nab\r\n" * 63 + b"0\r\n" + b"A:b\r\n" * 40 + b"\r\n",
    "3,200 trailers": _CHUNKED + b"1\r\na\r\n0\r\n" + b"A:b\r\n" * 3_200 + b"\r\n",
    "100 fields": request(b"", *(b"X-%d: %b" % (number, b"y" * 130) for number in range(99))),
    "100 fields of words": request(b"", *(b"X-%d: %b" % (number, b"y " * 65) for number in range(99))),
    "100 fields, as many words as may be": request(
        b"", *(b"X-%d: %b%b" % (n, b"y " * 9, b"y" * 110) for n in range(99))
    ),
    "100 times one field": request(b"", *([b"X: " + b"y" * 130] * 99)),
    "100 cookies fields": request(b"", *([b"Cookie: " + b"a=b;" * 32] * 99)),
    "a field of words": request(b"", b"X: " + b"a " * 8_000),
    "a field of spaces": request(b"", b"X: a" + b" " * 16_000 + b"a"),
    "lines folded": request(b"", b"X: a", *([b" b"] * 98)),
    "16 KB of cookies": request(b"", b"Cookie: " + b"a;" * 8_000),
    "16 KB of cookies with values": request(b"", b"Cookie: " + b"a=b;" * 4_000),
    "16 KB of spaced cookies": request(b"", b"Cookie: " + b" ;" * 8_000),
    "a Connection of 16,000 commas": request(b"", b"Connection: " + b"," * 16_000),
    "a Connection of 8,000 tokens": request(b"", b"Connection: " + b"a," * 8_000),
    "a Connection of 990 tokens": request(b"", b"Connection: " + b"a," * 990 + b"close"),
    "an Upgrade of 8,000 tokens": request(b"", b"Connection: upgrade", b"Upgrade: " + b"a," * 7_900 + b"websocket"),
    "a list of 8,000 lengths": request(b"", b"Content-Length: " + b"1," * 8_000 + b"1"),
    "8,000 transfer codings": request(b"", b"Transfer-Encoding: " + b"a," * 8_000),
    "900 proxies": request(b"", b"X-Forwarded-For: " + b"::1," * 900 + b"::1"),
    "a proxy of 16 KB": request(b"", b"X-Forwarded-For: " + b"\x81" * 16_000),
    "8,000 proxies": request(b"", b"X-Forwarded-For: " + b"::1," * 4_000 + b"::1"),
    "8 KB of escapes in the path": request(target=b"/" + b"%41" * 2_700),
    "8 KB of escapes in the query": request(target=b"/poll?room=" + b"%41" * 2_700),
    "1,000 escapes in the query": request(target=b"/poll?room=" + b"%41a" * 1_000),
    "8 KB of pluses in the query": request(target=b"/poll?room=" + b"+" * 8_100),
    "200 rooms in the query": request(target=b"/poll?" + b"&".join([b"room=a%d%%3Ak3f9-41" % n for n in range(200)])),
    "4,000 fields in the query": request(target=b"/poll?" + b"a&" * 4_000),
    "a long Host": request(b"", b"Connection: a").replace(b"chat.example", b"a" * 15_000),
}

#: By name: frames, as they come in one read.
READS: dict[str, bytes] = {
    "8 KB of balanced isolates said": _said(_filled(_BALANCED, _TEXT_BYTES)),
    "8 KB of nested isolates said": _said(_NESTED),
    "8 KB of stacked marks said": _said(_filled(_STACKED, _TEXT_BYTES)),
    "16 KB of isolates said": _said(_filled(_BALANCED, 16_000)),
    "16 KB of stacked marks said": _said(_filled(_STACKED, 16_000)),
    "8 KB of Thai said": _said(_filled(_THAI, _TEXT_BYTES)),
    "8 times 2 KB of isolates": _said(_filled(_BALANCED, 1_960)) * 8,
    "8 times 2 KB of stacked marks": _said(_filled(_STACKED, 1_960)) * 8,
    "1,400 keys with an escape said": _sent('{"type":"ping",' + _fields(1_300) + ',"x":"\\u0061"}'),
    "escaped keys said": _sent('{"type":"ping",' + _fields(1_000, "\\u0061{}") + "}"),
    "one key 2,000 times said": _sent('{"type":"ping",' + _fields(2_000, "id", "1") + "}"),
    "16 KB of nesting said": _sent('{"type":"ping","x":' + "[" * 8_000 + "]" * 8_000 + "}"),
    "16 KB of nesting as an id": _sent('{"type":"ping","id":' + "[" * 8_000 + "]" * 8_000 + "}"),
    "an id of 16,000 digits": _sent('{"type":"ping","id":1' + "0" * 16_000 + "}"),
    "an id of 16,000 decimals": _sent('{"type":"ping","id":0.' + "3" * 16_000 + "}"),
    "300 ids of 40 digits": _sent('{"type":"ping",' + _fields(300, "id", "1" + "0" * 40) + "}"),
    "20 ids of 700 decimals": _sent('{"type":"ping",' + _fields(20, "id", "0." + "3" * 700) + "}"),
    "4 cursors of 4,000 digits": _sent('{"type":"join","room":"a",' + _fields(4, "after", "1" + "0" * 3_900) + "}"),
    "300 cursors of 45 digits": _sent('{"type":"join","room":"a",' + _fields(300, "after", "1" + "0" * 44) + "}"),
    "an unknown type of 16 KB": _sent('{"type":"' + "x" * 16_000 + '"}'),
    "16 KB of a wrong kind": _sent("[" + ",".join(["1"] * 8_000) + "]"),
    "8 joins": _sent('{"type":"join","id":1,"room":"lobby"}') * 8,
    "8 pings of 125 bytes": frame(b"x" * 125, opcode=9) * 8,
    "8 short messages that are wrong": _sent('{"type":"join","id":1,"room":"lobby","after":"x"}') * 8,
    "64 fragments of 250 bytes": frame(b"x" * 250, fin=False)
    + frame(b"x" * 250, opcode=0, fin=False) * 62
    + frame(b"x", opcode=0),
    "64 fragments of no bytes": frame(b"", fin=False) + frame(b"", opcode=0, fin=False) * 62 + frame(b"", opcode=0),
}


def costs() -> Mapping[str, Callable[[], None]]:
    """A function for each input."""
    found = {name: partial(http, wire) for name, wire in REQUESTS.items()}
    found.update({name: partial(frames, wire) for name, wire in READS.items()})
    return found
