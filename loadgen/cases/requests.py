"""Requests to refuse: the catalogues behind `malformed-http` and `foreign-page`, and which a server must refuse.

Owns: the bytes, and the meaning of the answers. Each malformed case has one fault and is otherwise a request that the
server would take. RFC 9112 has some of them refused, because a proxy may read them differently: one request to it and
two to the server behind it, or the reverse (request smuggling, section 11.2). Others may be accepted or refused: a
folded field, the same length twice, a bare LF at a line's end.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from loadgen.net import wire
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

#: Must be refused (RFC 9112 section 3.2): instead of a good `Host`; `%s` is the host.
_HOSTS = {
    "no Host": (),
    "two Hosts": (b"Host: %s", b"Host: %s"),
    "Host with a path": (b"Host: %s/../x",),
    "Host with a user": (b"Host: me@%s",),
    "Host with a space": (b"Host: a b",),
}

#: Must be refused (section 5.1): after a good request line and `Host`.
_FIELD_NAMES = {
    "field name with a space": b"X Y: 1",
    "field name with a NUL": b"X\0Y: 1",
    "space before the colon": b"X-A : 1",
}
_FIELDS = {
    "field name outside ASCII": b"X\xc3\x89: 1",
    "empty field name": b": 1",
    "field without a colon": b"X-A",
    "value with a NUL": b"X-A: a\0b",
    "value with a control character": b"X-A: a\x01b",
    "value with a bare CR": b"X-A: a\rb",
    "bare LF after a field": b"X-A: 1\nX-B: 2",
    "folded field": b"X-A: 1\r\n 2",
}

#: Ambiguous or invalid lengths of a body that must be refused (sections 5.1, 6.1 and 6.3).
_LENGTHS: Mapping[str, tuple[tuple[bytes, ...], bytes]] = {
    "two lengths": ((b"Content-Length: 5", b"Content-Length: 6"), b"hello"),
    "length and chunks": ((b"Content-Length: 5", _CHUNKED), _CHUNKS),
    "chunks and length": ((_CHUNKED, b"Content-Length: 5"), _CHUNKS),
    "negative length": ((b"Content-Length: -1",), b""),
    "length with a sign": ((b"Content-Length: +5",), b"hello"),
    "hexadecimal length": ((b"Content-Length: 0x5",), b"hello"),
    "length in words": ((b"Content-Length: five",), b"hello"),
    "chunked twice": ((b"Transfer-Encoding: chunked, chunked",), _CHUNKS),
    "chunked, but not last": ((b"Transfer-Encoding: chunked, identity",), _CHUNKS),
    "nearly chunked": ((b"Transfer-Encoding: xchunked",), _CHUNKS),
    "space before the colon of chunked": ((b"Transfer-Encoding : chunked",), _CHUNKS),
    "unknown coding": ((b"Transfer-Encoding: brainfold",), _CHUNKS),
}

#: Chunks that must be refused (section 7.1).
_BAD_CHUNKS = {
    "chunk size in words": b"five\r\nhello\r\n0\r\n\r\n",
    "chunk size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "negative chunk size": b"-5\r\nhello\r\n0\r\n\r\n",
    "chunk longer than its size": b"5\r\nhello!\r\n0\r\n\r\n",
    "chunk size ended by a bare LF": b"5\nhello\r\n0\r\n\r\n",
    "chunk ended by two other bytes": b"5\r\nhelloXX0\r\n\r\n",
}

#: A request that is well-formed but incomplete. A server that accepts it reads no bodies (lighttpd, for a file), so its
#: answers say nothing about chunks.
NO_CHUNKS: Final = "chunks that never come"

_OTHER_BODIES: Mapping[str, tuple[tuple[bytes, ...], bytes]] = {
    "the same length twice": ((b"Content-Length: 5", b"Content-Length: 5"), b"hello"),
    "a list of lengths": ((b"Content-Length: 5, 5",), b"hello"),
    "empty length": ((b"Content-Length:",), b""),
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

_MUST_BE_REFUSED: Final = frozenset((*_HOSTS, *_FIELD_NAMES, *_LENGTHS, *_BAD_CHUNKS))

#: What may also be answered if the connection is closed behind that: of two framings, chunks may be read (section 6.3),
#: and Go answers before it reads a bad chunk.
_CLOSE_WILL_DO: Final = frozenset(("length and chunks", "chunks and length", *_BAD_CHUNKS))

#: Answers that may come before the request's faults are looked at, or without looking. (501 refuses a coding.)
_NOT_THERE: Final = frozenset((401, 403, 404, 405, 410))


def _head(*lines: bytes, end: bytes = b"\r\n") -> bytes:
    return end.join((*lines, b"", b""))


@lru_cache(maxsize=4)
def cases(host: str, path: str, post_path: str, websocket_path: str) -> Mapping[str, bytes]:
    """Every malformed request, by name, for a server that serves these paths."""
    name, target, upgraded = host.encode(), path.encode(), websocket_path.encode()
    good_host, get = b"Host: " + name, b"GET %s HTTP/1.1" % target
    post = (good_host, b"Content-Type: text/plain")
    upgrade = (good_host, _UPGRADE, _CONNECTION, _KEY, _VERSION)
    bodies = {**_LENGTHS, **{case: ((_CHUNKED,), body) for case, body in _BAD_CHUNKS.items()}, **_OTHER_BODIES}
    return {
        **{case: _head(line.replace(b"%s", target), good_host) for case, line in _REQUEST_LINES.items()},
        **{case: _head(get, *(each.replace(b"%s", name) for each in hosts)) for case, hosts in _HOSTS.items()},
        **{case: _head(get, good_host, field) for case, field in (_FIELD_NAMES | _FIELDS).items()},
        "first field folded": _head(get, b" X-A: 1", good_host),
        "bare LF everywhere": _head(get, good_host, end=b"\n"),
        "bare CR everywhere": _head(get, good_host, end=b"\r"),
        **{
            case: _head(b"POST %s HTTP/1.1" % post_path.encode(), *post, *fields) + body
            for case, (fields, body) in bodies.items()
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


# Requests from another site's page

#: A name that never resolves (RFC 6761).
_SITE: Final = "page.invalid"
_ORIGIN: Final = f"Origin: http://{_SITE}"
_CROSS_SITE: Final = "Sec-Fetch-Site: cross-site"
_TEXT: Final = b"said by another site's page"


@lru_cache(maxsize=4)
def foreign(host: str, path: str, post_path: str, websocket_path: str) -> Mapping[str, bytes]:
    """Every request of another site's page, by name, for a server whose own pages are under `host`."""
    other = {
        "from another origin": (host, _ORIGIN, _CROSS_SITE),
        "from another origin, in an old browser": (host, _ORIGIN),
        "from a sandboxed frame": (host, "Origin: null", _CROSS_SITE),
        "by another name": (_SITE, _ORIGIN, "Sec-Fetch-Site: same-origin"),
    }
    posts = other | {"from another site, without its origin": (host, _CROSS_SITE)}
    return {
        **{f"WebSocket {who}": wire.upgrade_request(websocket_path, *how) for who, how in other.items()},
        **{f"text {who}": _post(post_path, *how) for who, how in posts.items()},
        "page by another name": wire.request("GET", path, _SITE),
    }


