"""The cases without a socket: wsproto's server, which is independent of them, reads in them what they declare."""

from dataclasses import replace

import pytest
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed
from wsproto.utilities import generate_accept_token

from loadgen.cases.case import FAMILIES, End, Opening, Said, SaidKind, Script, cut, pong
from loadgen.conform.conversation import PROBE, Heard, request
from loadgen.conform.judge import Mark, judge
from loadgen.conform.suite import CASES, select
from loadgen.net import target
from loadgen.net.line import Ending
from loadgen.net.target import UsageError
from loadgen.net.wire import UPGRADE_FIELDS

TARGET = target.find("http://127.0.0.1:1")
SHORT = [case for case in CASES if case.family != "9"]

_KEY = dict(field.split(": ") for field in UPGRADE_FIELDS)["Sec-WebSocket-Key"].encode()
_FIELDS = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + generate_accept_token(_KEY))
YES = b"\r\n".join((b"HTTP/1.1 101 Switching Protocols", *_FIELDS, b"", b""))


def understood(data: bytes) -> tuple[list[Said], bool]:
    """What an echo would say to these bytes, and whether it would have to end the connection for them."""
    server, said, parts = FrameProtocol(client=False, extensions=[]), list[Said](), list[bytes]()
    server.receive_bytes(data)
    try:
        for opcode, payload, _, finished in server.received_frames():
            if opcode is Opcode.CLOSE:
                return said, False
            assert not isinstance(payload, tuple)
            body = payload.encode() if isinstance(payload, str) else bytes(payload)
            if opcode is Opcode.PING:
                said.append(pong(body))
            elif opcode in {Opcode.TEXT, Opcode.BINARY}:
                parts.append(body)
                if finished:
                    said.append(Said(SaidKind.TEXT if opcode is Opcode.TEXT else SaidKind.BINARY, b"".join(parts)))
                    parts.clear()
    except ParseFailed:
        return said, True
    return said, False


def test_every_case_says_what_an_independent_parser_sees() -> None:
    for case in (*SHORT, *select(["9.1.1,9.4.9,9.5.1,9.8.2"])):
        script = case.script()
        said, failed = understood(b"".join([*script.sends, *script.then]))
        assert said == list(script.hears), case
        assert failed is (script.end is End.FAILED), case


def test_numbers_are_unique_and_every_case_is_of_a_family() -> None:
    assert len({case.id for case in CASES}) == len(CASES) > 320
    assert {case.family for case in CASES} == set(FAMILIES)
    assert all(case.title and case.section for case in CASES)
    titles = [case.title for case in CASES if case.family != "6"]
    assert len(set(titles)) == len(titles)


def test_cases_are_chosen_by_number() -> None:
    assert [case.id for case in select(["12.*", "10.1.1"])] == ["10.1.1", "12.1", "12.2", "12.3"]
    assert select(["0.1, 0.2,"]) == CASES[:2]
    assert select([]) == CASES
    with pytest.raises(UsageError, match=r"--case: no case is '8\.\*'"):
        select(["1.*,8.*"])


def test_every_opening_is_the_usual_request_with_its_changes() -> None:
    usual = b"".join(request(Script(), TARGET, "/echo"))
    assert usual.startswith(b"GET /echo HTTP/1.1\r\n")
    openings = [b"".join(request(case.script(), TARGET, "/echo")) for case in select(["0.*,12.*"])]
    same = [each for each in openings if each == usual]
    assert len(same) == 3, "0.1, 0.2 byte by byte, 12.1"
    assert len(set(openings)) == len(openings) - 2
    pieces = [len(request(case.script(), TARGET, "/echo")) for case in select(["0.1,0.2,0.3"])]
    assert pieces == [1, len(usual), 1]


def heard_of(script: Script, *chunks: bytes) -> Heard:
    heard = Heard(script)
    for chunk in (YES, *chunks):
        heard.feed(chunk)
    return heard


