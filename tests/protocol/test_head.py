import pytest

from chatserver.protocol.head import BodyKind, Head, HeadLimits, find_head_end, has_token
from tests.protocol.feed import feed, head_runner
from tests.protocol.samples import GET, POST, request

NEXT = b"GET /next HTTP/1.1\r\n"


def head_of(wire: bytes) -> Head:
    head = feed(head_runner(), wire, trailing=NEXT)
    assert isinstance(head, Head), head
    return head


def test_a_get() -> None:
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


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
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
    ],
)
def test_targets(target: bytes, path: str, query: str) -> None:
    """The target's authority replaces Host."""
    head = head_of(request(line=b"GET %b HTTP/1.1" % target))
    authority = "other.example:81" if b"other" in target else "h"
    assert (head.path, head.query, head.headers["host"]) == (path, query, authority)


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ((b"Accept: a", b"ACCEPT: b", b"Cookie: x=1", b"Cookie: y=2"), {"accept": "a, b", "cookie": "x=1; y=2"}),
        ((b"X-Name: \xc3\xbc",), {"x-name": "Ã¼"}),  # any byte beyond ASCII
    ],
)
def test_fields(fields: tuple[bytes, ...], headers: dict[str, str]) -> None:
    assert head_of(request(*fields)).headers == {"host": "h", **headers}


CHUNKED, EXPECT = b"Transfer-Encoding: Chunked", b"Expect: 100-Continue"
NONE, LENGTH = (BodyKind.NONE, 0, False), (BodyKind.LENGTH, 5, False)


@pytest.mark.parametrize(
    ("version", "fields", "keep_alive", "body"),
    [
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
    ],
)
def test_what_follows_a_head(version: bytes, fields: tuple[bytes, ...], keep_alive: bool, body: object) -> None:
    head = head_of(request(*fields, line=b"POST / HTTP/" + version))
    assert head.keep_alive is keep_alive
    assert (head.body, head.content_length, head.expects_continue) == body


def test_hosts() -> None:
    for host in b"a A.b:80 [::1]:8000 [::1] 127.0.0.1:0 x_y.local a: xn--bcher-kva.example".split():
        assert head_of(request(host=b"Host:  %b " % host)).headers["host"] == host.decode()
    old = head_of(request(line=b"GET / HTTP/1.0", host=b""))
    assert (old.version, old.headers) == ("1.0", {})


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n"])
def test_blank_lines_before_a_request_are_ignored(before: bytes) -> None:
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
        end = find_head_end(buffer, searched, HeadLimits())
    assert end == len(wire)
    assert buffer.touched < 12 * len(wire)


def test_has_token() -> None:
    for value in ("close", "Close", "keep-alive, CLOSE", "close\t,x"):
        assert has_token(value, "close")
    for no_value in (None, "", "closed", "x-close, keep-alive", "clo, se"):
        assert not has_token(no_value, "close")