def _post(path: str, host: str, *fields: str) -> bytes:
    framing = ("Content-Type: text/plain", f"Content-Length: {len(_TEXT)}")
    return wire.request("POST", path, host, *framing, *fields) + _TEXT


#: All must be refused. A redirect is a refusal, as it may lead to the server's own name.
_FOREIGN: Final = frozenset(foreign("", "", "", ""))


# The answers to a crowd


def _by_case(answers: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Each answer that was booked under its case, with the case and the status."""
    for answer in answers:
        case, told, status = answer.rpartition(": answered ")
        if told:
            yield answer, case, status


def accepted(answers: Mapping[str, int]) -> dict[str, int]:
    """Count the cases that were accepted and must not be."""
    found: dict[str, int] = {}
    least_refusal = dict.fromkeys(_MUST_BE_REFUSED - _unread(answers), 400) | dict.fromkeys(_FOREIGN, 300)
    for answer, case, status in _by_case(answers):
        if status.isdecimal() and int(status) < least_refusal.get(case, 0):
            found[case] = found.get(case, 0) + answers[answer]
    return found


def _unread(answers: Iterable[str]) -> frozenset[str]:
    """The cases of which no answer tells anything, as the server reads no bodies."""
    return frozenset(_BAD_CHUNKS if any(case == NO_CHUNKS for _, case, _ in _by_case(answers)) else ())


def tells_nothing(case: str, status: int) -> bool:
    """Whether a request that must be refused was answered as a well-formed one for what is not there."""
    return case in _MUST_BE_REFUSED and status in _NOT_THERE


def then_closed(case: str) -> str:
    """How a close behind the answer is booked, where that will do: nothing after it is a request."""
    return " and closed" if case in _CLOSE_WILL_DO else ""


def unseen(answers: Mapping[str, int]) -> str:
    """The cases with such answers, each with the statuses, unless the case was accepted as well."""
    statuses: dict[str, set[str]] = {}
    seen, unread = accepted(answers), _unread(answers)
    for _, case, status in _by_case(answers):
        number = status.partition(" ")[0]
        if case not in seen and number.isdecimal() and (case in unread or tells_nothing(case, int(number))):
            statuses.setdefault(case, set()).add(status)
    return ", ".join(f"{case}: {'/'.join(sorted(told))}" for case, told in sorted(statuses.items()))
