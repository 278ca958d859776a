import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.protocol import encoders
from chatserver.protocol.validation import MAX_TEXT_BYTES, check_text
from chatserver.reasons import ErrorCode

ANN, BOB = ("u_a", 'Ann "Á" \\'), ("u_b", "Bob\n")
ONE = encoders.message_json("lobby", 41, "k3f9", *ANN, "hi", 1_795_176_000_123)
TWO = encoders.message_json("lobby", 42, "k3f9", *BOB, "yo", 1_795_176_000_000)


def parsed(data: bytes) -> object:
    return msgspec.json.decode(data)


def fields_in_order(data: bytes) -> list[str]:
    decoded = parsed(data)
    assert isinstance(decoded, dict)
    return list(decoded)


@given(st.text(), st.text(), st.integers(1, 2**53 - 1), st.integers(0, 4_102_444_800_000))
def test_a_message(text: str, name: str, offset: int, time_ms: int) -> None:
    encoded = encoders.message_json("a.b-c_d", offset, "k3f9", "u_x", name, text, time_ms)
    assert parsed(encoded) == {
        "room": "a.b-c_d",
        "offset": offset,
        "cursor": f"k3f9-{offset}",
        "user": {"id": "u_x", "name": name},
        "text": text,
        "time": encoders.time_text(time_ms),
    }
    assert b"\n" not in encoded, "it must fit in one line of an event stream"


def test_order_is_the_contract_s() -> None:
    assert fields_in_order(ONE) == ["room", "offset", "cursor", "user", "text", "time"]
    pushed = encoders.message_push(ONE)
    assert fields_in_order(pushed)[0] == "type"
    assert parsed(pushed) == {"type": "message", **parsed(ONE)}  # type: ignore[dict-item]
    assert fields_in_order(encoders.ack(1, "a", 1, "e-1", "t")) == ["type", "id", "room", "offset", "cursor", "time"]


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_176_000_123, "2026-11-20T12:00:00.123Z"),
        (1_795_176_000_999, "2026-11-20T12:00:00.999Z"),
        (1_795_176_001_000, "2026-11-20T12:00:01.000Z"),
    ],
)
def test_times(time_ms: int, text: str) -> None:
    assert encoders.time_text(time_ms) == text


@pytest.mark.parametrize("id_", [0, 7, -1, 1.5, "", 'a"b\\c\n', "ü", "x" * 64])
def test_ids_come_back_unchanged(id_: int | float | str) -> None:
    assert parsed(encoders.pong(id_)) == {"type": "pong", "id": id_}
    assert parsed(encoders.left(id_, "a")) == {"type": "left", "id": id_, "room": "a"}


def test_no_id_no_field() -> None:
    assert encoders.pong(None) == b'{"type":"pong"}'
    for data in (
        encoders.ack(None, "a", 1, "e-1", "t"),
        b"".join(encoders.joined(None, "a", "e-1", True, [], 1)),
        b"".join(encoders.history(None, "a", "e-1", True, [])),
        encoders.members(None, "a", b"[]", 0),
        encoders.left(None, "a"),
        encoders.error(None, ErrorCode.BAD_ROOM, "x"),
    ):
        assert "id" not in fields_in_order(data)


PLACE = {"room": "lobby", "offset": 42, "cursor": "k3f9-42", "time": "2026-11-20T12:00:00.000Z"}
USERS = [{"id": "u_a", "name": ANN[1]}, {"id": "u_b", "name": BOB[1]}]
PAGE = {"cursor": "k3f9-42", "recovered": True, "messages": [parsed(ONE), parsed(TWO)]}
ITEMS = [ONE, TWO]


