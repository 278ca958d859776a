"""The fields that a message's state adds to its JSON."""

import msgspec
import pytest

from chatserver.protocol.record_json import message_json

NOISE = '"time":"2026-11-20T12:00:00.123Z"}, \\"time":\\"\\\\'


@pytest.mark.parametrize(
    ("state", "more"),
    [
        ({}, {}),
        ({"reply_to": 7}, {"reply_to": 7}),
        ({"mentions": ("u_a", NOISE)}, {"mentions": ["u_a", NOISE]}),
        ({"edited": 1}, {"edited": "1970-01-01T00:00:00.001Z"}),
        ({"deleted": True}, {"deleted": True}),
        ({"reactions": (("\U0001f44d", 2),)}, {"reactions": {"\U0001f44d": 2}}),
    ],
)
def test_only_the_changed_fields_of_a_state_are_added(state: dict[str, object], more: dict[str, object]) -> None:
    encoded = message_json("lobby", 41, "k3f9", NOISE, NOISE, NOISE, 2, **state)  # type: ignore[arg-type]
    assert msgspec.json.decode(encoded) == {
        "room": "lobby", "offset": 41, "cursor": "k3f9-41", "user": {"id": NOISE, "name": NOISE}, "text": NOISE,
        "time": "1970-01-01T00:00:00.002Z", **more,
    }  # fmt: skip
