"""session.py, frame by frame: what random walks (test_session_model.py, test_rough.py) do not find or do not name."""

import json
import math
from collections.abc import Sequence

import msgspec
import pytest

from chatserver.client import events, requests, session, wire
from chatserver.client.errors import ChatError, Invalid, RateLimited, Unavailable
from chatserver.client.session import CLOSE_TOO_BIG, LONGEST_WAIT, RETRY_DELAY, SENT_AGAIN_FOR, Answered, Outcome
from chatserver.client.wire import ProtocolError
from tests.client.fake import ME, message
from tests.client.scripted_session import Peer, offsets


def failure(seen: Sequence[Outcome]) -> ChatError:
    (failed,) = seen
    assert isinstance(failed, Answered)
    assert isinstance(failed.result, ChatError)
    return failed.result


def test_as_many_earlier_messages_as_requested() -> None:
    for latest, wanted in [(0, []), (2, [4, 5]), (50, [3, 4, 5])]:
        peer = Peer()
        peer.session.leave("lobby")
        peer.session.join("lobby", latest=latest)
        peer.session.opened(0.0)
        entered, *records = peer.answer("joined", 3, 4, 5)
        place = None if wanted else "e1-5"
        assert (entered, offsets(records)) == (events.Entered("lobby", 1, resumed=False, until=5, cursor=place), wanted)
        assert peer.push(7) == [], "the offsets of unwanted messages count as read"
        assert peer.sent()["after"] == "e1-5"
        peer.session.opened(0.0)
        assert offsets(peer.answer("joined", 6, 7, 8)) == [6, 7, 8], "what was missed is wanted, however much"
        assert offsets(peer.push(9)) == [9]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_slow_reader_gets_the_first_record_after_which_the_others_are_read_later(
    newcomer: Peer, is_known: bool
) -> None:
    """The cursor before them is not known, or is one of an old log, which would be a second gap."""
    if is_known:
        newcomer.answer("joined", 8, epoch="e0")
        newcomer.session.opened(0.0)
    newcomer.session.pause("lobby")
    seen = newcomer.answer("joined", 1, 2, recovered=not is_known)
    assert (offsets(seen), events.Gap("lobby", "e0-8") in seen) == ([1], is_known)
    assert newcomer.push(3) == []
    newcomer.session.resume("lobby")
    assert newcomer.sent()["after"] == "e1-1"


def test_records_behind_a_hole_are_held_up_to_a_bound_and_then_read_again(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "HELD_RECORDS", 2)
    assert [event for offset in (3, 4, 5, 6) for event in peer.push(offset)] == []
    assert offsets(peer.answer("history", 2)) == [2, 3, 4]
    assert offsets(peer.answer("history", 5, 6)) == [5, 6]
    assert peer.sends_nothing()


def test_a_hole_that_the_log_cannot_fill_is_reported_as_lost(peer: Peer) -> None:
    peer.push(5)
    seen = peer.answer("history")
    assert seen[0] == events.Gap("lobby", "e1-1")
    assert offsets(seen) == [5]
    assert offsets(peer.push(6)) == [6]


def test_a_loss_behind_records_that_came_meanwhile_is_reported_too(peer: Peer) -> None:
    """Retention had removed what both gaps skipped: the second loss was reported with the next message only."""
    peer.give("gap", room="lobby", after="e1-1", until="e1-3")
    peer.push(4)
    peer.give("gap", room="lobby", after="e1-4", until="e1-8")
    page = {"cursor": "e1-8", "recovered": False, "messages": []}
    lost, *records = peer.give("history", id=peer.sent()["id"], **page)
    assert (lost, offsets(records)) == (events.Gap("lobby", "e1-1"), [4])
    assert peer.give("history", id=peer.sent()["id"], **page) == [events.Gap("lobby", "e1-4")]
    assert peer.answer("history") == []
    assert offsets(peer.push(9)) == [9]
    assert peer.sends_nothing()


def test_a_room_whose_history_is_refused_is_left_at_its_cursor(peer: Peer) -> None:
    """Its records were reported as lost, which they were not, and one that had been delivered could come again."""
    peer.push(5)
    assert peer.refuse("forbidden") == [events.Complaint("lobby", "forbidden", "no")]
    assert peer.sent()["type"] == "leave"
    assert peer.push(6) == []


