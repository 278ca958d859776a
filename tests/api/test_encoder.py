"""The JSON of records, events, and lists of people."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from chatserver.api.encoder import WireEncoder, faces
from chatserver.chat.presence import MAX_NAMED_MEMBERS, Presence
from chatserver.chat.principal import Principal
from chatserver.log.interface import Kind, Record, State
from chatserver.protocol import encoders

ENCODER = WireEncoder("k3f9")
RECORD = Record("lobby", 41, 1_763_800_000_123, "u_1", "Ann", 'a "quoted" ünï\n')
PEOPLE = [Principal(number, "here") for number in range(MAX_NAMED_MEMBERS + 5)]


def fields_of(event: bytes) -> dict[str, str]:
    assert event.endswith(b"\n\n"), "an empty line ends an event"
    return dict(line.split(": ", 1) for line in event.decode().split("\n") if line)


def test_an_emptied_edit_is_encoded_like_its_record() -> None:
    edit = replace(RECORD, offset=42, kind=Kind.EDIT, target=41, user_name='"Änn"')
    emptied = ENCODER.message(replace(edit, text=""))
    assert ENCODER.emptied(ENCODER.message(edit)) == emptied
    assert ENCODER.emptied(emptied) == emptied


NOISE = '"time":"2026-11-20T12:00:00.123Z"}, \\"time":\\"\\\\'
STATES = (None, State(edited=1), State(edited=2, reactions=(("\U0001f44d", 2), ("\U0001f389", 1))))


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("now", STATES)
@pytest.mark.parametrize("mentions", [(), ("u_bob", NOISE)])
def test_a_message_with_a_new_state_is_encoded_like_its_record(
    before: State | None, now: State | None, mentions: tuple[str, ...]
) -> None:
    record = replace(RECORD, user_id=NOISE, user_name=NOISE, text=NOISE, mentions=mentions, state=before)
    altered = replace(record, state=now)
    assert ENCODER.restated(ENCODER.message(record), altered) == ENCODER.message(altered)


def _user(person: Principal) -> dict[str, str]:
    return {"id": person.face.id, "name": person.face.name}


def test_a_gap_moves_the_cursor_and_events_outside_the_log_do_not() -> None:
    event = fields_of(ENCODER.events.gap("lobby", 3, 9))
    assert (event["id"], event["event"]) == ("k3f9-9", "gap")
    gap = json.loads(event["data"])
    assert (gap["room"], gap["after"], gap["until"]) == ("lobby", "k3f9-3", "k3f9-9")
    ann = PEOPLE[0]
    cases: list[tuple[bytes, dict[str, Any]]] = [
        (
            ENCODER.events.presence("lobby", [ann], [], 1),
            {"type": "presence", "joined": [_user(ann)], "left": [], "members": 1},
        ),
        (ENCODER.events.typing("lobby", ann), {"type": "typing", "user": _user(ann)}),
        (ENCODER.events.read("lobby", 41), {"type": "read", "offset": 41}),
    ]
    for wire, told in cases:
        event = fields_of(wire)
        assert list(event) == ["event", "data"]
        assert (event["event"], json.loads(event["data"])) == (told["type"], {"room": "lobby", **told})


def test_a_listing_is_encoded_again_only_after_a_change() -> None:
    presence = Presence()
    presence.enter(PEOPLE[0])
    first = ENCODER.listing(presence)
    assert ENCODER.listing(presence) is first
    presence.enter(PEOPLE[1])
    expected = [{"id": each_id, "name": name} for each_id, name in faces(PEOPLE[:2])]
    assert json.loads(ENCODER.listing(presence)) == expected
    for person in PEOPLE[2:]:
        presence.enter(person)
    large = ENCODER.listing(presence)
    presence.leave(3)
    assert ENCODER.listing(presence) is large, "in a large room the listing is as old as the last notice"
    presence.tell(0.0)
    assert ENCODER.listing(presence) is not large


def test_a_listing_does_not_use_the_cache_of_authors() -> None:
    """Most people never write; putting each of them into the cache makes a listing of 450 take 5 ms."""
    presence = Presence()
    for number in range(50):
        presence.enter(Principal(1_000_000 + number, "192.0.2.1"))
    before = encoders.user_json.cache_info().currsize
    assert len(json.loads(ENCODER.listing(presence))) == 50
    assert encoders.user_json.cache_info().currsize == before
