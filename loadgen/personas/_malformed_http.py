"""Requests that are none: the catalogue behind `malformed-http`. No persona itself.

Owns: the bytes. Each case has one thing wrong and is otherwise a request that the server would take, so that its answer
is about that one thing. Those marked "smuggling" are read differently by two programs in a row: the first sees one
request, the second two (RFC 9112 section 11.2).
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from loadgen.personas._tls13 import client_hello

_KEY = "bG9hZGdlbi1sb2FkZ2VuIQ=="
_GOOD_UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {_KEY}", "Sec-WebSocket-Version: 13")

# RFC 9113 section 3.4: what a client with prior knowledge of HTTP/2 sends first, and an empty SETTINGS frame.
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@lru_cache(maxsize=4)
def cases(host: str, path: str, post_path: str, websocket_path: str) -> Mapping[str, bytes]:
    """Every malformed request, by name, for a server whose good requests go to these paths."""
    return MappingProxyType(
        _request_lines(host, path)
        | _fields(host, path)
        | _framings(host, post_path)
        | _other_protocols(host, path)
        | _upgrades(host, websocket_path)
    )


def _get(line: bytes, *fields: bytes, end: bytes = b"\r\n") -> bytes:
    return end.join((line, *fields, b"", b""))


def _request_lines(host: str, path: str) -> dict[str, bytes]:
    good_host, target = b"Host: " + host.encode(), path.encode()
    lines = {
        "method with a NUL": b"G\0ET %s HTTP/1.1" % target,
        "method with a delimiter": b"G(T %s HTTP/1.1" % target,
        "method outside ASCII": b"G\xc3\x89T %s HTTP/1.1" % target,
        "method of 5,000 letters": b"G" * 5000 + b" %s HTTP/1.1" % target,
        "no method": b" %s HTTP/1.1" % target,
        "target with a NUL": b"GET %s\0x HTTP/1.1" % target,
        "target with a control character": b"GET %s\x07 HTTP/1.1" % target,
        "target with a space": b"GET %s x HTTP/1.1" % target,
        "target outside ASCII": b"GET %s\xe2\x82\xac HTTP/1.1" % target,
        "target with a fragment": b"GET %s#x HTTP/1.1" % target,
        "target that is no path": b"GET nothing HTTP/1.1",
        "target with an encoded NUL": b"GET %s%%00 HTTP/1.1" % target,
        "no target": b"GET  HTTP/1.1",
        "version in lower case": b"GET %s http/1.1" % target,
        "version 3.7": b"GET %s HTTP/3.7" % target,
        "version without a number": b"GET %s HTTP/" % target,
        "tab for a space": b"GET\t%s\tHTTP/1.1" % target,
    }
    return {name: _get(line, good_host) for name, line in lines.items()}


def _fields(host: str, path: str) -> dict[str, bytes]:
    line, good_host = b"GET %s HTTP/1.1" % path.encode(), b"Host: " + host.encode()
    fields = {
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
    hosts = {
        "no Host": (),
        "two Hosts": (good_host, good_host),
        "Host with a path": (good_host + b"/../x",),
        "Host with a user": (b"Host: me@" + host.encode(),),
        "Host with a space": (b"Host: a b",),
    }
    return (
        {name: _get(line, good_host, field) for name, field in fields.items()}
        | {name: _get(line, *which) for name, which in hosts.items()}
        | {"first field folded": _get(line, b" X-A: 1", good_host)}
        | {"bare LF everywhere": _get(line, good_host, end=b"\n")}
        | {"bare CR everywhere": _get(line, good_host, end=b"\r")}
    )


def _framings(host: str, post_path: str) -> dict[str, bytes]:
    """Two opinions on where a body ends: the smuggler's trade."""
    start = (b"POST %s HTTP/1.1" % post_path.encode(), b"Host: " + host.encode(), b"Content-Type: text/plain")
    chunked, chunks = b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"
    heads = {
        "two lengths": ((b"Content-Length: 5", b"Content-Length: 6"), b"hello"),
        "the same length twice": ((b"Content-Length: 5", b"Content-Length: 5"), b"hello"),
        "a list of lengths": ((b"Content-Length: 5, 5",), b"hello"),
        "length and chunks": ((b"Content-Length: 5", chunked), chunks),
        "chunks and length": ((chunked, b"Content-Length: 5"), chunks),
        "negative length": ((b"Content-Length: -1",), b""),
        "length with a sign": ((b"Content-Length: +5",), b"hello"),
        "hexadecimal length": ((b"Content-Length: 0x5",), b"hello"),
        "empty length": ((b"Content-Length:",), b""),
        "length in words": ((b"Content-Length: five",), b"hello"),
        "chunked twice": ((b"Transfer-Encoding: chunked, chunked",), chunks),
        "chunked, but not last": ((b"Transfer-Encoding: chunked, identity",), chunks),
        "nearly chunked": ((b"Transfer-Encoding: xchunked",), chunks),
        "space before the colon of chunked": ((b"Transfer-Encoding : chunked",), chunks),
        "unknown coding": ((b"Transfer-Encoding: brainfold",), chunks),
        "chunk size in words": ((chunked,), b"five\r\nhello\r\n0\r\n\r\n"),
        "chunk size with 0x": ((chunked,), b"0x5\r\nhello\r\n0\r\n\r\n"),
        "negative chunk size": ((chunked,), b"-5\r\nhello\r\n0\r\n\r\n"),
        "chunk longer than its size": ((chunked,), b"5\r\nhello!\r\n0\r\n\r\n"),
        "chunk size ended by a bare LF": ((chunked,), b"5\nhello\r\n0\r\n\r\n"),
        "chunk ended by two other bytes": ((chunked,), b"5\r\nhelloXX0\r\n\r\n"),
    }
    old = b"POST %s HTTP/1.0" % post_path.encode()
    return {name: _get(*start, *fields) + body for name, (fields, body) in heads.items()} | {
        "chunks in HTTP/1.0": _get(old, *start[1:], chunked) + chunks
    }


