"""Request heads, valid and malformed: each case whole, a byte at a time, and in random cuts."""

import h11
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import BodyKind, Head, HeadLimits, find_head_end, has_token, origin_in, parse_head
from chatserver.reasons import ErrorCode, Reason
from tests.protocol.feed import feed, head_runner
from tests.protocol.samples import GET, POST, request
from tests.support.errors import error_of
from tests.support.limits import HEAD_LIMITS

NEXT = b"GET /next HTTP/1.1\r\n"


def head_of(wire: bytes) -> Head:
    head = feed(head_runner(), wire, trailing=NEXT)
    assert isinstance(head, Head), head
    return head


def test_a_get_is_parsed() -> None:
    assert head_of(GET) == Head(
        method="GET",
        path="/rooms/lobby/messages",
        query="after=k3f9-41&limit=5",
        headers={"host": "chat.example:8000"},
        body=BodyKind.NONE,
        content_length=0,
        keep_alive=True,
        expects_continue=False,
        version="1.1",
    )


def test_every_form_of_target_gives_path_query_and_host() -> None:
    """The target's authority replaces Host."""
    for target, path, query in (
        (b"/", "/", ""),
        (b"/a?b?c=d", "/a", "b?c=d"),
        (b"/r%C3%BCm/x?%2F", "/rüm/x", "%2F"),
        (b"/100%", "/100%", ""),
        (b"/a+b", "/a+b", ""),
        (b"//evil.example/x", "//evil.example/x", ""),
        (b"/?", "/", ""),
        (b"http://other.example:81/x?y=1", "/x", "y=1"),
        (b"HTTP://other.example:81", "/", ""),
        (b"http://other.example:81?y", "/", "y"),
    ):
        head = head_of(request(line=b"GET %b HTTP/1.1" % target))
        authority = "other.example:81" if b"other" in target else "h"
        assert (head.path, head.query, head.headers["host"]) == (path, query, authority)


def test_fields_are_joined_by_lower_case_name() -> None:
    for fields, headers in (
        ((b"Accept: a", b"ACCEPT: b", b"Cookie: x=1", b"Cookie: y=2"), {"accept": "a, b", "cookie": "x=1; y=2"}),
        ((b"X-Name: \xc3\xbc",), {"x-name": "Ã¼"}),  # any byte beyond ASCII
    ):
        assert head_of(request(*fields)).headers == {"host": "h", **headers}


CHUNKED, EXPECT = b"Transfer-Encoding: Chunked", b"Expect: 100-Continue"
NONE, LENGTH = (BodyKind.NONE, 0, False), (BodyKind.LENGTH, 5, False)


def test_what_follows_a_head() -> None:
    for version, fields, keep_alive, body in (
        (b"1.1", (b"Connection: keep-alive",), True, NONE),
        (b"1.1", (b"Connection: Close",), False, NONE),
        (b"1.1", (b"Connection: upgrade,close",), False, NONE),
        (b"1.0", (), False, NONE),
        (b"1.0", (b"Connection: keep-alive",), False, NONE),
        (b"1.1", (b"Content-Length: 0",), True, NONE),
        (b"1.1", (b"Content-Length: 005",), True, LENGTH),
        (b"1.0", (b"Content-Length: 5",), False, LENGTH),
        (b"1.1", (b"Content-Length: 5", b"Content-Encoding: Identity"), True, LENGTH),
        (b"1.1", (b"Content-Length: 5", b"Content-Encoding:"), True, LENGTH),
        (b"1.1", (b"Content-Length: 9223372036854775807",), True, (BodyKind.LENGTH, (1 << 63) - 1, False)),
        (b"1.1", (CHUNKED,), True, (BodyKind.CHUNKED, 0, False)),
        (b"1.1", (EXPECT, CHUNKED), True, (BodyKind.CHUNKED, 0, True)),
        (b"1.1", (EXPECT, b"Content-Length: 5"), True, (BodyKind.LENGTH, 5, True)),
        (b"1.1", (EXPECT,), True, NONE),
        (b"1.0", (EXPECT, b"Content-Length: 5"), False, LENGTH),
    ):
        head = head_of(request(*fields, line=b"POST / HTTP/" + version))
        assert (head.keep_alive, (head.body, head.content_length, head.expects_continue)) == (keep_alive, body), fields


def test_every_valid_host_is_accepted() -> None:
    for host in b"a A.b:80 [::1]:8000 [::1] 127.0.0.1:0 x_y.local a: xn--bcher-kva.example".split():
        assert head_of(request(host=b"Host:  %b " % host)).headers["host"] == host.decode()
    old = head_of(request(line=b"GET / HTTP/1.0", host=b""))
    assert (old.version, old.headers) == ("1.0", {})


