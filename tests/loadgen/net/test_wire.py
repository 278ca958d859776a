"""The crowd's reading of the protocols, against bytes that h11 and wsproto wrote."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, events
from wsproto.connection import Connection

from loadgen.net import wire
from loadgen.personas._websocket import decode
from tests.support.errors import error_of


def _reply(status: int, body: bytes, *fields: tuple[str, str]) -> bytes:
    writer = h11.Connection(h11.SERVER)
    writer.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    writer.next_event()
    data = writer.send(h11.Response(status_code=status, headers=list(fields))) or b""
    for part in (body[:3], body[3:]):
        data += writer.send(h11.Data(data=part)) or b""
    return data + (writer.send(h11.EndOfMessage()) or b"")


HELLO, NEXT = b"hello world", b"HTTP/1.1 200\r\n"
CHUNKED = _reply(200, HELLO, ("Transfer-Encoding", "chunked"))
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status", "body", "rest", "keeps_alive"),
    [
        (_reply(200, HELLO, ("Content-Length", "11")), 200, HELLO, NEXT, True),
        # h11 and browsers take the same length twice; `run` called half of such a server's answers no HTTP
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", NEXT, True),
        (CHUNKED, 200, HELLO, NEXT, True),
        (CHUNKED.replace(b"chunked", b"gzip, Chunked"), 200, HELLO, NEXT, True),  # the last of several codings
        # victims (h11) were served by such a server, and all load of `run` was said to get no answer
        (b"HTTP/1.1 200\nContent-Length: 2\n\nhi", 200, b"hi", NEXT, True),
        (b"HTTP/1.1 200\r\nContent-Length: 2\n\r\nhi", 200, b"hi", NEXT, True),
        (INTERIM * 2000 + b"HTTP/1.1 201 X\r\nContent-Length: 2\r\n\r\n{}", 201, b"{}", NEXT, True),  # no recursion
        (INTERIM + b"HTTP/1.1 101 X\r\n\r\n", 101, b"", b"\x81\x02{}", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", 200, b"", NEXT, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", NEXT, False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", 200, b"", NEXT, True),
    ],
)
def test_a_response_is_read_whole_and_a_byte_at_a_time(
    data: bytes, status: int, body: bytes, rest: bytes, keeps_alive: bool
) -> None:
    for step in 1, 2, 7, 100_000:
        answer, unread = wire.Response(keeps=True), b""
        for at in range(0, len(data), step):
            assert not answer.is_whole
            unread = answer.feed(unread + data[at : at + step] + rest * (at + step >= len(data)))
        assert (answer.is_whole, answer.keeps_alive) == (True, keeps_alive)
        assert (answer.status, bytes(answer.body), unread) == (status, body, rest)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"Content-Length: 9999999\r\n", b"x" * 1000),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n" * 1000),
        (b"Transfer-Encoding: chunked\r\n\r\nffffff", b"x" * 1000),
        (b"X: y\r\n", b"x" * 1000),
    ],
)
def test_no_byte_is_read_twice_and_no_body_is_kept_unasked(head: bytes, part: bytes) -> None:
    """A dripping chunked answer was parsed from its start at each read, and any body was kept until it was whole."""
    answer = wire.Response()
    assert answer.feed(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n") == b""
    for _ in range(100):
        assert answer.feed(part) == b""
    assert (answer.is_whole, len(answer.body)) == (False, 0)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HTTP/1.1 408 Request Timeout\r\n", 408),
        (b"HTTP/1.0 400", 400),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101),
        (b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 413 X\r\n", 413),
        (b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n", None),
        (b"HTTP/1.1 100 Continue\r\nA: b", None),
        (b"HTTP/1.1 40", None),
        (b"HTTP/1.1 abc\r\n", None),
        (b"SIP/2.0  200 OK", None),
        (b"", None),
        (b"\x15\x03\x01 a TLS alert", None),
    ],
)
def test_the_status_is_found_behind_interim_ones(data: bytes, status: int | None) -> None:
    assert wire.final_status(data) == status


def test_a_field_that_is_said_twice_has_both_values() -> None:
    head = wire.read_head(b"HTTP/1.1 101\r\nX-A: 1\r\nSec-X: a; b\r\nsec-x: c\r\n\r\n")
    assert head is not None
    assert head.fields == {"x-a": "1", "sec-x": "a; b, c"}


WRONG: list[bytes] = [
    b"SSH-2.0-OpenSSH\r\n",  # which ends no head
    b"ICY",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
    b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-6\r\n",  # the next size is looked for before it
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n" % (b"9" * 5000),  # int() takes 4,300 digits
    b"HTTP/1.1 %s OK\r\n\r\n" % (b"9" * 5000),
    b"x" * (wire.MAX_HEAD_BYTES + 1),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * wire.MAX_HEAD_BYTES,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"x" * wire.MAX_HEAD_BYTES,
]


def test_what_no_server_should_send_is_an_error() -> None:
    for data in WRONG:
        error_of(wire.WireError, wire.Response().feed, data)


@pytest.mark.parametrize(
    "text", [b"{", b'{"type":"\xff"}', b'{"type":"x","y":' + b"[" * 100_000], ids=["half", "latin-1", "deep"]
)
def test_json_that_cannot_be_read_is_an_error(text: bytes) -> None:
    """msgspec raises three kinds of errors, one of which alone was expected: the others ended the crowd's process."""
    with pytest.raises(wire.WireError, match="not chat"):
        decode(wire.Frame(wire.TEXT, final=True, payload=text))


def test_the_upgrade_is_accepted_by_wsproto_and_its_answer_by_us() -> None:
    from wsproto import WSConnection

    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(wire.upgrade_request("/ws", "host:1"))
    assert isinstance(next(server.events()), events.Request)
    head = wire.read_head(server.send(events.AcceptConnection()))
    assert head is not None
    wire.check_upgrade(head.fields)


def test_a_wrong_accept_is_refused() -> None:
    with pytest.raises(wire.WireError, match="Accept"):
        wire.check_upgrade({"sec-websocket-accept": "no"})


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(min_value=1, max_value=50))
def test_frames_of_wsproto_survive_any_cut(payloads: list[bytes], step: int) -> None:
    server = Connection(ConnectionType.SERVER)
    data = b"".join(server.send(events.BytesMessage(payload)) for payload in payloads)
    got, unread = [], b""
    for at in range(0, len(data), step):
        frames, unread = wire.read_frames(unread + data[at : at + step])
        got += [frame.payload for frame in frames]
    assert got == payloads
    assert unread == b""


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_our_frames_are_read_by_wsproto(size: int) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(wire.frame(wire.FIN | wire.TEXT, b"x" * size))
    text = "".join(event.data for event in server.events() if isinstance(event, events.TextMessage))
    assert text == "x" * size


@pytest.mark.parametrize(("payload", "code"), [(b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xf0why", 1008)])
def test_the_code_of_a_close_frame(payload: bytes, code: int) -> None:
    assert wire.Frame(wire.CLOSE, final=True, payload=payload).close_code == code


@pytest.mark.parametrize("data", [b"\x81\x85", b"\x82\x7f" + (1 << 40).to_bytes(8)])
def test_masked_and_monstrous_frames_are_errors(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.read_frames(data)
