from typing import TypeAlias

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat.principal import User
from chatserver.protocol import encoders
from chatserver.protocol.record_json import message_json
from chatserver.protocol.validation import MAX_TEXT_BYTES, check_text
from chatserver.reasons import ErrorCode

ANN, BOB = ("u_a", 'Ann "Á" \\'), ("u_b", "Bob\n")
ONE = message_json("lobby", 41, "k3f9", *ANN, "hi", 1_795_176_000_123)
TWO = message_json("lobby", 42, "k3f9", *BOB, "yo", 1_795_176_000_000)


@given(st.text(), st.text(), st.integers(1, 2**53 - 1), st.integers(0, 4_102_444_800_000))
def test_a_message_is_the_same_json_as_msgspec_makes(text: str, name: str, offset: int, time_ms: int) -> None:
    encoded = message_json("a.b-c_d", offset, "k3f9", "u_x", name, text, time_ms)
    expected = {
        "room": "a.b-c_d",
        "offset": offset,
        "cursor": f"k3f9-{offset}",
        "user": {"id": "u_x", "name": name},
        "text": text,
        "time": encoders.time_text(time_ms),
    }
    check(encoded, expected, b"")


def test_times_are_utc_with_milliseconds() -> None:
    for time_ms, text in (
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_176_000_123, "2026-11-20T12:00:00.123Z"),
        (1_795_176_000_999, "2026-11-20T12:00:00.999Z"),
        (1_795_176_001_000, "2026-11-20T12:00:01.000Z"),
    ):
        assert encoders.time_text(time_ms) == text


def test_ids_come_back_unchanged() -> None:
    for id_ in (0, 7, -1, 1.5, "", 'a"b\\c\n', "ü", "x" * 64):
        assert msgspec.json.decode(encoders.pong(id_)) == {"type": "pong", "id": id_}


PLACE = {"room": "lobby", "offset": 42, "cursor": "k3f9-42", "time": "2026-11-20T12:00:00.000Z"}
USERS = [{"id": "u_a", "name": ANN[1]}, {"id": "u_b", "name": BOB[1]}]
MESSAGES: list[dict[str, object]] = [msgspec.json.decode(ONE), msgspec.json.decode(TWO)]
PAGE = {"cursor": "k3f9-42", "recovered": True, "messages": MESSAGES}
AT = ("lobby", 42, "k3f9", 1_795_176_000_000)
PAGE_OF = ("lobby", "k3f9-42", True, [ONE, TWO])
Frames: TypeAlias = tuple[tuple[bytes | list[bytes], dict[str, object]], ...]


