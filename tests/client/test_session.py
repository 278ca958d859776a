"""The promise of session.py, frame by frame, where test_session_model.py does not go: losses, refusals, time."""

import json
import math
from typing import Any

import pytest

from chatserver.client import events
from chatserver.client.session import CLOSE_TOO_BIG, HELD_MESSAGES, RETRY_DELAY, Session
from chatserver.client.wire import ProtocolError, User
from tests.client.fake import ME, message


class Peer:
    """A session in `lobby`, and a hand that plays the server."""

    def __init__(self) -> None:
        self.session = Session(["lobby"])
        self.session.opened()
        self.now = 0.0

    def sent(self) -> dict[str, Any]:
        """Return the one frame that the session sends now."""
        (frame,) = self.session.outgoing(self.now)
        decoded: dict[str, Any] = json.loads(frame)
        return decoded

    def sends_nothing(self) -> bool:
        return self.session.outgoing(self.now) == []

    def give(self, type_: str, **fields: Any) -> list[events.Event]:
        return self.session.receive(json.dumps({"type": type_, **fields}), self.now)

    def answer(self, type_: str, *offsets: int, recovered: bool = True, epoch: str = "e1") -> list[events.Event]:
        """Answer the request that the session sends now."""
        request = self.sent()
        assert request["type"] == {"joined": "join"}.get(type_, type_)
        cursor = f"{epoch}-{max(offsets, default=0)}"
        messages = [message(offset, epoch=epoch) for offset in offsets]
        return self.give(type_, id=request["id"], cursor=cursor, recovered=recovered, messages=messages, members=1)

    def refuse(self, code: str, **fields: Any) -> list[events.Event]:
        """Refuse the request that the session sends now."""
        return self.give("error", id=self.sent()["id"], code=code, message="no", **fields)

    def push(self, offset: int, *, epoch: str = "e1") -> list[events.Event]:
        return self.give("message", **message(offset, epoch=epoch))


def offsets(seen: list[events.Event]) -> list[int]:
    return [event.message.offset for event in seen if isinstance(event, events.Received)]


@pytest.fixture
def newcomer() -> Peer:
    return Peer()


@pytest.fixture
def peer(newcomer: Peer) -> Peer:
    """Has read message 1."""
    newcomer.answer("joined", 1)
    return newcomer


def test_first_join_asks_for_the_latest(newcomer: Peer) -> None:
    assert newcomer.sent() == {"type": "join", "id": 1, "room": "lobby"}
    assert newcomer.sends_nothing()
    assert newcomer.push(7) == [], "a push before `joined` is not the first message"


def test_backlog_then_pushes(newcomer: Peer) -> None:
    seen = [*newcomer.answer("joined", 4, 5), *newcomer.push(6)]
    assert seen[0] == events.Entered("lobby", 1, resumed=False)
    assert [(event.message.offset, event.past) for event in seen[1:] if isinstance(event, events.Received)] == [
        (4, True),
        (5, True),
        (6, False),
    ]


@pytest.mark.parametrize("offset", [0, 3])
def test_a_room_is_resumed_from_where_it_was(newcomer: Peer, offset: int) -> None:
    newcomer.answer("joined", *range(1, offset + 1))
    newcomer.session.opened()
    assert newcomer.sent()["after"] == f"e1-{offset}"


@pytest.mark.parametrize("fresh", [(), (1, 2)])
def test_a_new_epoch_is_a_loss_and_its_offsets_count_anew(newcomer: Peer, fresh: tuple[int, ...]) -> None:
    newcomer.answer("joined", 1, 2, 3)
    newcomer.session.opened()
    seen = newcomer.answer("joined", *fresh, recovered=False, epoch="e2")
    assert seen[:2] == [events.Entered("lobby", 1, resumed=True), events.Lost("lobby")]
    assert offsets(seen) == list(fresh)
    newcomer.session.opened()
    assert newcomer.sent()["after"] == f"e2-{len(fresh)}"