def test_blank_lines_before_a_request_are_ignored() -> None:
    for before in (b"\r\n", b"\r\n\r\n"):
        assert head_of(before + GET) == head_of(GET)


def test_incomplete_heads_are_waited_for() -> None:
    for end in range(len(POST)):
        assert head_runner()([POST[:end]]) == (None, b"")


def test_a_head_of_exactly_the_limits() -> None:
    limits = HeadLimits(
        max_bytes=len(GET), max_fields=1, max_target=len(b"/rooms/lobby/messages?after=k3f9-41&limit=5")
    )
    assert isinstance(feed(head_runner(limits), GET, trailing=NEXT), Head)


def test_bytes_after_a_head_do_not_count_for_its_limits() -> None:
    head, rest = head_runner()([POST + b"\0\n\n\x7f"])
    assert isinstance(head, Head)
    assert rest == b"\0\n\n\x7f"


class CountingBuffer(bytearray):
    """Counts the bytes that a search or a copy touches."""

    touched = 0

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        stop = len(self) if end is None else min(end, len(self))
        found = super().find(sub, start, stop)
        self.touched += max((stop if found < 0 else found) - start, 0)
        return found

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        taken = super().__getitem__(key)
        self.touched += len(taken) if isinstance(taken, bytearray) else 1
        return taken


def test_a_dripped_head_is_searched_in_linear_time() -> None:
    """A search from the start at each byte would touch 32 million bytes here."""
    wire = request(*(b"X-%d: %b" % (number, b"y" * 70) for number in range(99)))
    buffer = CountingBuffer()
    for searched, byte in enumerate(wire):
        buffer.append(byte)
        end = find_head_end(buffer, searched, HEAD_LIMITS)
    assert end == len(wire)
    assert buffer.touched < 12 * len(wire)


def test_a_token_is_found_among_others_in_any_case() -> None:
    for value in ("close", "Close", "keep-alive, CLOSE", "close\t,x"):
        assert has_token(value, "close")
    for no_value in (None, "", "closed", "x-close, keep-alive", "clo, se"):
        assert not has_token(no_value, "close")


# -- malformed ------------------------------------------------------------------------------------------------------


BAD = (ErrorCode.BAD_REQUEST, Reason.BAD_REQUEST)
LONG_HEAD = (ErrorCode.HEAD_TOO_LARGE, Reason.HEAD_TOO_LARGE)
LONG_TARGET = (ErrorCode.TARGET_TOO_LONG, Reason.HEAD_TOO_LARGE)
SMALL_BODY = HeadLimits(max_bytes=1024, max_fields=10, max_target=300)