def test_the_writes_of_a_room_go_one_at_a_time_in_order(peer: Peer) -> None:
    first, _ = (peer.publish(text) for text in ("a", "b"))
    sent = peer.sent()
    assert sent.pop("key")
    assert sent == {"type": "publish", "id": first, "room": "lobby", "text": "a"}
    assert peer.sends_nothing()
    (answered,) = peer.give("ack", **{**message(1), "id": first})
    assert isinstance(answered, Answered)
    assert answered.result == wire.Ack("lobby", 1, "e1-1", message(1)["time"], first)
    assert peer.give("ack", **{**message(1), "id": first}) == []
    assert peer.sent()["text"] == "b"


def test_a_request_is_sent_again_on_the_next_connection_and_a_write_under_its_key(peer: Peer) -> None:
    id_ = peer.session.ask(requests.Edit(room="lobby", offset=1, text="b", key="k1"))
    expected = {"type": "edit", "id": id_, "room": "lobby", "offset": 1, "text": "b", "key": "k1"}
    assert peer.sent() == expected
    peer.session.ask(requests.Members(room="lobby"))
    assert peer.sent()["type"] == "members"
    peer.session.opened(0.0)
    members, join, again = peer.session.outgoing(0.0, 0.0)
    assert (type(members), type(join)) == (requests.Members, requests.Join)
    assert json.loads(msgspec.json.encode(again)) == expected


@pytest.mark.parametrize(
    ("code", "asked", "delay"),
    [
        ("rate_limited", {"retry_after": 1.5}, 1.5),
        ("unauthenticated", {"retry_after": 1.5}, 1.5),
        ("internal", {}, RETRY_DELAY),
        ("of_a_newer_server", {"retry_after": 3}, 3.0),
        ("unavailable", {"retry_after": 0}, RETRY_DELAY),
        ("unavailable", {"retry_after": -5}, RETRY_DELAY),
        ("unavailable", {"retry_after": 1e300}, LONGEST_WAIT),
    ],
)
def test_a_passing_refusal_pauses_its_room_and_the_next_write_does_not_overtake(
    peer: Peer, code: str, asked: dict[str, float], delay: float
) -> None:
    peer.publish("a")
    peer.publish("b")
    assert peer.refuse(code, **asked) == [events.Postponed("lobby", code, "no", delay)]
    assert peer.sends_nothing()
    assert peer.session.next_time() == delay
    peer.publish("c", room="ops")
    assert peer.session.next_time() == 0.0
    assert peer.sent()["text"] == "c"
    peer.now = delay
    assert peer.sent()["text"] == "a"
    assert peer.session.next_time() == math.inf


@pytest.mark.parametrize(
    ("code", "asked", "delay"), [("rate_limited", 0.1, 0.15), ("rate_limited", 5.0, 5.5), ("unavailable", 5.0, 5.0)]
)
def test_programs_of_one_user_do_not_come_back_in_step(peer: Peer, code: str, asked: float, delay: float) -> None:
    """At one message a second, one of two senders got all, and the other gave up without having sent a line."""
    peer.jitter = 0.5
    peer.publish("a")
    (postponed,) = peer.refuse(code, retry_after=asked)
    assert isinstance(postponed, events.Postponed)
    assert postponed.delay == pytest.approx(delay)


def test_a_write_is_not_sent_again_when_the_server_may_have_forgotten_its_key(peer: Peer) -> None:
    """After ten minutes without a connection it was stored a second time."""
    first, second = peer.publish("a"), peer.publish("b")
    peer.refuse("rate_limited", retry_after=400.0)
    peer.now = peer.clock = 400.0
    assert peer.sent()["id"] == first
    for peer.clock in (800.0, 400.0 + SENT_AGAIN_FOR):
        assert peer.session.opened(peer.clock) == []
        assert [request.id for request in peer.session.outgoing(peer.now, peer.clock)][1:] == [first]
    peer.give("error", id=first, code="rate_limited", message="no", retry_after=1.0)  # it tells of the last time only
    failed = peer.session.opened(peer.clock + 1.0)
    assert [answered.id for answered in failed] == [first]
    assert isinstance(failure(failed), Unavailable)
    assert [request.id for request in peer.session.outgoing(peer.now, peer.clock)][1:] == [second], "never sent"


