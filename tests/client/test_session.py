"""The promise of session.py, frame by frame: once, in order, or said to be lost."""

import json
import math
from typing import Any

import pytest

from chatserver.client.events import (
    Acknowledged,
    Complaint,
    Connected,
    Entered,
    Event,
    GoingAway,
    Lost,
    PresenceChanged,
    Received,
    Refused,
)
from chatserver.client.session import HELD_MESSAGES, RETRY_DELAY, Session
from chatserver.client.wire import ProtocolError, User

ANN = {"id": "u_a", "name": "Ann"}


def message(offset: int, *, epoch: str = "e1") -> dict[str, Any]:
    return {
        "room": "lobby",
        "offset": offset,
        "cursor": f"{epoch}-{offset}",
        "user": ANN,
        "text": f"text {offset}",
        "time": "2026-11-20T12:00:00.000Z",
    }


def messages(*offsets: int, epoch: str = "e1") -> list[dict[str, Any]]:
    return [message(offset, epoch=epoch) for offset in offsets]


class Peer:
    """A session and a hand that plays the server."""

    def __init__(self, *rooms: str) -> None:
        self.session = Session(rooms)
        self.now = 0.0

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.session.outgoing(self.now)]

    def give(self, type_: str, **fields: Any) -> list[Event]:
        return self.session.receive(json.dumps({"type": type_, **fields}), self.now)

    def enter(self, *offsets: int, recovered: bool = True, epoch: str = "e1") -> list[Event]:
        """Answer the join that the session sends on a new connection."""
        self.session.opened()
        (join,) = [frame for frame in self.sent() if frame["type"] == "join"]
        return self.give(
            "joined",
            id=join["id"],
            room="lobby",
            cursor=f"{epoch}-{max(offsets, default=0)}",
            recovered=recovered,
            messages=messages(*offsets, epoch=epoch),
            members=1,
        )

    def push(self, offset: int, *, epoch: str = "e1") -> list[Event]:
        return self.give("message", **message(offset, epoch=epoch))

    def history(self, *offsets: int, recovered: bool = True, epoch: str = "e1") -> list[Event]:
        """Answer the history request that the session must have made."""
        (fetch,) = self.sent()
        assert fetch["type"] == "history"
        return self.give(
            "history",
            id=fetch["id"],
            room="lobby",
            cursor=f"{epoch}-{max(offsets, default=0)}",
            recovered=recovered,
            messages=messages(*offsets, epoch=epoch),
        )


def offsets(events: list[Event]) -> list[int]:
    return [event.message.offset for event in events if isinstance(event, Received)]


@pytest.fixture
def peer() -> Peer:
    return Peer("lobby")


def test_first_join_asks_for_the_latest(peer: Peer) -> None:
    peer.session.opened()
    assert peer.sent() == [{"type": "join", "id": 1, "room": "lobby"}]
    assert peer.sent() == []


def test_hello_says_who_we_are(peer: Peer) -> None:
    assert peer.give("hello", protocol="chat.v1", session="s", user=ANN, ping=25, limits={}) == [
        Connected(User("u_a", "Ann"))
    ]


def test_backlog_then_pushes(peer: Peer) -> None:
    events = peer.enter(4, 5)
    assert events[0] == Entered("lobby", 1, resumed=False)
    assert [event.past for event in events if isinstance(event, Received)] == [True, True]
    (event,) = peer.push(6)
    assert isinstance(event, Received)
    assert (event.message.text, event.past) == ("text 6", False)


def test_reconnect_resumes_after_the_last_delivered(peer: Peer) -> None:
    peer.enter(4)
    peer.push(5)
    peer.session.opened()
    (join,) = peer.sent()
    assert join["after"] == "e1-5"


def test_an_empty_room_is_resumed_from_where_it_was_empty(peer: Peer) -> None:
    peer.enter()
    peer.session.opened()
    (join,) = peer.sent()
    assert join["after"] == "e1-0"


def test_duplicates_are_dropped(peer: Peer) -> None:
    peer.enter(1, 2)
    assert peer.push(2) == []
    assert offsets(peer.push(3)) == [3]
    assert peer.push(3) == []
    assert offsets(peer.enter(2, 3, 4)) == [4]


