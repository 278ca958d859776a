"""The fields that a message's state adds to its JSON."""

import msgspec

from chatserver.protocol.record_json import with_state

NOTHING: dict[str, object] = {"reply_to": 0, "mentions": (), "edited": 0, "deleted": False, "reactions": ()}


def test_only_the_changed_fields_of_a_state_are_added() -> None:
    for state, more in (
        ({}, {}),
        ({"reply_to": 7}, {"reply_to": 7}),
        ({"mentions": ("u_a",)}, {"mentions": ["u_a"]}),
        ({"edited": 1}, {"edited": "1970-01-01T00:00:00.001Z"}),
        ({"deleted": True}, {"deleted": True}),
        ({"reactions": (("\U0001f44d", 2),)}, {"reactions": {"\U0001f44d": 2}}),
    ):
        encoded = with_state(b'{"text":"hi"}', **NOTHING | state)  # type: ignore[arg-type]
        assert msgspec.json.decode(encoded) == {"text": "hi", **more}