def test_a_write_that_has_failed_or_is_cancelled_holds_up_no_other(peer: Peer) -> None:
    peer.publish("a", until=10.0)
    error = failure(peer.refuse("rate_limited", retry_after=60.0))
    assert isinstance(error, RateLimited)
    assert (error.code, error.message, error.retry_after) == ("rate_limited", "no", 60.0)
    peer.now = 60.0
    assert peer.sends_nothing()
    peer.session.forget(peer.publish("cancelled"))
    peer.session.forget(peer.session.ask(requests.Members(room="lobby")))
    peer.publish("b")
    assert peer.sent()["text"] == "b"


def test_a_text_that_ends_the_connection_for_its_size_is_not_sent_again(peer: Peer) -> None:
    assert peer.session.closed(CLOSE_TOO_BIG) == [], "it was no text of ours"
    big = peer.publish("a" * 100_000)
    peer.publish("b")
    peer.publish("c", room="ops")
    assert len(peer.session.outgoing(0.0, 0.0)) == 2
    assert peer.session.closed(1001) == []
    closed = peer.session.closed(CLOSE_TOO_BIG)
    assert [answered.id for answered in closed] == [big]
    assert isinstance(failure(closed), Invalid)
    assert peer.sent()["text"] == "b"


def test_a_refusal_for_size_without_an_id_is_that_of_the_longest_text(peer: Peer) -> None:
    """A server does not read what is too long, so it cannot name it: the caller waited until its deadline."""
    short = peer.publish("a", room="ops")
    longest = peer.publish("b" * 100_000)
    assert len(peer.session.outgoing(0.0, 0.0)) == 2
    peer.publish("c" * 200_000)  # not sent yet
    assert peer.give("error", code="bad_json", message="no") == [events.Complaint(None, "bad_json", "no")]
    refused = peer.give("error", code="too_large", message="no")
    assert isinstance(failure(refused), Invalid)
    assert [answered.id for answered in refused if isinstance(answered, Answered)] == [longest]
    peer.give("ack", id=short, room="ops", offset=1)
    assert peer.give("error", code="too_large", message="no") == [events.Complaint(None, "too_large", "no")]


def test_records_of_every_type_have_their_offset(peer: Peer) -> None:
    place = {"room": "lobby", "user": ME, "time": "2026-11-20T12:00:00.123Z"}
    seen = [
        *peer.give("edit", **place, offset=2, cursor="e1-2", target=1, text="better"),
        *peer.give("vote", **place, offset=3, cursor="e1-3", choice="of a newer server"),
        *peer.give("delete", **place, offset=4, cursor="e1-4", target=1),
        *peer.give("reaction", **place, offset=5, cursor="e1-5", target=1, emoji="+", on=True, count=2),
        *peer.push(6),
    ]
    assert [type(event) for event in seen] == [wire.Edit, wire.Deletion, wire.Reaction, wire.Message]
    assert peer.sends_nothing(), "there is no hole"
    changed = {**message(1), "text": "better", "edited": True, "reactions": {"+": 2}, "reply_to": 9}
    page = [changed, {"type": "vote", **place, "offset": 2, "cursor": "e1-2"}, message(3)]
    peer.session.opened(0.0)
    id_ = peer.sent()["id"]
    seen = peer.give("joined", id=id_, cursor="e2-3", recovered=False, messages=page)
    assert offsets(seen) == [1, 3]
    assert isinstance(seen[2], wire.Message)
    assert (seen[2].text, seen[2].edited, seen[2].reactions, seen[2].reply_to) == ("better", True, {"+": 2}, 9)


def test_a_refused_join_is_an_error_and_not_repeated(newcomer: Peer) -> None:
    assert newcomer.refuse("bad_room") == [events.Complaint("lobby", "bad_room", "no")]
    newcomer.session.opened(0.0)
    assert newcomer.sends_nothing()


def test_a_room_is_joined_and_left_at_any_time(peer: Peer) -> None:
    asked = peer.session.ask(requests.Members(room="lobby"))
    assert peer.sent()["id"] == asked
    peer.push(3)  # the pending request of history is dropped
    peer.session.join("den")
    peer.session.leave("lobby")
    join, leave = peer.session.outgoing(0.0, 0.0)
    assert (join, leave) == (requests.Join(id=join.id, room="den"), requests.Leave(id=leave.id, room="lobby"))
    assert peer.push(2) == peer.give("gap", room="lobby", after="e1-2", until="e1-3") == []
    (answered,) = peer.give("members", id=asked, room="lobby", members=[ME], count=1)
    assert isinstance(answered, Answered), "a request of the caller stays"
    assert peer.give("error", id=leave.id, code="forbidden", message="no") == []
    peer.session.join("lobby", latest=50)
    assert offsets(peer.answer("joined", 2, 3)) == [2, 3]


