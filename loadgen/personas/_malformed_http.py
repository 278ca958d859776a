"""Malformed requests: the catalogue behind `malformed-http`.

Owns: the bytes. Each case has one fault and is otherwise a request that the server would take. Cases marked "smuggling"
are one request to a proxy and two to the server behind it, or the reverse (RFC 9112 section 11.2).
"""

from collections.abc import Mapping
from functools import lru_cache

from loadgen.cases.expected import NO_CHUNKS
from loadgen.net.tls import client_hello

_UPGRADE, _CONNECTION, _VERSION = b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13"
_KEY = b"Sec-WebSocket-Key: bG9hZGdlbi1sb2FkZ2VuIQ=="
_CHUNKED, _CHUNKS = b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"

#: Before `Host`; `%s` is the target.
_REQUEST_LINES = {
    "method with a NUL": b"G\0ET %s HTTP/1.1",
    "method with a delimiter": b"G(T %s HTTP/1.1",
    "method outside ASCII": b"G\xc3\x89T %s HTTP/1.1",
    "method of 5,000 letters": b"G" * 5000 + b" %s HTTP/1.1",
    "no method": b" %s HTTP/1.1",
    "target with a NUL": b"GET %s\0x HTTP/1.1",
    "target with a control character": b"GET %s\x07 HTTP/1.1",
    "target with a space": b"GET %s x HTTP/1.1",
    "target outside ASCII": b"GET %s\xe2\x82\xac HTTP/1.1",
    "target with a fragment": b"GET %s#x HTTP/1.1",
    "target that is no path": b"GET nothing HTTP/1.1",
    "target with an encoded NUL": b"GET %s%00 HTTP/1.1",
    "no target": b"GET  HTTP/1.1",
    "version in lower case": b"GET %s http/1.1",
    "version 3.7": b"GET %s HTTP/3.7",
    "version without a number": b"GET %s HTTP/",
    "tab for a space": b"GET\t%s\tHTTP/1.1",
}

#: After a good request line and `Host`.
_FIELDS = {
    "field name with a space": b"X Y: 1",
    "field name with a NUL": b"X\0Y: 1",
    "field name outside ASCII": b"X\xc3\x89: 1",
    "empty field name": b": 1",
    "space before the colon": b"X-A : 1",  # smuggling
    "field without a colon": b"X-A",
    "value with a NUL": b"X-A: a\0b",
    "value with a control character": b"X-A: a\x01b",
    "value with a bare CR": b"X-A: a\rb",
    "bare LF after a field": b"X-A: 1\nX-B: 2",  # smuggling
    "folded field": b"X-A: 1\r\n 2",
}