def test_a_pong_that_answers_nothing_is_a_sign_of_life() -> None:
    """Section 5.5.3 allows it. A server that sent one as its first frame was said to be no WebSocket that echoes."""
    script = Script(hears=[Said(SaidKind.TEXT, b"x")])
    heard = heard_of(script, b"\x8a\x00", b"\x8a\x01?", b"\x81\x01x", b"\x8a\x0c" + PROBE)
    assert judge(script, heard).mark is Mark.OK


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_what_is_heard_does_not_depend_on_how_it_comes(step: int) -> None:
    script = Script(hears=[pong(b"a"), Said(SaidKind.TEXT, b"hello")])
    data = YES + b"\x8a\x01a" + b"\x01\x02he" + b"\x89\x01p" + b"\x80\x03llo" + b"\x8a\x0c" + PROBE
    heard = Heard(script)
    for chunk in cut(data, step):
        heard.feed(chunk)
    assert (list(heard.missing), heard.unexpected, heard.fault) == ([], None, "")
    assert heard.alive
    assert heard.pinged == b"p"
    assert judge(script, heard).mark is Mark.OK


def test_a_pong_may_answer_all_pings_before_it() -> None:
    script = Script(hears=[pong(b"1"), pong(b"2"), pong(b"3"), Said(SaidKind.TEXT, b"x")])
    assert list(heard_of(script, b"\x8a\x012").missing) == [pong(b"3"), Said(SaidKind.TEXT, b"x")]
    assert list(heard_of(script, b"\x8a\x014").missing) == script.hears
    assert list(heard_of(script, b"\x8a\x012", b"\x8a\x011").missing) == script.hears[2:], "none goes back"
    assert heard_of(script, b"\x81\x01x").unexpected == Said(SaidKind.TEXT, b"x"), "a message waits for its pongs"


FAULTS: list[tuple[bytes, str]] = [
    (b"\x88\x02\x03\xed", "a code that may not be sent"),
    (b"\x88\x03\x03\xe8\xff", "a reason that is not UTF-8"),
    (b"\x88\x01\x03", "a code that may not be sent"),
    (b"\x88\x00\x81\x00", "goes on after its close frame"),
    (b"\x81\x01\xff", "sends text that is not UTF-8"),
    (b"\x80\x00", "unexpected CONTINUATION"),
    (b"\x83\x00", "Invalid opcode"),
    (b"\xc1\x01x", "Reserved bit"),
    (b"\x81\x81\0\0\0\0x", "masked"),
    (b"\x01\x01x\x81\x01x", "expected CONTINUATION"),
    (b"\x89\x7e\x00\x7e", "len > 125"),
]


def test_what_no_server_may_send_is_a_fault() -> None:
    for said, fault in FAULTS:
        heard = heard_of(Script(), said)
        assert fault in heard.fault, said
        assert judge(Script(), heard) == (Mark.WRONG, heard.fault)


ALIVE, TEXT = b"\x8a\x0c" + PROBE, b"\x81\x01x"
SAID = Said(SaidKind.TEXT, b"x")
OPEN, REFUSED = Script(hears=[SAID]), Script(end=End.REFUSED, codes=frozenset({400}))
HUGE, LARGE, SMALL = (Script(sends=[bytes(size)]) for size in (65_535, 132, 131))
FAILED, CLOSED = Script(end=End.FAILED, codes=frozenset({1002})), Script(end=End.CLOSED, codes=frozenset({1000}))
FIN, RST = Ending.FIN, Ending.RST


def _no(status: int) -> bytes:
    return b"HTTP/1.1 %d No\r\n\r\n" % status


def _yes(*fields: str) -> bytes:
    return YES[:-2] + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"


_EXTENSIONS = "Sec-WebSocket-Extensions: "
_INCOMPLETE = "a 101 without Upgrade: websocket and Connection: Upgrade"
AGREED, OFFERED = Script(opening=Opening(extension="deflate")), Script(opening=Opening(subprotocol="chat"))


def _close(code: int) -> bytes:
    return b"\x88\x02" + code.to_bytes(2)