def test_a_room_that_is_joined_again_is_not_left_later(peer: Peer) -> None:
    """Over the rate of messages, the refused `leave` was sent again after the join: the bot was silently out."""
    peer.session.leave("lobby")
    peer.refuse("rate_limited", retry_after=1.0)
    peer.session.join("lobby")
    peer.answer("joined", 1)
    peer.session.leave("lobby")
    leave = peer.sent()
    peer.session.join("lobby")
    peer.give("error", id=leave["id"], code="rate_limited", message="no", retry_after=1.0)
    peer.answer("joined", 1)
    peer.now = 9.0
    assert peer.sends_nothing()


def test_what_a_room_was_sent_before_it_was_joined_again_is_not_its_first_record(peer: Peer) -> None:
    """It comes before the answer to the join, which has the records before it too."""
    peer.session.leave("lobby")
    peer.session.join("lobby", latest=50)
    assert peer.push(3) == peer.give("gap", room="lobby", after="e1-1", until="e1-2") == []
    assert offsets(peer.answer("joined", 1, 2, 3)) == [1, 2, 3]
    assert peer.sends_nothing()


@pytest.mark.parametrize("kind", ["joined", "history"])
def test_an_answer_after_leaving_is_dropped(newcomer: Peer, kind: str) -> None:
    if kind == "history":
        newcomer.answer("joined", 1)
        newcomer.push(3)
    number = newcomer.sent()["id"]
    newcomer.session.leave("lobby")
    page = {"cursor": "e1-2", "recovered": True, "messages": [message(2)]}
    assert newcomer.give(kind, id=number, **page) == []
    leave = newcomer.sent()
    assert leave["type"] == "leave"
    assert newcomer.give(kind, id=leave["id"], **page) == []


def test_typing_has_no_answer_and_is_not_kept(peer: Peer) -> None:
    peer.session.ask(requests.Typing(room="lobby"))
    number = peer.sent()["id"]
    assert peer.give("error", id=number, code="forbidden", message="muted") == []
    peer.session.opened(0.0)
    assert peer.sent()["type"] == "join"


def test_a_room_is_left_after_a_kick_and_what_was_refused_for_now_is_not_sent_later(peer: Peer) -> None:
    """It would have the cursor of a room that is not there any more."""
    peer.push(3)
    peer.refuse("rate_limited", retry_after=1.0)
    out = peer.give("error", room="lobby", code="forbidden", message="banned", retry_after=60)
    assert out == [events.Complaint("lobby", "forbidden", "banned", 60)]
    peer.now = 1.0
    assert (peer.push(9), peer.sends_nothing()) == ([], True)
    peer.session.join("lobby")
    assert peer.sent()["type"] == "join", "after a kick the room may be joined again"


@pytest.mark.parametrize("is_left", [False, True])
def test_a_room_that_a_new_token_takes_away_is_asked_for_again(peer: Peer, *, is_left: bool) -> None:
    """`left` without an id was a breach of the protocol, which cost the connection and so all rooms."""
    peer.session.join("ops")
    peer.answer("joined", 1)
    if is_left:
        peer.session.leave("lobby")
        peer.sent()
    assert peer.give("left", room="lobby") == []
    if not is_left:
        assert peer.refuse("forbidden") == [events.Complaint("lobby", "forbidden", "no")]
    assert peer.sends_nothing()


def test_other_frames_become_their_events(peer: Peer) -> None:
    assert peer.give("something-new", of="the future") == []
    assert peer.give("read", room="lobby", offset=3) == [wire.Read("lobby", 3)]
    assert peer.give("expiring", seconds=30) == [wire.Expiring(30)]


def test_frames_outside_the_protocol_are_errors() -> None:
    frames: list[str | bytes] = [
        "", "{", '{"a": ' + "[" * 100_000, "[]", "null", '{"type": 5}', '{"type": "ack"}',
        '{"type": "message", "room": "lobby"}', b'{"type": "\xff"}', b'{"type": "goaway", "reason": "\xff"}',
    ]  # fmt: skip
    for frame in frames:
        with pytest.raises(ProtocolError, match=r"chat\.v1"):
            pytest.fail(f"{frame[:40]!r} is {wire.decode(frame)}")


