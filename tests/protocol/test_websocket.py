from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from wsproto import events as ws
from wsproto.frame_protocol import CloseReason

from chatserver.protocol.websocket import (
    EMPTY_PING,
    LONG_FRAME,
    MAX_MERGED_CONTROLS,
    MAX_SEPARATE_CONTROLS,
    Assembly,
    Binary,
    Close,
    Event,
    Ping,
    Pong,
    Text,
    Violation,
    binary_frame,
    close_frame,
    lacking,
    pong_frame,
    receive,
    text_frame,
    text_frame_parts,
)
from tests.protocol.feed import cuts, feed, frame_runner, pieces, take_frames
from tests.protocol.samples import ws_client
from tests.support.limits import FRAME_LIMITS
from tests.support.peers import raw_frame as frame

LIMITS = FRAME_LIMITS
TEXT, BINARY, CONTINUATION = 0x01, 0x02, 0x00
FIN = 0x80
CLOSE, PING = 0x88, 0x89
EMPTY_PONG = frame(0x8A)
PONG = Pong(1)


SEEN: list[tuple[bytes, Sequence[Event]]] = [
    *((frame(FIN | TEXT, b"x" * size), [Text("x" * size)]) for size in (0, 1, 125, 126, 127, 16 * 1024)),
    (frame(PING, b"hi") + frame(0x8A, b"yo") + EMPTY_PONG + frame(PING), [Ping(b"hi", 1), PONG, PONG, Ping(b"", 1)]),
    (EMPTY_PONG, [PONG]),
    (frame(TEXT, b"a\xc3") + frame(CONTINUATION, b"\xbcb") + frame(CONTINUATION) + frame(FIN, b"c"), [Text("aübc")]),
    (frame(TEXT, b"a") + frame(PING, b"p") + frame(FIN, b"b") + frame(PING), [Ping(b"p"), Text("ab"), Ping(b"")]),
    (frame(TEXT, b"a") + frame(CLOSE, b"\x03\xe8"), [Close(1000, "")]),
    (frame(CLOSE), [Close(1005, "")]),
    (frame(CLOSE, b"\x03\xe9bye"), [Close(1001, "bye")]),
    (frame(CLOSE, b"\x0b\xb8"), [Close(3000, "")]),
    (frame(CLOSE, b"\x13\x87\xc3\xbc"), [Close(4999, "ü")]),
]


def test_frames_and_what_they_mean() -> None:
    for wire, events in SEEN:
        assert feed(frame_runner(), wire, trailing=b"\x81") == (events, False)


def test_an_unfinished_message_waits_as_bytes() -> None:
    events, rest, assembly, _ = receive(frame(TEXT, b"ab") + frame(0, b"c") + b"\x80", None, LIMITS)
    assert (events, rest) == ([], b"\x80")
    assert assembly == Assembly(bytearray(frame(TEXT, b"ab") + frame(0, b"c")), 2, 3)


def test_the_missing_bytes_of_a_frame_are_known_from_its_header() -> None:
    for size in (0, 1, 125, 126, 1000, 16 * 1024):
        wire = frame(FIN | TEXT, b"x" * size)
        known = next(cut for cut in range(len(wire)) if lacking(wire[:cut], None))
        assert known in (2, 4)
        assert all(lacking(wire[:cut], None) == 0 for cut in range(known))
        assert all(lacking(wire[:cut], None) == len(wire) - cut for cut in range(known, len(wire) + 1))
        assert lacking(wire + wire, None) == 0
        fragment = frame(TEXT, b"x" * size)
        assert lacking(fragment[:-1], Assembly(bytearray(fragment), 1, size)) == lacking(fragment[:-1], None)


LONG = msgspec.structs.replace(FRAME_LIMITS, max_message_bytes=1 << 20)


def test_a_long_frame_is_gathered_and_not_copied_with_each_read() -> None:
    wire = frame(FIN | TEXT, b"x" * LONG_FRAME) + frame(PING)
    rest, assembly, copied = b"", None, 0
    seen: list[Event] = []
    for at in range(0, len(wire), 1000):
        data = rest + wire[at : at + 1000]
        copied += len(data)
        events, rest, assembly = take_frames(data, assembly, LONG)
        seen += events
        if len(wire) - at > 2000:
            assert assembly is not None
            assert (rest, lacking(rest, assembly)) == (b"", len(wire) - 6 - at - 1000)
    assert seen == [Text("x" * LONG_FRAME), Ping(b"")]
    assert copied < len(wire) + 1000