#: Ambiguous or invalid body lengths, the basis of request smuggling.
_FRAMINGS: Mapping[str, tuple[tuple[bytes, ...], bytes]] = {
    "two lengths": ((b"Content-Length: 5", b"Content-Length: 6"), b"hello"),
    "the same length twice": ((b"Content-Length: 5", b"Content-Length: 5"), b"hello"),
    "a list of lengths": ((b"Content-Length: 5, 5",), b"hello"),
    "length and chunks": ((b"Content-Length: 5", _CHUNKED), _CHUNKS),
    "chunks and length": ((_CHUNKED, b"Content-Length: 5"), _CHUNKS),
    "negative length": ((b"Content-Length: -1",), b""),
    "length with a sign": ((b"Content-Length: +5",), b"hello"),
    "hexadecimal length": ((b"Content-Length: 0x5",), b"hello"),
    "empty length": ((b"Content-Length:",), b""),
    "length in words": ((b"Content-Length: five",), b"hello"),
    "chunked twice": ((b"Transfer-Encoding: chunked, chunked",), _CHUNKS),
    "chunked, but not last": ((b"Transfer-Encoding: chunked, identity",), _CHUNKS),
    "nearly chunked": ((b"Transfer-Encoding: xchunked",), _CHUNKS),
    "space before the colon of chunked": ((b"Transfer-Encoding : chunked",), _CHUNKS),
    "unknown coding": ((b"Transfer-Encoding: brainfold",), _CHUNKS),
    "chunk size in words": ((_CHUNKED,), b"five\r\nhello\r\n0\r\n\r\n"),
    "chunk size with 0x": ((_CHUNKED,), b"0x5\r\nhello\r\n0\r\n\r\n"),
    "negative chunk size": ((_CHUNKED,), b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk longer than its size": ((_CHUNKED,), b"5\r\nhello!\r\n0\r\n\r\n"),
    "chunk size ended by a bare LF": ((_CHUNKED,), b"5\nhello\r\n0\r\n\r\n"),
    "chunk ended by two other bytes": ((_CHUNKED,), b"5\r\nhelloXX0\r\n\r\n"),
    NO_CHUNKS: ((_CHUNKED,), b""),
}

#: Fields of an upgrade; a correct one has four.
_UPGRADES = {
    "upgrade with a short key": (_UPGRADE, _CONNECTION, b"Sec-WebSocket-Key: c2hvcnQ=", _VERSION),
    "upgrade with a key that is not base64": (_UPGRADE, _CONNECTION, b"Sec-WebSocket-Key: !" + b"?" * 23, _VERSION),
    "upgrade without a key": (_UPGRADE, _CONNECTION, _VERSION),
    "upgrade with two keys": (_UPGRADE, _CONNECTION, _KEY, _KEY, _VERSION),
    "upgrade with version 12": (_UPGRADE, _CONNECTION, _KEY, b"Sec-WebSocket-Version: 12"),
    "upgrade without a version": (_UPGRADE, _CONNECTION, _KEY),
    "upgrade without Connection": (_UPGRADE, _KEY, _VERSION),
    "upgrade without Upgrade": (_CONNECTION, _KEY, _VERSION),
}


def _head(*lines: bytes, end: bytes = b"\r\n") -> bytes:
    return end.join((*lines, b"", b""))


@lru_cache(maxsize=4)
def cases(host: str, path: str, post_path: str, websocket_path: str) -> Mapping[str, bytes]:
    """Every malformed request, by name, for a server that serves these paths."""
    name, target, upgraded = host.encode(), path.encode(), websocket_path.encode()
    good_host, get = b"Host: " + name, b"GET %s HTTP/1.1" % target
    post = (good_host, b"Content-Type: text/plain")
    upgrade = (good_host, _UPGRADE, _CONNECTION, _KEY, _VERSION)
    return {
        **{case: _head(line.replace(b"%s", target), good_host) for case, line in _REQUEST_LINES.items()},
        **{case: _head(get, good_host, field) for case, field in _FIELDS.items()},
        "no Host": _head(get),
        "two Hosts": _head(get, good_host, good_host),
        "Host with a path": _head(get, good_host + b"/../x"),
        "Host with a user": _head(get, b"Host: me@" + name),
        "Host with a space": _head(get, b"Host: a b"),
        "first field folded": _head(get, b" X-A: 1", good_host),
        "bare LF everywhere": _head(get, good_host, end=b"\n"),
        "bare CR everywhere": _head(get, good_host, end=b"\r"),
        **{
            case: _head(b"POST %s HTTP/1.1" % post_path.encode(), *post, *fields) + body
            for case, (fields, body) in _FRAMINGS.items()
        },
        "chunks in HTTP/1.0": _head(b"POST %s HTTP/1.0" % post_path.encode(), *post, _CHUNKED) + _CHUNKS,
        "HTTP/0.9": b"GET %s\r\n" % target,
        "HTTP/0.9 with a blank line": b"GET %s\r\n\r\n" % target,
        # of a client with prior knowledge (RFC 9113 section 3.4), and an empty SETTINGS frame
        "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)),
        "TLS on the plain port": client_hello(host.rpartition(":")[0] or host),
        "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
        "SMTP": b"EHLO mail.example\r\n",
        "Redis": b"*1\r\n$4\r\nPING\r\n",
        "PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nGET %s HTTP/1.1\r\n" % target,
        "NUL bytes": bytes(64),
        "a PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\r\n\r\n",
        "blank lines": b"\r\n" * 64,
        **{case: _head(b"GET %s HTTP/1.1" % upgraded, good_host, *fields) for case, fields in _UPGRADES.items()},
        "upgrade by POST": _head(b"POST %s HTTP/1.1" % upgraded, *upgrade, b"Content-Length: 0"),
        "upgrade in HTTP/1.0": _head(b"GET %s HTTP/1.0" % upgraded, *upgrade),
    }