def test_a_page_is_made_of_the_very_bytes_that_everybody_has() -> None:
    for parts in (
        encoders.joined(1, "lobby", "k3f9-42", True, ITEMS, 3),
        encoders.history(1, "lobby", "k3f9-42", True, ITEMS),
        encoders.page("lobby", "k3f9-42", True, ITEMS),
        encoders.poll_page([("lobby", "k3f9-42", True, ITEMS)]),
    ):
        assert all(any(part is item for part in parts) for item in ITEMS)
        assert sum(len(part) for part in parts if not any(part is item for item in ITEMS)) < 120


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (encoders.ack(3, "lobby", 42, "k3f9-42", "2026-11-20T12:00:00.000Z"), {"type": "ack", "id": 3, **PLACE}),
        (encoders.published("lobby", 42, "k3f9-42", "2026-11-20T12:00:00.000Z"), PLACE),
        (
            encoders.hello("s_1", *ANN, 25, {"text": 8192, "rate": 5.5}),
            {
                "type": "hello",
                "protocol": "chat.v1",
                "session": "s_1",
                "user": USERS[0],
                "ping": 25,
                "limits": {"text": 8192, "rate": 5.5},
            },
        ),
        (
            b"".join(encoders.joined(1, "lobby", "k3f9-42", True, ITEMS, 3)),
            {"type": "joined", "id": 1, "room": "lobby", **PAGE, "members": 3},
        ),
        (
            b"".join(encoders.joined(1, "lobby", "k3f9-0", False, [], 1)),
            {
                "type": "joined",
                "id": 1,
                "room": "lobby",
                "cursor": "k3f9-0",
                "recovered": False,
                "messages": [],
                "members": 1,
            },
        ),
        (
            b"".join(encoders.history("h", "lobby", "k3f9-42", True, ITEMS)),
            {"type": "history", "id": "h", "room": "lobby", **PAGE},
        ),
        (b"".join(encoders.page("lobby", "k3f9-42", True, ITEMS)), {"room": "lobby", **PAGE}),
        (
            b"".join(encoders.page("lobby", "k3f9-42", True, [ONE])),
            {"room": "lobby", **PAGE, "messages": [parsed(ONE)]},
        ),
        (b"".join(encoders.poll_page([])), {"rooms": {}}),
        (
            b"".join(encoders.poll_page([("lobby", "k3f9-42", True, ITEMS), ("ops", "z-0", False, [])])),
            {"rooms": {"lobby": PAGE, "ops": {"cursor": "z-0", "recovered": False, "messages": []}}},
        ),
        (
            encoders.members(5, "lobby", encoders.user_list([ANN, BOB]).encode(), 9),
            {"type": "members", "id": 5, "room": "lobby", "members": USERS, "count": 9},
        ),
        (
            encoders.presence("lobby", [ANN, BOB], [], 3),
            {"type": "presence", "room": "lobby", "joined": USERS, "left": [], "members": 3},
        ),
        (encoders.gap("lobby", "k-1", "k-9"), {"type": "gap", "room": "lobby", "after": "k-1", "until": "k-9"}),
        (encoders.goaway("draining", 3.20049), {"type": "goaway", "reason": "draining", "retry_after": 3.2}),
        (
            encoders.error(1, ErrorCode.RATE_LIMITED, 'wait "a bit"', 1.23456),
            {"type": "error", "id": 1, "code": "rate_limited", "message": 'wait "a bit"', "retry_after": 1.235},
        ),
        (
            encoders.error(None, ErrorCode.BAD_JSON, "no"),
            {"type": "error", "code": "bad_json", "message": "no"},
        ),
    ],
)
def test_answers(encoded: bytes, expected: dict[str, object]) -> None:
    assert parsed(encoded) == expected
    assert fields_in_order(encoded) == list(expected)


def test_what_is_a_body_ends_a_line_and_what_is_a_frame_does_not() -> None:
    users = encoders.user_list([ANN]).encode()
    bodies = [
        encoders.published("lobby", 42, "k3f9-42", "2026-11-20T12:00:00.000Z"),
        b"".join(encoders.page("lobby", "k3f9-42", True, ITEMS)),
        b"".join(encoders.page("lobby", "k3f9-42", True, [])),
        b"".join(encoders.poll_page([("lobby", "k3f9-42", True, ITEMS), ("ops", "k3f9-0", True, [])])),
        encoders.members_page("lobby", users, 1),
    ]
    frames = [
        encoders.ack(1, "lobby", 42, "k3f9-42", "2026-11-20T12:00:00.000Z"),
        b"".join(encoders.joined(1, "lobby", "k3f9-42", True, ITEMS, 1)),
        b"".join(encoders.history(1, "lobby", "k3f9-42", True, [])),
        encoders.members(1, "lobby", users, 1),
    ]
    assert all(body.endswith(b"}\n") and body.count(b"\n") == 1 for body in bodies)
    assert all(b"\n" not in frame for frame in frames)


def test_the_longest_message_fits_in_a_frame_of_its_own_limit() -> None:
    """Text, key and names at their limits, escaped to the utmost, stay below 16 KiB + 2 KiB on their way out."""
    text = check_text('"' * MAX_TEXT_BYTES)
    encoded = encoders.message_json("r" * 64, 2**53 - 1, "e" * 32, "u_" + "x" * 30, '"' * 40, text, 0)
    assert len(encoders.message_push(encoded)) < 18 * 1024
    publish = b'{"type":"publish","id":"%b","room":"%b","key":"%b","text":"%b"}'
    assert len(publish % (b"i" * 64, b"r" * 64, b"k" * 64, b'\\"' * (MAX_TEXT_BYTES - 200))) <= 16 * 1024