MARKS: list[tuple[Script, bytes, Ending | None, Mark, str]] = [
    (OPEN, b"", None, Mark.WRONG, "does not answer the handshake"),
    (OPEN, b"", FIN, Mark.WRONG, "does not answer the handshake, but FIN"),
    (OPEN, b"SSH-2.0-x\r\n\r\n", None, Mark.WRONG,
     "sends what it may not: not an HTTP/1.1 status line: 'SSH-2.0-x'"),
    (OPEN, _no(404) + b"a page", None, Mark.WRONG, "answers the handshake with 404"),
    (OPEN, _no(429), None, Mark.NOT_EXERCISED, "turns us away: 429"),
    (OPEN, _no(503), FIN, Mark.NOT_EXERCISED, "turns us away: 503"),
    (OPEN, YES + TEXT + ALIVE, None, Mark.OK, ""),
    (OPEN, YES + TEXT, None, Mark.WRONG, "does not answer a ping afterwards"),
    (OPEN, YES + ALIVE, None, Mark.WRONG, "never sends text b'x'"),
    (OPEN, YES + TEXT + TEXT + b"\x81\x01y", None, Mark.WRONG, "sends text b'x'"),
    (OPEN, YES + TEXT + _close(1000), FIN, Mark.WRONG, "ends the connection: close 1000"),
    (OPEN, YES + TEXT + _close(1000), None, Mark.WRONG, "ends the connection: close 1000"),
    (OPEN, YES + TEXT, FIN, Mark.WRONG, "ends the connection: FIN"),
    *((LARGE, YES + _close(code), FIN, Mark.NOT_EXERCISED, f"over a limit of the server's own: close {code}")
      for code in (1008, 1009, 1013)),
    (LARGE, YES + _close(1002), FIN, Mark.WRONG, "ends the connection: close 1002"),
    # daphne, of 4 MiB, and uWebSockets, of more than 16 KiB: it ends at once, and resets if it has not read all
    *((HUGE, YES, end, Mark.NOT_EXERCISED, f"over a limit of the server's own: {end}") for end in (FIN, RST)),
    (Script(sends=[bytes(65_534)]), YES, FIN, Mark.WRONG, "ends the connection: FIN"),
    (HUGE, YES + _close(1002), RST, Mark.WRONG, "ends the connection: close 1002"),
    (LARGE, YES, RST, Mark.WRONG, "ends the connection: RST"),
    (SMALL, YES + _close(1009), FIN, Mark.WRONG, "ends the connection: close 1009"),  # below every message
    (AGREED, _yes(f"{_EXTENSIONS}deflate; x=1") + ALIVE, None, Mark.OK, ""),
    (AGREED, _yes(f"{_EXTENSIONS}deflate; x, more"), None, Mark.WRONG, "agrees to the extensions deflate, more"),
    (AGREED, _yes(f"{_EXTENSIONS}more", f"{_EXTENSIONS}deflate"), None, Mark.WRONG,
     "agrees to the extensions more, deflate"),
    (AGREED, _yes(f"{_EXTENSIONS}deflate; client_max_window_bits=9"), None, Mark.WRONG,
     "answers with client_max_window_bits, which was not offered"),
    (AGREED, _yes("Sec-WebSocket-Protocol: chat"), None, Mark.WRONG, "agrees to the subprotocol 'chat'"),
    # node's ws takes the first that is offered unless it is told what to take, which the RFC leaves to it
    (OFFERED, _yes("Sec-WebSocket-Protocol: chat") + ALIVE, None, Mark.NON_STRICT,
     "agrees to the unknown subprotocol 'chat'"),
    (OFFERED, _yes("Sec-WebSocket-Protocol: talk"), None, Mark.WRONG, "agrees to the subprotocol 'talk'"),
    (AGREED, YES.replace(_FIELDS[2], b"X: y"), None, Mark.WRONG, "a 101 with the wrong Sec-WebSocket-Accept"),
    (AGREED, YES.replace(_FIELDS[0], b"X: y"), None, Mark.WRONG, _INCOMPLETE),
    (AGREED, YES.replace(_FIELDS[1], b"X: y"), None, Mark.WRONG, _INCOMPLETE),
    (REFUSED, b"", FIN, Mark.NON_STRICT, "does not answer the handshake, but FIN"),
    (REFUSED, b"", None, Mark.WRONG, "does not answer the handshake"),
    (REFUSED, _no(400) + b"a page", None, Mark.OK, ""),
    (REFUSED, _no(404), None, Mark.NON_STRICT, "answers the handshake with 404"),
    (REFUSED, YES, None, Mark.WRONG, "accepts it"),
    (replace(REFUSED, lenient=True), YES, None, Mark.NON_STRICT, "accepts it"),
    (replace(REFUSED, field="x-a"), _no(400), None, Mark.WRONG, "answers the handshake with 400 without x-a"),
    (replace(REFUSED, field="x-a"), _no(400)[:-2] + b"X-A: 1\r\n\r\n", None, Mark.OK, ""),
    (replace(REFUSED, codes=frozenset({503})), _no(503), None, Mark.OK, ""),
    (FAILED, YES + _close(1002), FIN, Mark.OK, ""),
    (FAILED, YES + ALIVE, None, Mark.WRONG, "goes on as if nothing were wrong"),
    (replace(FAILED, lenient=True), YES + ALIVE, None, Mark.NON_STRICT, "goes on as if nothing were wrong"),
    (replace(FAILED, lenient=True), YES, None, Mark.WRONG, "waits for more"),
    (FAILED, YES, RST, Mark.NON_STRICT, "no close frame, but RST"),
    (FAILED, YES + _close(1002), None, Mark.NON_STRICT, "leaves the connection open"),
    (replace(FAILED, hears=[SAID]), YES + _close(1002), FIN, Mark.NON_STRICT, "never sends text b'x'"),
    (replace(FAILED, sends=LARGE.sends), YES + _close(1008), FIN, Mark.NON_STRICT, "sends close 1008, not 1002"),
    (CLOSED, YES + _close(1000), FIN, Mark.OK, ""),
    (CLOSED, YES, FIN, Mark.WRONG, "no close frame, but FIN"),
    (CLOSED, YES, None, Mark.WRONG, "does not answer the close"),
    (CLOSED, YES + _close(1000), None, Mark.WRONG, "leaves the connection open after both close frames"),
    *((CLOSED, YES + _close(code), FIN, Mark.WRONG, f"takes it for an error: close {code}")
      for code in (1002, 1003, 1007, 1011)),
    (replace(CLOSED, lenient=True), YES + _close(1002), FIN, Mark.NON_STRICT, "takes it for an error: close 1002"),
    (replace(CLOSED, codes=frozenset({1002})), YES + _close(1002), FIN, Mark.OK, ""),
    (replace(CLOSED, codes=frozenset({1005})), YES + b"\x88\x00", FIN, Mark.OK, ""),
    (CLOSED, YES + b"\x88\x00", FIN, Mark.NON_STRICT, "answers with close without a code"),
    (replace(CLOSED, hears=[SAID]), YES + _close(1000), FIN, Mark.NON_STRICT, "never sends text b'x'"),
]  # fmt: skip


def test_the_mark_of_what_was_heard() -> None:
    for script, heard, ended, mark, why in MARKS:
        found = Heard(script)
        found.feed(heard)
        found.ended = ended
        assert judge(script, found) == (mark, why), (script, heard, ended)


@pytest.mark.parametrize("chunk", [b"\x00\x7e\xff\xff" + bytes(65_535), bytes(65_536)], ids=["fragments", "a frame"])
def test_a_message_without_end_is_a_fault(chunk: bytes) -> None:
    """It was kept, as long as it came within the timeout."""
    script = Script(hears=[Said(SaidKind.TEXT, b"x")])
    heard = heard_of(script, b"\x01\x7f\x00\x00\x00\xff\x00\x00\x00\x00" if chunk[1] == 0 else b"\x01\x00")
    for _ in range(1000):
        heard.feed(chunk)
    assert "longer than anything that was sent" in heard.fault
    assert len(heard._message) < 1 << 20


def test_of_many_pings_the_last_is_answered() -> None:
    """Section 5.5.3. A server that pinged without reading had a task for each."""
    heard = heard_of(Script(), *[b"\x89\x01%d" % number for number in range(10)])
    assert heard.pinged == b"9"