def _other_protocols(host: str, path: str) -> dict[str, bytes]:
    return {
        "HTTP/0.9": b"GET %s\r\n" % path.encode(),
        "HTTP/0.9 with a blank line": b"GET %s\r\n\r\n" % path.encode(),
        "HTTP/2 preface": _HTTP2,
        "TLS on the plain port": client_hello(host.rpartition(":")[0] or host),
        "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
        "SMTP": b"EHLO mail.example\r\n",
        "Redis": b"*1\r\n$4\r\nPING\r\n",
        "PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nGET %s HTTP/1.1\r\n" % path.encode(),
        "NUL bytes": bytes(64),
        "a PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\r\n\r\n",
        "blank lines": b"\r\n" * 64,
    }


def _upgrades(host: str, websocket_path: str) -> dict[str, bytes]:
    target, good_host = websocket_path.encode(), b"Host: " + host.encode()
    line = b"GET %s HTTP/1.1" % target
    upgrade, connection, key, version = (field.encode() for field in _GOOD_UPGRADE)
    fields = {
        "upgrade with a short key": (upgrade, connection, b"Sec-WebSocket-Key: c2hvcnQ=", version),
        "upgrade with a key that is not base64": (upgrade, connection, b"Sec-WebSocket-Key: !" + b"?" * 23, version),
        "upgrade without a key": (upgrade, connection, version),
        "upgrade with two keys": (upgrade, connection, key, key, version),
        "upgrade with version 12": (upgrade, connection, key, b"Sec-WebSocket-Version: 12"),
        "upgrade without a version": (upgrade, connection, key),
        "upgrade without Connection": (upgrade, key, version),
        "upgrade without Upgrade": (connection, key, version),
    }
    good = (good_host, upgrade, connection, key, version)
    return {name: _get(line, good_host, *which) for name, which in fields.items()} | {
        "upgrade by POST": _get(b"POST %s HTTP/1.1" % target, *good, b"Content-Length: 0"),
        "upgrade in HTTP/1.0": _get(b"GET %s HTTP/1.0" % target, *good),
    }