def test_fragments_are_gathered_without_copies() -> None:
    """If each fragment copied the earlier ones, 4,096 of 16 KiB would be 137 GB of copies."""
    _, _, assembly, _ = receive(frame(TEXT, b"a" * 100_000), None, LONG)
    assert assembly is not None
    before = assembly.frames
    for _ in range(3):
        _, _, after, _ = receive(frame(CONTINUATION, b"b" * 1000), assembly, LONG)
        assert (after is assembly, assembly.frames is before) == (True, True)


def test_long_frames_mean_the_same_however_they_are_cut() -> None:
    for size in (LONG_FRAME - 1, LONG_FRAME, LONG_FRAME + 1, 200_000):
        text = frame(FIN | TEXT, b"x" * size)
        fragments = frame(TEXT, b"x" * size) + frame(PING, b"p") + frame(FIN, b"y" * size)
        for wire, expected in ((text, [Text("x" * size)]), (fragments, [Ping(b"p"), Text("x" * size + "y" * size)])):
            for step in (17_000, 65_536, len(wire)):
                parts = [wire[at : at + step] for at in range(0, len(wire), step)]
                seen, rest = frame_runner(LONG)([*parts, b"\x81"])
                assert seen == (expected, False)
                assert rest == b"\x81"
        cut = text[:100] + text[100:size]
        assert frame_runner(LONG)([cut[:50], cut[50:]])[0] == ([], size >= LONG_FRAME)


def test_one_message_is_taken_at_a_time_however_long() -> None:
    long, short = frame(FIN | TEXT, b"x" * LONG_FRAME), frame(FIN | TEXT)
    _, rest, assembly, _ = receive(long[:-1], None, LONG)
    events, rest, assembly, more = receive(rest + long[-1:] + short * 2, assembly, LONG)
    assert (len(events), rest, assembly, more) == (1, short * 2, None, True)
    assert receive(short + short[:1], None, LONG) == ([Text("")], short[:1], None, False)


LARGE_PING, LARGE_PONG = frame(PING, b"x" * 125), frame(0x8A, b"x" * 125)
RUNS: list[tuple[bytes, Sequence[Event]]] = [
    (frame(PING, b"p") * MAX_SEPARATE_CONTROLS, [Ping(b"p")] * MAX_SEPARATE_CONTROLS),
    (frame(PING, b"p") * MAX_SEPARATE_CONTROLS + frame(PING, b"last"), [Ping(b"last", MAX_SEPARATE_CONTROLS + 1)]),
    (EMPTY_PONG * MAX_SEPARATE_CONTROLS, [PONG] * MAX_SEPARATE_CONTROLS),
    (EMPTY_PONG * (MAX_SEPARATE_CONTROLS + 1), [Pong(MAX_SEPARATE_CONTROLS + 1)]),
    (LARGE_PONG * 40, [Pong(40)]),
    ((frame(PING, b"p") + EMPTY_PONG) * 20, [Ping(b"p", 40)]),
    (LARGE_PING * 40 + frame(FIN | TEXT, b"a") + EMPTY_PONG, [Ping(b"x" * 125, 40), Text("a"), PONG]),
    (EMPTY_PONG * (MAX_MERGED_CONTROLS + 1), [Pong(MAX_MERGED_CONTROLS), PONG]),
    (EMPTY_PONG * 20 + frame(CLOSE) + frame(FIN | TEXT, b"late") + b"\xff", [Pong(20), Close(1005, "")]),
]


def test_many_pings_and_pongs_are_one_event() -> None:
    for wire, events in RUNS:
        assert take_frames(wire) == (events, b"", None)


def test_pings_and_pongs_up_to_one_that_is_malformed_or_not_whole() -> None:
    wire = EMPTY_PONG * 20
    for bad in (b"\x8a\xfe" + bytes(8), b"\x8a\x00", b"\x9a\x80" + bytes(4)):
        events, rest, _ = take_frames(wire + bad + wire)
        assert (events[0], type(events[1]), len(events), rest) == (Pong(20), Violation, 2, b"")
    for cut in range(1, len(LARGE_PING)):
        assert take_frames(wire + LARGE_PING[:cut]) == ([Pong(20)], LARGE_PING[:cut], None)