def test_a_paused_room_keeps_its_cursor_only(peer: Peer) -> None:
    peer.session.pause("lobby")
    for offset in range(2, 5000):
        assert peer.push(offset) == []
    peer.give("gap", room="lobby", after="e1-4998", until="e1-4999")
    assert peer.sends_nothing()
    peer.session.resume("lobby")
    assert offsets(peer.answer("history", 2, 3)) == [2, 3]
    peer.session.pause("lobby")
    assert offsets(peer.answer("history", 4)) == [4]
    assert peer.sends_nothing(), "it is paused again"
    peer.session.resume("lobby")
    assert offsets(peer.answer("history", 5, 4999)) == [5, 4999]
    assert offsets(peer.push(5000)) == [5000]
    peer.session.pause("lobby")
    peer.session.resume("lobby")
    assert peer.sends_nothing(), "nothing came meanwhile"
    assert offsets(peer.push(5001)) == [5001]
    assert [*peer.push(5004), *peer.push(5006)] == []
    peer.session.pause("lobby")
    assert offsets(peer.answer("history", 5002)) == [5002]
    peer.session.resume("lobby")
    assert offsets(peer.answer("history", 5003)) == [5003], "what was held is read again"
    assert [offsets(peer.answer("history", 5004)), offsets(peer.answer("history", 5005, 5006))] == [
        [5004],
        [5005, 5006],
    ]
    peer.push(5008)
    peer.session.pause("lobby")
    assert offsets(peer.answer("history", 5007)) == [5007, 5008], "nothing is left to be read later"
    assert peer.sends_nothing()


def test_the_first_records_of_a_room_are_skipped_while_its_reader_is_slow(newcomer: Peer) -> None:
    """The first record that was pushed was taken for the first of all: those before it were lost without a Gap."""
    newcomer.answer("joined")
    newcomer.session.pause("lobby")
    newcomer.give("gap", room="lobby", after="e1-0", until="e1-2")
    assert newcomer.push(3) == []
    newcomer.session.resume("lobby")
    assert offsets(newcomer.answer("history", 1, 2, 3)) == [1, 2, 3]
    assert newcomer.sends_nothing()


def test_what_came_behind_a_gap_is_read_later_by_a_slow_reader(peer: Peer) -> None:
    """It was dropped, and pages were read to the end of the gap only: the rest came with the next new message."""
    peer.give("gap", room="lobby", after="e1-1", until="e1-5")
    assert [*peer.push(6), *peer.push(7)] == []
    peer.session.pause("lobby")
    assert offsets(peer.answer("history", 2, 3)) == [2, 3]
    peer.session.resume("lobby")
    assert [offsets(peer.answer("history", *page)) for page in ((4, 5), (6, 7), ())] == [[4, 5], [6, 7], []]
    assert peer.sends_nothing()


def test_what_a_slow_reader_skipped_is_not_read_on_a_connection_to_a_new_log(peer: Peer) -> None:
    peer.session.pause("lobby")
    assert peer.push(2) == []
    peer.session.opened(0.0)
    assert events.Gap("lobby", "e1-1") in peer.answer("joined", recovered=False, epoch="e2")
    peer.session.resume("lobby")
    assert peer.sends_nothing()


@pytest.mark.parametrize("cursor", ["opaque", "e1-²", "e1-" + "9" * 5000])
def test_a_cursor_without_an_offset_in_it_is_given_back_unread(peer: Peer, cursor: str) -> None:
    peer.give("gap", room="lobby", after="e1-1", until="e1-8")
    page = {"cursor": cursor, "recovered": False, "messages": []}
    assert peer.give("history", id=peer.sent()["id"], **page) == [events.Gap("lobby", "e1-1")]
    (request,) = peer.session.outgoing(0.0, 0.0)
    assert isinstance(request, requests.History)
    assert request.after == cursor


@pytest.mark.parametrize("pauses", [False, True])
def test_after_a_gap_pages_are_read_to_its_end(peer: Peer, *, pauses: bool) -> None:
    if pauses:
        peer.session.pause("lobby")
    assert peer.give("gap", room="lobby", after="e1-1", until="e1-4") == []
    peer.session.resume("lobby")
    assert [offsets(peer.answer("history", *page)) for page in ((2, 3), (4,))] == [[2, 3], [4]]
    assert peer.sends_nothing()