def test_what_was_held_of_an_old_epoch_is_forgotten(peer: Peer) -> None:
    peer.push(9)
    peer.session.opened()
    peer.answer("joined", 1, recovered=False, epoch="e2")
    peer.push(3, epoch="e2")
    assert offsets(peer.answer("history", 2, epoch="e2")) == [2, 3]
    assert peer.sends_nothing()


def test_gap_is_filled_from_our_own_cursor(peer: Peer) -> None:
    peer.give("gap", room="lobby", after="e1-1", until="e1-4")
    assert peer.push(5) == []
    assert peer.sent() == {"type": "history", "id": 2, "room": "lobby", "after": "e1-1", "limit": 200}
    page = [message(offset) for offset in (2, 3, 4)]
    assert offsets(peer.give("history", id=2, cursor="e1-4", recovered=True, messages=page)) == [2, 3, 4, 5]


def test_gap_without_anything_after_it_is_filled_to_its_end(peer: Peer) -> None:
    peer.give("gap", room="lobby", after="e1-1", until="e1-4")
    assert offsets(peer.answer("history", 2)) == [2]
    assert offsets(peer.answer("history", 3, 4)) == [3, 4]
    assert peer.sends_nothing()


def test_gap_that_retention_passed_is_said_to_be_lost(peer: Peer) -> None:
    peer.give("gap", room="lobby", after="e1-1", until="e1-9")
    peer.push(10)
    seen = peer.answer("history", 8, 9, recovered=False)
    assert seen[0] == events.Lost("lobby")
    assert offsets(seen) == [8, 9, 10]


@pytest.mark.parametrize("refused", [False, True])
def test_a_hole_that_the_log_cannot_fill_is_lost_rather_than_waited_for(peer: Peer, refused: bool) -> None:
    peer.push(5)
    seen = peer.refuse("bad_cursor") if refused else peer.answer("history")
    assert seen[0] == events.Lost("lobby")
    assert offsets(seen) == [5]
    assert offsets(peer.push(6)) == [6]


def test_what_is_held_is_bounded_and_nothing_is_lost_by_it(peer: Peer) -> None:
    last = HELD_MESSAGES + 10
    for offset in range(3, last + 1):
        assert peer.push(offset) == []
    got = offsets(peer.answer("history", 2))
    assert got == list(range(2, HELD_MESSAGES + 3))
    got += offsets(peer.answer("history", *range(got[-1] + 1, last + 1)))
    assert got == list(range(2, last + 1))
    assert peer.sends_nothing()


def test_published_texts_go_one_at_a_time_in_order(peer: Peer) -> None:
    keys = [peer.session.publish("lobby", text) for text in ("a", "b")]
    assert peer.sent() == {"type": "publish", "id": 2, "room": "lobby", "text": "a", "key": keys[0]}
    assert peer.sends_nothing()
    assert peer.give("ack", id=2, **message(1)) == [events.Acknowledged(keys[0], "lobby", 1)]
    assert peer.give("ack", id=2, **message(1)) == []
    assert peer.sent()["text"] == "b"
    assert peer.session.unacknowledged == 1


def test_a_rate_limit_pauses_and_the_next_does_not_overtake(peer: Peer) -> None:
    key, _ = (peer.session.publish("lobby", text) for text in ("a", "b"))
    assert peer.refuse("rate_limited", retry_after=1.5) == []
    assert peer.sends_nothing()
    assert peer.session.next_time() == 1.5
    peer.now = 1.5
    again = peer.sent()
    assert (again["text"], again["key"]) == ("a", key)
    assert peer.session.next_time() == math.inf


def test_an_error_without_a_time_is_tried_again_after_a_while(peer: Peer) -> None:
    peer.session.publish("lobby", "a")
    peer.refuse("internal")
    assert peer.session.next_time() == RETRY_DELAY


