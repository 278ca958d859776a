"""Messages as every transport has them: JSON that is made once, events, cursors of one epoch, lists of people."""

import json

from chatserver.api.encoder import WireEncoder, faces
from chatserver.chat.presence import NAMED_ROOM, Presence
from chatserver.chat.principal import Principal
from chatserver.log.interface import Record

ENCODER = WireEncoder("k3f9")
RECORD = Record("lobby", 41, 1_763_800_000_123, "u_1", "Ann", 'a "quoted" ünï\n')


def test_a_message_is_json_with_a_cursor_of_the_epoch() -> None:
    message = json.loads(ENCODER.message(RECORD))
    assert message["text"] == RECORD.text
    assert (message["room"], message["offset"], message["cursor"]) == ("lobby", 41, "k3f9-41")
    assert message["user"] == {"id": "u_1", "name": "Ann"}


def test_an_event_carries_the_same_json_and_where_to_go_on() -> None:
    message = ENCODER.message(RECORD)
    lines = ENCODER.events.push(message, "lobby", 41).decode().split("\n")
    fields = dict(line.split(": ", 1) for line in lines if line)
    assert fields["id"] == "k3f9-41"
    assert fields["event"] == "message"
    assert fields["data"].encode() == message
    assert lines[-2:] == ["", ""], "an empty line ends it"


def test_a_gap_is_an_event_that_moves_the_cursor() -> None:
    wire = ENCODER.events.gap("lobby", 3, 9).decode()
    fields = dict(line.split(": ", 1) for line in wire.split("\n") if line)
    assert (fields["id"], fields["event"]) == ("k3f9-9", "gap")
    gap = json.loads(fields["data"])
    assert (gap["room"], gap["after"], gap["until"]) == ("lobby", "k3f9-3", "k3f9-9")


def test_presence_is_not_told_over_event_streams() -> None:
    ENCODER.events.presence("lobby", [Principal(1, "here")], [], 1)
    assert not hasattr(ENCODER.events, "listing")


def test_a_listing_is_made_once_until_somebody_comes_or_goes() -> None:
    presence = Presence()
    presence.enter(Principal(1, "here"))
    first = ENCODER.listing(presence)
    assert ENCODER.listing(presence) is first
    presence.enter(Principal(2, "here"))
    again = ENCODER.listing(presence)
    expected = [{"id": each_id, "name": name} for each_id, name in faces([Principal(1, "here"), Principal(2, "here")])]
    assert json.loads(again) == expected
    for number in range(3, NAMED_ROOM + 5):
        presence.enter(Principal(number, "here"))
    large = ENCODER.listing(presence)
    presence.leave(3)
    assert ENCODER.listing(presence) is large, "as old as the last telling, in a large room"
    presence.tell(0.0)
    assert ENCODER.listing(presence) is not large