def test_a_hole_is_filled_before_what_follows_is_delivered(peer: Peer) -> None:
    peer.enter(1)
    assert peer.push(4) == []
    assert peer.push(5) == []
    assert offsets(peer.history(2, 3)) == [2, 3, 4, 5]
    assert offsets(peer.push(6)) == [6]
    assert peer.sent() == []


def test_a_history_that_gives_less_is_asked_again(peer: Peer) -> None:
    peer.enter(1)
    peer.push(9)
    assert offsets(peer.history(2, 3)) == [2, 3]
    assert offsets(peer.history(4, 5, 6, 7, 8)) == [4, 5, 6, 7, 8, 9]


def test_a_history_that_overlaps_what_was_pushed_doubles_nothing(peer: Peer) -> None:
    peer.enter(1)
    peer.push(4)
    peer.push(5)
    assert offsets(peer.history(2, 3, 4, 5, 6)) == [2, 3, 4, 5, 6]
    assert peer.push(6) == []


def test_gap_is_filled_from_our_own_cursor(peer: Peer) -> None:
    peer.enter(1)
    peer.give("gap", room="lobby", after="e1-1", until="e1-4")
    assert peer.push(5) == []
    (fetch,) = [json.loads(frame) for frame in peer.session.outgoing(0.0)]
    assert fetch == {"type": "history", "id": 2, "room": "lobby", "after": "e1-1", "limit": 200}
    events = peer.give("history", id=2, room="lobby", cursor="e1-4", recovered=True, messages=messages(2, 3, 4))
    assert offsets(events) == [2, 3, 4, 5]


def test_gap_without_anything_after_it_is_filled_to_its_end(peer: Peer) -> None:
    peer.enter(1)
    peer.give("gap", room="lobby", after="e1-1", until="e1-4")
    assert offsets(peer.history(2)) == [2]
    assert offsets(peer.history(3, 4)) == [3, 4]
    assert peer.sent() == []


def test_gap_that_retention_passed_is_said_to_be_lost(peer: Peer) -> None:
    peer.enter(1)
    peer.give("gap", room="lobby", after="e1-1", until="e1-9")
    peer.push(10)
    events = peer.history(8, 9, recovered=False)
    assert events[0] == Lost("lobby")
    assert offsets(events) == [8, 9, 10]


def test_a_hole_that_the_log_does_not_know_is_lost_rather_than_waited_for(peer: Peer) -> None:
    peer.enter(1)
    peer.push(5)
    events = peer.history()
    assert events[0] == Lost("lobby")
    assert offsets(events) == [5]


def test_a_refused_history_is_a_loss_too(peer: Peer) -> None:
    peer.enter(1)
    peer.push(5)
    (fetch,) = peer.sent()
    events = peer.give("error", id=fetch["id"], code="bad_cursor", message="no")
    assert events[0] == Lost("lobby")
    assert offsets(events) == [5]


def test_a_history_that_may_work_later_is_asked_later(peer: Peer) -> None:
    peer.enter(1)
    peer.push(3)
    (fetch,) = peer.sent()
    assert peer.give("error", id=fetch["id"], code="unavailable", message="wait", retry_after=2.0) == []
    assert peer.sent() == []
    assert peer.session.next_time() == 2.0
    peer.now = 2.0
    assert offsets(peer.history(2)) == [2, 3]


def test_what_is_held_is_bounded_and_nothing_is_lost_by_it(peer: Peer) -> None:
    peer.enter(1)
    last = HELD_MESSAGES + 10
    for offset in range(3, last + 1):
        assert peer.push(offset) == []
    got = offsets(peer.history(2))
    assert got == list(range(2, HELD_MESSAGES + 3))
    got += offsets(peer.history(*range(got[-1] + 1, last + 1)))
    assert got == list(range(2, last + 1))
    assert peer.sent() == []


def test_a_new_epoch_is_a_loss_and_its_offsets_count_anew(peer: Peer) -> None:
    peer.enter(1, 2, 3)
    events = peer.enter(1, 2, recovered=False, epoch="e2")
    assert events[1] == Lost("lobby")
    assert offsets(events) == [1, 2]
    peer.session.opened()
    (join,) = peer.sent()
    assert join["after"] == "e2-2"


def test_a_new_epoch_without_messages_is_resumed_in_the_new_epoch(peer: Peer) -> None:
    peer.enter(1, 2, 3)
    assert Lost("lobby") in peer.enter(recovered=False, epoch="e2")
    peer.session.opened()
    assert peer.sent()[0]["after"] == "e2-0"