def test_a_refusal_is_final_and_the_next_goes_on(peer: Peer) -> None:
    key, _ = (peer.session.publish("lobby", text) for text in ("a", "b"))
    assert peer.refuse("forbidden") == [events.Refused(key, "forbidden", "no")]
    assert peer.sent()["text"] == "b"


def test_a_text_that_ends_the_connection_for_its_size_is_not_sent_again(peer: Peer) -> None:
    key, _ = (peer.session.publish("lobby", text) for text in ("a" * 100_000, "b"))
    peer.sent()
    assert peer.session.closed(1001) == []
    (refused,) = peer.session.closed(CLOSE_TOO_BIG)
    assert isinstance(refused, events.Refused)
    assert refused.key == key
    assert peer.session.unacknowledged == 1


def test_a_refused_join_is_a_complaint_and_not_tried_again(newcomer: Peer) -> None:
    assert newcomer.refuse("bad_room") == [events.Complaint("lobby", "bad_room", "no")]
    newcomer.session.opened()
    assert newcomer.sends_nothing()


def test_a_room_is_joined_and_left_at_any_time(peer: Peer) -> None:
    peer.push(3)  # the history that is due is not asked for any more
    peer.session.leave("lobby")
    assert peer.sent() == {"type": "leave", "id": 2, "room": "lobby"}
    assert peer.give("left", id=2, room="lobby") == []
    assert peer.push(2) == []
    peer.session.join("lobby")
    peer.session.join("lobby")
    assert offsets(peer.answer("joined", 2, 3)) == [2, 3]


@pytest.mark.parametrize("kind", ["joined", "history"])
def test_what_is_answered_after_leaving_is_dropped(newcomer: Peer, kind: str) -> None:
    if kind == "history":
        newcomer.answer("joined", 1)
        newcomer.push(3)
    number = newcomer.sent()["id"]
    newcomer.session.leave("lobby")
    assert newcomer.give(kind, id=number, cursor="e1-2", recovered=True, messages=[message(2)]) == []
    assert newcomer.sent()["type"] == "leave"


@pytest.mark.parametrize("code", ["unavailable", "forbidden"])
def test_members_are_told_or_why_not(peer: Peer, code: str) -> None:
    peer.session.ask_members("lobby")
    assert peer.sent() == {"type": "members", "id": 2, "room": "lobby"}
    assert peer.give("members", id=2, room="lobby", members=[ME], count=9) == [
        events.Members(2, "lobby", (User("u_me", "Me"),), 9)
    ]
    peer.session.ask_members("lobby")
    assert peer.refuse(code) == [events.Complaint(None, code, "no")]


@pytest.mark.parametrize(
    ("frame", "seen"),
    [
        ({"type": "hello", "protocol": "chat.v1", "user": ME, "limits": {}}, [events.Connected(User("u_me", "Me"))]),
        ({"type": "goaway", "reason": "restart", "retry_after": 3.2}, [events.GoingAway("restart", 3.2)]),
        (
            {"type": "presence", "room": "lobby", "joined": [ME], "left": [], "members": 2},
            [events.PresenceChanged("lobby", (User("u_me", "Me"),), (), 2)],
        ),
        ({"type": "error", "code": "bad_json", "message": "what"}, [events.Complaint(None, "bad_json", "what")]),
        ({"type": "something-new", "of": "the future"}, []),
    ],
)
def test_other_news(peer: Peer, frame: dict[str, Any], seen: list[events.Event]) -> None:
    assert peer.session.receive(json.dumps(frame), 0.0) == seen


@pytest.mark.parametrize(
    "frame", ["", "{", "[]", '{"type": 5}', '{"type": "ack"}', '{"type": "message", "room": "lobby"}', "null"]
)
def test_what_is_not_the_protocol_is_said(peer: Peer, frame: str) -> None:
    with pytest.raises(ProtocolError, match=r"chat\.v1"):
        peer.session.receive(frame, 0.0)