def test_every_frame_has_its_form() -> None:
    frames: Frames = (
        (encoders.message_push(ONE), {"type": "message", **MESSAGES[0]}),
        (encoders.ack(3, *AT), {"type": "ack", "id": 3, **PLACE}),
        (encoders.ack(None, *AT), {"type": "ack", **PLACE}),
        (encoders.pong(None), {"type": "pong"}),
        (encoders.left(1, "lobby"), {"type": "left", "id": 1, "room": "lobby"}),
        (encoders.left(None, "lobby"), {"type": "left", "room": "lobby"}),
        (
            encoders.hello(
                "s_1",
                User(*ANN),
                encoders.hello_end(25, {"text": 8192, "rate": 5.5}),
            ),
            {
                "type": "hello",
                "protocol": "chat.v1",
                "session": "s_1",
                "user": USERS[0],
                "ping": 25,
                "limits": {"text": 8192, "rate": 5.5},
            },
        ),
        (encoders.joined(1, *PAGE_OF, 3), {"type": "joined", "id": 1, "room": "lobby", **PAGE, "members": 3}),
        (
            encoders.joined(None, "lobby", "k3f9-0", False, [], 1),
            {"type": "joined", "room": "lobby", "cursor": "k3f9-0", "recovered": False, "messages": [], "members": 1},
        ),
        (encoders.history(None, *PAGE_OF), {"type": "history", "room": "lobby", **PAGE}),
        (encoders.history("h", *PAGE_OF), {"type": "history", "id": "h", "room": "lobby", **PAGE}),
        (
            encoders.members(5, "lobby", msgspec.json.encode([User(*ANN), User(*BOB)]), 9),
            {"type": "members", "id": 5, "room": "lobby", "members": USERS, "count": 9},
        ),
        (encoders.members(None, "a", b"[]", 0), {"type": "members", "room": "a", "members": [], "count": 0}),
        (
            encoders.presence("lobby", [User(*ANN), User(*BOB)], [], 3),
            {"type": "presence", "room": "lobby", "joined": USERS, "left": [], "members": 3},
        ),
        (encoders.gap("lobby", "k-1", "k-9"), {"type": "gap", "room": "lobby", "after": "k-1", "until": "k-9"}),
        (encoders.goaway("draining", 3.20049), {"type": "goaway", "reason": "draining", "retry_after": 3.2}),
        (
            encoders.error(1, ErrorCode.RATE_LIMITED, 'wait "a bit"', 1.23456),
            {"type": "error", "id": 1, "code": "rate_limited", "message": 'wait "a bit"', "retry_after": 1.235},
        ),
        (  # rounded up: a client that waits as told does not come too early, nor at once
            encoders.error(None, ErrorCode.RATE_LIMITED, "wait", 0.0004),
            {"type": "error", "code": "rate_limited", "message": "wait", "retry_after": 0.001},
        ),
        (encoders.error(None, ErrorCode.BAD_JSON, "no"), {"type": "error", "code": "bad_json", "message": "no"}),
    )
    for encoded, expected in frames:
        check(encoded, expected, b"")


def test_bodies_end_a_line() -> None:
    bodies: Frames = (
        (encoders.ack_body(*AT, *ANN), {**PLACE, "user": {"id": ANN[0], "name": ANN[1]}}),
        (encoders.page(*PAGE_OF), {"room": "lobby", **PAGE}),
        (encoders.page(*PAGE_OF[:3], []), {"room": "lobby", **PAGE, "messages": []}),
        (encoders.page(*PAGE_OF[:3], [ONE]), {"room": "lobby", **PAGE, "messages": MESSAGES[:1]}),
        (encoders.poll_page([]), {"rooms": {}}),
        (
            encoders.poll_page([PAGE_OF, ("ops", "z-0", False, [])]),
            {"rooms": {"lobby": PAGE, "ops": {"cursor": "z-0", "recovered": False, "messages": []}}},
        ),
        (
            encoders.members_page("lobby", msgspec.json.encode([User(*ANN)]), 1),
            {"room": "lobby", "members": USERS[:1], "count": 1},
        ),
    )
    for encoded, expected in bodies:
        check(encoded, expected, b"\n")


def check(encoded: bytes | list[bytes], expected: dict[str, object], end: bytes) -> None:
    """The fields have the contract's order, and a page contains the same bytes as the single messages."""
    if isinstance(encoded, list):
        assert all(part is ONE or part is TWO for part in encoded if b'"offset"' in part)
        encoded = b"".join(encoded)
    found = msgspec.json.decode(encoded)
    assert (found, list(found)) == (expected, list(expected))
    assert encoded.endswith(b"}" + end)
    assert encoded.count(b"\n") == len(end)


def test_the_longest_message_fits_in_a_frame_of_its_own_limit() -> None:
    """Text, key and names at their limits, with every character escaped, encode to less than 16 KiB + 2 KiB."""
    text = check_text('"' * MAX_TEXT_BYTES)
    encoded = message_json("r" * 64, 2**53 - 1, "e" * 32, "u_" + "x" * 30, '"' * 40, text, 0)
    assert len(encoders.message_push(encoded)) < 18 * 1024
    publish = b'{"type":"publish","id":"%b","room":"%b","key":"%b","text":"%b"}'
    assert len(publish % (b"i" * 64, b"r" * 64, b"k" * 64, b'\\"' * (MAX_TEXT_BYTES - 200))) <= 16 * 1024
