"""Malformed frames, and frames over a limit."""

from wsproto import events as ws
from wsproto.connection import Connection, ConnectionState, ConnectionType

from chatserver.protocol.websocket import FrameLimits, Ping, Text, Violation, receive
from chatserver.reasons import Reason
from tests.protocol.feed import feed, frame_runner, take_frames
from tests.support.limits import FRAME_LIMITS
from tests.support.peers import raw_frame as frame

FIN, TEXT, BINARY = 0x80, 0x01, 0x02
CLOSE, PING, PONG = 0x88, 0x89, 0x8A

BROKEN = {
    "unmasked text": frame(FIN | TEXT, b"hello", mask=b""),
    "unmasked ping": frame(PING, mask=b""),
    "unmasked empty pong": frame(PONG, mask=b""),
    "reserved bit 1": frame(0xC1, b"x"),
    "reserved bit 2": frame(0xA1, b"x"),
    "reserved bit 3": frame(0x91, b"x"),
    "reserved bit on a pong": frame(0xCA),
    **{f"opcode {opcode:#x}": frame(FIN | opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "fragmented ping": frame(0x09, b"x"),
    "fragmented close": frame(0x08),
    "ping of 126 bytes": frame(PING, b"x" * 126),
    "pong of 64 KiB": frame(PONG, b"x" * 65536),
    "close of 126 bytes": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "two-byte length for 125": b"\x81\xfe\x00\x7d" + bytes(4) + b"x" * 125,
    "eight-byte length for 126": b"\x81\xff" + (126).to_bytes(8, "big") + bytes(4) + b"x" * 126,
    "close with one byte": frame(CLOSE, b"\x03"),
    **{
        f"close with {code}": frame(CLOSE, code.to_bytes(2, "big"))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "binary": frame(FIN | BINARY, b"x"),
    "fragment of binary": frame(BINARY, b"x"),
    "continuation of nothing": frame(0x00, b"x"),
    "last continuation of nothing": frame(FIN, b"x"),
    "text inside a message": frame(TEXT, b"a") + frame(FIN | TEXT, b"b"),
    "fragment of text inside a message": frame(TEXT, b"a") + frame(TEXT, b"b"),
}

BAD_TEXT = {
    "not UTF-8": frame(FIN | TEXT, b"a\xffb"),
    "half a character": frame(FIN | TEXT, b"a\xc3"),
    "a surrogate": frame(FIN | TEXT, b"\xed\xa0\x80"),
    "overlong": frame(FIN | TEXT, b"\xc0\xaf"),
    "beyond Unicode": frame(FIN | TEXT, b"\xf4\x90\x80\x80"),
    "split across fragments": frame(TEXT, b"a\xe2\x82") + frame(0x00) + frame(FIN, b"b"),
    "half a character in the last fragment": frame(TEXT, b"a") + frame(FIN, b"\xe2\x82"),
    "close reason": frame(CLOSE, b"\x03\xe8\xff"),
}


def reason_of(wire: bytes, limits: FrameLimits = FRAME_LIMITS) -> object:
    """The reason for which these frames close a connection. A frame before them must still count."""
    seen, _ = feed(frame_runner(limits), wire)
    before, _ = frame_runner(limits)([frame(PING, b"before") + wire])
    assert before[0][0] == Ping(b"before")
    assert before[0][1:] == seen
    return seen[-1]


def wsproto_refuses(wire: bytes) -> bool:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(wire)
    refused = any(isinstance(event, ws.CloseConnection) for event in server.events())
    return refused and server.state is ConnectionState.OPEN


def test_broken_frames_are_refused_as_wsproto_refuses_them() -> None:
    for name, wire in BROKEN.items():
        assert reason_of(wire) is Reason.BAD_FRAME, name
        assert wire[0] & 0x0F == BINARY or wsproto_refuses(wire), f"{name}: refused though wsproto accepts it"


def test_text_that_is_not_utf8_is_refused() -> None:
    for name, wire in BAD_TEXT.items():
        assert (reason_of(wire), wsproto_refuses(wire)) == (Reason.BAD_TEXT, True), name


def test_a_length_over_the_limit_is_refused_before_its_payload() -> None:
    for length in (16 * 1024 + 1, 65_536, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        header = frame(FIN | TEXT, length=length)[:-4]
        assert feed(frame_runner(), header) == ([Reason.MESSAGE_TOO_BIG], False)


def test_a_bad_start_is_refused_before_its_payload_and_the_peer_is_told_why() -> None:
    for start, why in (
        (b"\xc1\xfe", "cannot begin with byte 0xc1"),
        (b"\x83\x85", "cannot begin with byte 0x83"),
        (b"\x81\x05", "masked"),
        (b"\x89\xfe", "over its limit of 125"),
        (b"\x00\x80", "nothing to continue"),
        (b"\x80\x80", "nothing to continue"),
        (b"\x82\x85", "binary messages"),
        (b"\x81\xfe\x00\x7d", "shortest form"),
        (b"\x01\xff" + (65_535).to_bytes(8, "big"), "shortest form"),
        (frame(TEXT, b"a") + b"\x81\x80", "inside an unfinished one"),
    ):
        events, rest, assembly, _ = receive(start, None, FRAME_LIMITS)
        assert isinstance(events[0], Violation), start
        assert why in events[0].error.message
        assert (rest, assembly) == (b"", None), start


def test_fragments_over_the_message_limit() -> None:
    wire = frame(TEXT, b"x" * 10_000) + frame(0x00, b"x" * 6_000) + frame(0x00, b"x" * 385)[:8]
    assert reason_of(wire) is Reason.MESSAGE_TOO_BIG


def test_too_many_fragments() -> None:
    for payload in (b"", b"x"):
        within = frame(TEXT, payload) + frame(0x00, payload) * 63
        assert feed(frame_runner(), within) == ([], True)
        assert reason_of(within + frame(0x00, payload)) is Reason.TOO_MANY_FRAGMENTS
        assert reason_of(within + frame(FIN, payload)) is Reason.TOO_MANY_FRAGMENTS


def test_a_message_s_end_resets_the_count_and_a_ping_does_not() -> None:
    wire = (frame(TEXT) + frame(PING)) + (frame(0x00) + frame(PING)) * 64
    assert feed(frame_runner(), wire)[0] == [Ping(b"")] * 64 + [Reason.TOO_MANY_FRAGMENTS]
    one = frame(TEXT, b"a") + frame(0x00) * 62 + frame(FIN)
    assert feed(frame_runner(), one * 4) == ([Text("a")] * 4, False)


def test_what_waits_is_bounded() -> None:
    """A peer can make us keep 64 fragments of 16 KiB together and a control frame without its last byte, at most."""
    limits = FRAME_LIMITS
    wire = frame(TEXT, b"x" * 256) + frame(0x00, b"x" * 256) * 63 + frame(PING, b"x" * 125)[:-1]
    events, rest, assembly = take_frames(wire, None, limits)
    assert events == []
    assert assembly is not None
    assert len(assembly.frames) + len(rest) <= limits.max_message_bytes + 14 * limits.max_fragments + 131