#: Request lines, separated by semicolons: forms of target that are not served here, bytes that no target has, …
LINES = (
    b"GET /\0 HTTP/1.1;GET /\xc3\xbc HTTP/1.1;GET /\x7f HTTP/1.1;GET /\ta HTTP/1.1;GET /a b HTTP/1.1;GET  / HTTP/1.1;"
    b"GET rooms HTTP/1.1;OPTIONS * HTTP/1.1;CONNECT chat.example:80 HTTP/1.1;GET ftp://h/ HTTP/1.1;"
    b"GET http:///x HTTP/1.1;GET http://u@h/ HTTP/1.1;GET /#x HTTP/1.1;GET /a%2fb HTTP/1.1;"
    b"GET /%ff HTTP/1.1;GET /%c0%af HTTP/1.1;GET /%00 HTTP/1.1;GET /a%0ab HTTP/1.1;"  # only when they are decoded
    b"G\0ET / HTTP/1.1;GE T / HTTP/1.1;G(T / HTTP/1.1;G\xc3T / HTTP/1.1; / HTTP/1.1;\xffGET / HTTP/1.1;"
    b"GET / http/1.1;GET / HTTP/1.10;GET / HTTP/"
).split(b";")
NO_LENGTHS = b"5, 6;5, 5;+5;-5;0x5;1_0;;111111111111111111111".split(b";")
NO_HOSTS = b";a, b;a/b;u@a;a b;a:http;a:123456;[::1;\xfc".split(b";")
MALFORMED = {
    **{repr(line): request(line=line) for line in LINES},
    **{f"length {length!r}": request(b"Content-Length: " + length) for length in NO_LENGTHS},
    **{f"Host {host!r}": request(host=b"Host: " + host) for host in NO_HOSTS},
    "NUL in a name": request(b"X-\0: y"),
    "space in a name": request(b"X Y: z"),
    "space before the colon": request(b"X : y"),
    "high byte in a name": request(b"X-\xfc: y"),
    "empty name": request(b": y"),
    "no colon": request(b"nonsense"),
    "NUL in a value": request(b"X: \0"),
    "escape in a value": request(b"X: \x1b[2J"),
    "DEL in a value": request(b"X: \x7f"),
    "bare LF between fields": b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: h\n\n",
    "bare LF as the blank line": b"GET / HTTP/1.1\r\nHost: h\r\n\n",
    "bare LF, then a body that ends it": b"GET / HTTP/1.1\nHost: h\n\nGET / HTTP/1.1\r\n\r\n",
    "bare CR in a value": request(b"X: a\rb"),
    "bare CR between fields": request(b"X: a\rY: b"),
    "bare CR everywhere": b"GET / HTTP/1.1\rHost: h\r\r",
    "CR CR LF": request(b"X: a\r"),
    "bare CR, then too many fields": request(b"X: a\rb", *[b"X: y"] * 100),
    "LF first": b"\n" + request(),
    "CR first": b"\r" + request(),
    "three blank lines first": b"\r\n\r\n\r\n" + request(),
    "obs-fold": request(b"X: a", b" b"),
    "obs-fold with a tab": request(b"X: a", b"\tb"),
    "obs-fold before any field": b"GET / HTTP/1.1\r\n X: y\r\nHost: h\r\n\r\n",
    "two lengths": request(b"Content-Length: 5", b"Content-Length: 6"),
    "two equal lengths": request(b"Content-Length: 5", b"content-length: 5"),
    "length and chunked": request(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunked and length 0": request(b"Transfer-Encoding: chunked", b"Content-Length: 0"),
    "chunked in HTTP/1.0": request(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"),
    "no Host": request(host=b""),
    "two Hosts": request(b"Host: h"),
    "a URL and no Host": request(host=b"", line=b"GET http://h/ HTTP/1.1"),
    "a URL and two Hosts": request(b"Host: h", line=b"GET http://h/ HTTP/1.1"),
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/0.9 and a blank line": b"GET /\r\n\r\n",
    "HTTP/0.9 after a blank line": b"\r\nGET /\r\n",
    "an SMTP greeting": b"EHLO chat.example\r\n",
    "an SSH banner": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
}


def test_malformed_heads_are_refused() -> None:
    for name, wire in MALFORMED.items():
        assert feed(head_runner(), wire, trailing=b"\r\n\r\n") == BAD, name


@given(st.sampled_from([*MALFORMED.values(), request(b"X: y", b"Cookie: a")]), st.data())
def test_nothing_that_h11_refuses_is_parsed(wire: bytes, data: st.DataObject) -> None:
    """Only h11's grammar is used, not its reader, which also counts the Hosts."""
    at = data.draw(st.integers(0, len(wire)))
    head = (wire[:at] + data.draw(st.binary(max_size=3)) + wire[at:]).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(head)
    try:
        assert isinstance(reader.next_event(), h11.Request)
    except h11.RemoteProtocolError:
        with pytest.raises(HttpError):
            parse_head(head, HEAD_LIMITS)


NO_VERSIONS = [request(line=b"GET / HTTP/" + version) for version in (b"0.9", b"1.2", b"2.0", b"3.0")]
NO_ENCODINGS = [b"gzip", b"gzip, chunked", b"chunked, identity", b'"chunked']
NOT_SERVED = [
    *((wire, ErrorCode.VERSION_NOT_SUPPORTED) for wire in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", *NO_VERSIONS)),
    *((request(b"Transfer-Encoding: " + how), ErrorCode.NOT_IMPLEMENTED) for how in NO_ENCODINGS),
    (request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), ErrorCode.NOT_IMPLEMENTED),
    (request(b"Expect: 200-ok"), ErrorCode.EXPECTATION_FAILED),
    (request(b"Content-Length: 5", b"Content-Encoding: gzip"), ErrorCode.UNSUPPORTED_MEDIA_TYPE),
    (request(b"Transfer-Encoding: chunked", b"Content-Encoding: br, identity"), ErrorCode.UNSUPPORTED_MEDIA_TYPE),
]


def test_what_is_not_served_has_its_own_error() -> None:
    for wire, code in NOT_SERVED:
        assert feed(head_runner(), wire) == (code, Reason.BAD_REQUEST)
        if code is ErrorCode.UNSUPPORTED_MEDIA_TYPE:
            assert error_of(HttpError, parse_head, wire, HEAD_LIMITS).headers == (("Accept-Encoding", "identity"),)


def test_a_head_or_length_over_a_limit_is_refused() -> None:
    for wire, refused in (
        (request(line=b"GET /" + b"x" * 300 + b" HTTP/1.1"), LONG_TARGET),
        (b"GET /" + b"x" * 2000, LONG_TARGET),
        (request(b"X: " + b"y" * 1000), LONG_HEAD),
        (request(b"X: " + b"y" * 5000), LONG_HEAD),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 5000, LONG_HEAD),
        (request(*[b"X: y"] * 10), LONG_HEAD),
        (request(*[b"X: y"] * 500), LONG_HEAD),
    ):
        assert feed(head_runner(SMALL_BODY), wire) == refused


WORDY = {
    "commas": request(b"Connection: " + b"," * 2100),
    "spaces": request(b"X: " + b"a " * 1100),
    "tabs": request(b"X: " + b"a\t" * 1500),
    "in many fields": request(*[b"X: " + b"a," * 20] * 60),
    "one too many": request(b"X:" + b"aa," * 998),  # three spaces stand in the request line and in Host
}


def test_words_and_list_items_are_counted_before_h11_splits_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """16,000 commas in a Connection field would take 1 ms; browsers send 50 in all fields."""
    assert isinstance(feed(head_runner(), request(b"X:" + b"aa," * 997)), Head)
    monkeypatch.setattr(h11, "Connection", None)
    for name, wire in WORDY.items():
        assert feed(head_runner(), wire) == LONG_HEAD, name
        assert "commas and spaces, limit 1,000" in error_of(HttpError, parse_head, wire, HEAD_LIMITS).message, name


def test_escapes_in_a_target_are_counted_before_they_are_decoded() -> None:
    assert isinstance(feed(head_runner(), request(line=b"GET /%b HTTP/1.1" % (b"%41" * 1000))), Head)
    for target in (b"/" + b"%41" * 1001, b"/?" + b"%ff" * 1001):
        assert feed(head_runner(), request(line=b"GET %b HTTP/1.1" % target)) == LONG_TARGET


def test_a_head_one_byte_over_its_limit() -> None:
    wire = request(b"X: y")
    runner = head_runner(msgspec.structs.replace(HEAD_LIMITS, max_bytes=len(wire) - 1))
    assert feed(runner, wire, trailing=b"more") == LONG_HEAD
    assert feed(runner, wire[:-1]) == LONG_HEAD, "the limit is exceeded before the last byte"
    assert feed(runner, wire[:-2]) is None


def test_bytes_that_cannot_become_a_request_are_refused_at_once() -> None:
    for wire in b"\x16;\r\n(;\xff;\n; ;GET / HTTP/1.1\n;GET /\0;GET / HTTP/1.1\r\nA: \x1b".split(b";"):
        assert isinstance(error_of(HttpError, find_head_end, wire, 0, HEAD_LIMITS), HttpError)


def test_too_many_fields_are_refused_when_the_limit_is_passed() -> None:
    """Waiting for the whole head would keep 15 KB for each of 3,900 heads in the run queue."""
    most = request(*[b"X: y"] * 99)[:-2]  # and Host
    assert find_head_end(most + b"Y: z\r", 0, HEAD_LIMITS) == 0
    for searched in (0, len(most), len(most) + 5):
        with pytest.raises(HttpError, match="more than 100 header fields, limit 100") as refused:
            find_head_end(most + b"Y: z\r\n", searched, HEAD_LIMITS)
        assert refused.value.reason is Reason.HEAD_TOO_LARGE
    with pytest.raises(HttpError, match=r"102 header fields, limit 100"):
        parse_head(request(*[b"X: y"] * 101), HEAD_LIMITS)


# -- the origin of a refused head -------------------------------------------------------------------------------------


def test_the_origin_is_read_from_a_head_that_need_not_be_valid_or_complete() -> None:
    for sent, origin in (
        (b"GET / HTTP/1.1\r\nOrigin: https://app.example\r\nX: half", "https://app.example"),
        (b"GET / HTTP/1.1\r\nORIGIN:\thttps://app.example \r\nOrigin: https://evil.example\r\n", "https://app.example"),
        (b"GET / HTTP/1.1\r\nOrigin: https://app.exam", "https://app.exam"),
        (b"GET /?origin: HTTP/1.1\r\nX-Origin: https://app.example\r\n\r\n", None),
        (b"", None),
    ):
        assert origin_in(sent) == origin