def test_all_fragments_that_came_are_taken_at_once() -> None:
    """Otherwise each empty fragment of a flood would cost a step."""
    wire = frame(TEXT, b"a") + frame(0) * 62
    events, rest, assembly, more = receive(wire, None, LIMITS)
    assert (events, rest, assembly, more) == ([], b"", Assembly(bytearray(wire), 63, 1), False)
    assert receive(frame(FIN, b"b") + b"\x81", assembly, LIMITS) == ([Text("ab")], b"\x81", None, False)


def test_binary_where_it_is_allowed() -> None:
    runner = frame_runner(msgspec.structs.replace(FRAME_LIMITS, binary=True))
    wire = frame(FIN | BINARY, b"\xff\0") + frame(BINARY, b"a") + frame(FIN, b"b")
    assert feed(runner, wire, trailing=b"\x82") == ([Binary(b"\xff\0"), Binary(b"ab")], False)


def test_exactly_the_limits() -> None:
    runner = frame_runner(msgspec.structs.replace(FRAME_LIMITS, max_message_bytes=8, max_fragments=4))
    assert feed(runner, frame(FIN | TEXT, b"12345678")) == ([Text("12345678")], False)
    wire = frame(TEXT, b"12") + frame(0, b"34") + frame(0, b"56") + frame(FIN, b"78")
    assert feed(runner, wire) == ([Text("12345678")], False)


client_events = st.one_of(
    st.builds(ws.TextMessage, data=st.text(max_size=200)),
    st.lists(st.text(max_size=50), min_size=1, max_size=5),
    st.builds(ws.Ping, payload=st.binary(max_size=125)),
    st.builds(ws.Pong, payload=st.binary(max_size=125)),
)


@given(st.lists(client_events, max_size=8), st.booleans(), cuts(4000))
def test_frames_of_wsproto_s_client_are_understood(
    sent: list[ws.Event | list[str]], closes: bool, at: list[int]
) -> None:
    client = ws_client()
    wire = b""
    expected: list[Event] = []
    for event in sent:
        if isinstance(event, list):
            for number, part in enumerate(event):
                wire += client.send(ws.TextMessage(data=part, message_finished=number == len(event) - 1))
            expected.append(Text("".join(event)))
        else:
            wire += client.send(event)
            if isinstance(event, ws.TextMessage):
                expected.append(Text(event.data))
            else:
                expected.append(Ping(bytes(event.payload)) if isinstance(event, ws.Ping) else PONG)
    if closes:
        wire += client.send(ws.CloseConnection(code=CloseReason.NORMAL_CLOSURE, reason="bye"))
        expected.append(Close(1000, "bye"))
    assert frame_runner()([wire])[0] == (expected, False)
    assert frame_runner()(pieces(wire, at))[0] == (expected, False)


def client_sees(wire: bytes) -> list[ws.Event]:
    client = ws_client()
    client.receive_data(wire)
    return list(client.events())


def test_our_messages_as_wsproto_reads_them() -> None:
    for size in (0, 1, 125, 126, 127, 65535, 65536, 100_000):
        assert b"".join(text_frame_parts([b"x" * (size // 2), b"x" * (size - size // 2)])) == text_frame(b"x" * size)
        (text,) = client_sees(text_frame(b"x" * size))
        assert isinstance(text, ws.TextMessage)
        assert (text.data, text.message_finished) == ("x" * size, True)
        (binary,) = client_sees(binary_frame(b"\xff" * size))
        assert isinstance(binary, ws.BytesMessage)
        assert (bytes(binary.data), binary.message_finished) == (b"\xff" * size, True)


def test_our_control_frames_as_wsproto_reads_them() -> None:
    assert client_sees(EMPTY_PING) == [ws.Ping(payload=b"")]
    assert client_sees(pong_frame(b"")) == [ws.Pong(payload=b"")]
    assert client_sees(pong_frame(b"x" * 125)) == [ws.Pong(payload=b"x" * 125)]
    assert client_sees(close_frame(1001, "bye")) == [ws.CloseConnection(code=1001, reason="bye")]
    assert client_sees(close_frame(1005)) == [ws.CloseConnection(code=1005, reason="")]
    for code in (1000, 1012, 4000, 4999):
        assert client_sees(close_frame(code)) == [ws.CloseConnection(code=code, reason="")]
    assert client_sees(close_frame(1008, "x" + "é" * 99)) == [ws.CloseConnection(code=1008, reason="x" + "é" * 61)]
