"""The JSON of records, events, and lists of people."""

import json

from msgspec.structs import replace

from chatserver.api.encoder import WireEncoder, faces
from chatserver.chat.presence import MAX_NAMED_MEMBERS, Presence
from chatserver.chat.principal import Principal
from chatserver.log.interface import Kind, MessageState, Record

ENCODER = WireEncoder("k3f9")
RECORD = Record("lobby", 41, 1_763_800_000_123, "u_1", "Ann", 'a "quoted" ünï\n')
PEOPLE = [Principal(number, "here") for number in range(MAX_NAMED_MEMBERS + 5)]


def test_an_emptied_edit_is_encoded_like_its_record() -> None:
    for text in (RECORD.text, '","user":{"id":"', '"', '"text":"', "\\"):
        edit = replace(RECORD, offset=42, kind=Kind.EDIT, target=41, user_name=f'"Änn"{text}', text=text)
        emptied = ENCODER.message(replace(edit, text=""))
        assert ENCODER.emptied(ENCODER.message(edit)) == emptied
        assert ENCODER.emptied(emptied) == emptied


NOISE = '"time":"2026-11-20T12:00:00.123Z"}, \\"time":\\"\\\\'
STATES = (None, MessageState(edited=1), MessageState(edited=2, reactions=(("\U0001f44d", 2), ("\U0001f389", 1))))


def test_a_message_with_a_new_state_is_encoded_like_its_record() -> None:
    for mentions in ((), ("u_bob", NOISE)):
        for now in STATES:
            for before in STATES:
                record = replace(RECORD, user_id=NOISE, user_name=NOISE, text=NOISE, mentions=mentions, state=before)
                altered = replace(record, state=now)
                assert ENCODER.restated(ENCODER.message(record), altered) == ENCODER.message(altered)


def test_a_listing_is_encoded_again_only_after_a_change() -> None:
    presence = Presence()
    presence.enter(PEOPLE[0])
    first = ENCODER.listing(presence)
    assert ENCODER.listing(presence) is first
    presence.enter(PEOPLE[1])
    expected = [{"id": face.id, "name": face.name} for face in faces(PEOPLE[:2])]
    assert json.loads(ENCODER.listing(presence)) == expected
    for person in PEOPLE[2:]:
        presence.enter(person)
    large = ENCODER.listing(presence)
    presence.leave(3)
    assert ENCODER.listing(presence) is large, "in a large room the listing is as old as the last notice"
    presence.take_changes(0.0)
    assert ENCODER.listing(presence) is not large