def test_a_push_before_joined_is_not_mistaken_for_the_first_message(peer: Peer) -> None:
    peer.session.opened()
    peer.sent()
    assert peer.push(7) == []


def test_published_texts_go_one_at_a_time_in_order(peer: Peer) -> None:
    peer.enter()
    keys = [peer.session.publish("lobby", text) for text in ("a", "b")]
    (first,) = peer.sent()
    assert first == {"type": "publish", "id": 2, "room": "lobby", "text": "a", "key": keys[0]}
    assert peer.sent() == []
    acknowledged = peer.give("ack", id=2, room="lobby", offset=1, cursor="e1-1", time="")
    assert acknowledged == [Acknowledged(keys[0], "lobby", 1)]
    (second,) = peer.sent()
    assert second["text"] == "b"
    assert peer.session.unacknowledged == 1


def test_an_unacknowledged_text_is_sent_again_under_its_key(peer: Peer) -> None:
    peer.enter()
    key = peer.session.publish("lobby", "a")
    peer.sent()
    peer.session.opened()
    again = [frame for frame in peer.sent() if frame["type"] == "publish"]
    assert [frame["key"] for frame in again] == [key]
    assert peer.give("ack", id=2, room="lobby", offset=1, cursor="e1-1", time="") == []  # an old id


def test_a_rate_limit_pauses_and_the_next_does_not_overtake(peer: Peer) -> None:
    peer.enter()
    for text in ("a", "b"):
        peer.session.publish("lobby", text)
    (first,) = peer.sent()
    assert peer.give("error", id=first["id"], code="rate_limited", message="slow", retry_after=1.5) == []
    assert peer.sent() == []
    assert peer.session.next_time() == 1.5
    peer.now = 1.5
    (again,) = peer.sent()
    assert (again["text"], again["key"]) == ("a", first["key"])
    assert peer.session.next_time() == math.inf


def test_an_error_without_a_time_is_tried_again_after_a_while(peer: Peer) -> None:
    peer.enter()
    peer.session.publish("lobby", "a")
    (first,) = peer.sent()
    peer.give("error", id=first["id"], code="internal", message="oops")
    assert peer.session.next_time() == RETRY_DELAY


def test_a_refusal_is_final_and_the_next_goes_on(peer: Peer) -> None:
    peer.enter()
    key = peer.session.publish("lobby", "a")
    peer.session.publish("lobby", "b")
    (first,) = peer.sent()
    refused = peer.give("error", id=first["id"], code="forbidden", message="no")
    assert refused == [Refused(key, "forbidden", "no")]
    assert [frame["text"] for frame in peer.sent()] == ["b"]


def test_a_text_that_ends_the_connection_for_its_size_is_not_sent_again(peer: Peer) -> None:
    peer.enter()
    key = peer.session.publish("lobby", "a" * 100_000)
    peer.session.publish("lobby", "b")
    peer.sent()
    (refused,) = peer.session.closed(1009)
    assert isinstance(refused, Refused)
    assert refused.key == key
    assert peer.session.unacknowledged == 1


def test_a_refused_join_is_a_complaint(peer: Peer) -> None:
    peer.session.opened()
    (join,) = peer.sent()
    assert peer.give("error", id=join["id"], code="bad_room", message="no such name") == [
        Complaint("lobby", "bad_room", "no such name")
    ]


def test_other_news(peer: Peer) -> None:
    assert peer.give("goaway", reason="restart", retry_after=3.2) == [GoingAway("restart", 3.2)]
    assert peer.give("presence", room="lobby", joined=[ANN], left=[], members=2) == [
        PresenceChanged("lobby", (User("u_a", "Ann"),), (), 2)
    ]
    assert peer.give("error", code="bad_json", message="what") == [Complaint(None, "bad_json", "what")]
    assert peer.give("something-new", of="the future") == []


@pytest.mark.parametrize(
    "frame", ["", "{", "[]", '{"type": 5}', '{"type": "ack"}', '{"type": "message", "room": "lobby"}', "null"]
)
def test_what_is_not_the_protocol_is_said(peer: Peer, frame: str) -> None:
    with pytest.raises(ProtocolError, match=r"chat\.v1"):
        peer.session.receive(frame, 0.0)
