"""Typing and read markers: told only where they matter, in bounded numbers, and to no slow member."""

import pytest
import trio

from chatserver.chat.notices import MAX_READS, MAX_REMEMBERED, MAX_TYPING, NOTICE_EVERY, TYPING_EVERY, Notices
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.log.interface import Draft, Kind
from tests.support.chatting import Chatting, change
from tests.support.scripted import HERE, Peer

TEN = [f"room-{number}" for number in range(10)]


def person(number: int) -> Principal:
    return Principal(number, HERE)


def room_of(it: Chatting, name: str = "lobby") -> Room:
    return it.hub.rooms[name]


# -- typing -----------------------------------------------------------------------------------------------------------


async def test_typing_is_told_at_once_on_all_connections_of_the_others(it: Chatting) -> None:
    ann, bob, eve = await it.members(3)
    ann_again, bob_again = Peer(ann.number), Peer(bob.number)
    for peer in (ann_again, bob_again):
        await it.join(peer, "lobby")
    await it.load("lobby")
    it.hub.housekeeping.types("lobby", ann.principal)
    await it.until_idle()
    assert [peer.typing("lobby") for peer in (bob, bob_again, eve)] == [[ann.number]] * 3
    assert [peer.typing("lobby") for peer in (ann, ann_again)] == [[], []]


async def test_typing_without_end_is_told_every_three_seconds(it: Chatting) -> None:
    ann, bob = await it.members(2)
    for _ in range(95):
        it.hub.housekeeping.types("lobby", ann.principal)
        await trio.sleep(0.1)
    await trio.sleep(10.0)
    assert len(bob.typing("lobby")) == 4, "at 0, 3, 6 and 9 s"
    assert room_of(it).notices is None, "nothing is kept when typing has ended"
    assert it.hub.housekeeping._noticing == {}


async def test_many_who_type_are_told_in_one_write_a_second_and_in_bounded_number(it: Chatting) -> None:
    (bob,) = await it.members(1)
    await trio.sleep(2.0)
    writes = it.sink.writes
    for number in range(100, 100 + 3 * MAX_TYPING):
        it.hub.housekeeping.types("lobby", person(number))
    await it.until_idle()
    assert bob.typing("lobby") == [100], "the first is told at once"
    await trio.sleep(NOTICE_EVERY + 0.1)
    assert bob.typing("lobby") == [100, 101, 102, 103]
    assert it.sink.writes == writes + 2
    await trio.sleep(10.0)
    told = bob.typing("lobby")
    assert told == list(range(100, 100 + len(told)))
    assert 1 + 2 * MAX_TYPING <= len(told) < 3 * MAX_TYPING, "typing older than three seconds is not told"


async def test_a_room_with_too_many_members_and_an_empty_one_get_no_typing(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.chat.housekeeping.MAX_TYPING_MEMBERS", 3)
    first = await it.members(3)
    it.hub.housekeeping.types("lobby", person(100))
    it.hub.housekeeping.types("nowhere", person(100))
    await it.load("empty")
    it.hub.housekeeping.types("empty", person(100))
    assert it.hub.rooms["empty"].notices is None
    await trio.sleep(5.0)
    await it.members(1)
    it.hub.housekeeping.types("lobby", person(100))
    await trio.sleep(5.0)
    assert [peer.typing("lobby") for peer in first] == [[100]] * 3
    assert (room_of(it).notices, "nowhere" in it.hub.rooms) == (None, False)


async def test_a_member_that_is_behind_gets_no_typing_and_its_stream_stays_whole(it: Chatting) -> None:
    slow, half, other = it.peer(space=0), it.peer(), it.peer()
    for peer in (slow, half, other):
        await it.join(peer, "lobby")
    it.sink.take(slow, 13)  # the bytes sent at its join
    await trio.sleep(2.0)
    half.space = 5
    slow.space = 0
    it.hub.housekeeping.types("lobby", person(100))
    await it.until_idle()
    for peer in (slow, half):
        it.sink.take(peer, 1_000)
    await it.publish("lobby", "hi")
    assert [peer.typing("lobby") for peer in (slow, half, other)] == [[], [100], [100]]
    assert [peer.reached("lobby") for peer in (slow, half, other)] == [1, 1, 1]


async def test_a_transport_without_typing_is_written_nothing(it: Chatting) -> None:
    silent = it.peer()
    await it.join(silent, "lobby", encoding=it.encoder.events)
    writes = it.sink.writes
    it.hub.housekeeping.types("lobby", person(100))
    await trio.sleep(5.0)
    assert it.sink.writes == writes


async def test_rooms_share_the_notices_of_a_second(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client may type in a hundred rooms; presence and the rest of its typing wait for the next rounds."""
    monkeypatch.setattr("chatserver.chat.housekeeping.MAX_NOTICES_PER_ROUND", 20)
    watchers = {name: (await it.members(10, name))[0] for name in TEN}
    await trio.sleep(10.5)
    writes = it.sink.writes
    for name in watchers:
        it.hub.housekeeping.types(name, person(100))
    await it.until_idle()
    assert it.sink.writes - writes == 20
    await trio.sleep(1.0)
    assert it.sink.writes - writes == 40
    await trio.sleep(10.0)
    assert it.sink.writes - writes == 80, "after three seconds the rest is dropped"
    for number in range(101, 107):
        for name in watchers:
            it.hub.housekeeping.types(name, person(number))
        await trio.sleep(1.0)
    assert all(watcher.typing(name)[-1] > 100 for name, watcher in watchers.items()), "all have their turn"


async def test_notices_during_a_message_pass_have_a_pass_after_it(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.chat.broadcast.STEP_MEMBERS", 1)
    peers = await it.members(6)
    await trio.sleep(3.0)
    it.hub.broadcaster.announce_members(room_of(it))
    while (broadcast := room_of(it).broadcast) is None or broadcast.at < 3:
        await trio.lowlevel.checkpoint()
    it.hub.housekeeping.types("lobby", person(100))
    it.leave(peers[4].members[0])
    await it.until_idle()
    assert [peer.typing("lobby") for peer in peers] == [[100]] * 4 + [[]] + [[100]]


async def write(it: Chatting, peer: Peer, name: str = "lobby") -> None:
    face = peer.principal.author
    it.hub.publish(Draft(name, face.id, face.name, "said"), lambda result: None)
    await it.until_idle()


async def test_a_message_ends_its_authors_typing_and_later_typing_is_told(it: Chatting) -> None:
    ann, bob, eve = await it.members(3)
    await trio.sleep(2.0)
    it.hub.housekeeping.types("lobby", eve.principal)
    await it.until_idle()
    it.hub.housekeeping.types("lobby", ann.principal)  # waits until a second after the last notice
    await write(it, ann)
    await trio.sleep(5.0)
    assert bob.typing("lobby") == [eve.number], "ann's message has ended her typing"
    it.hub.housekeeping.types("lobby", ann.principal)
    await it.until_idle()
    await write(it, ann)
    it.hub.housekeeping.types("lobby", ann.principal)
    it.hub.publish(change(Kind.REACTION, 1, by=ann.principal.author), lambda result: None)
    await trio.sleep(NOTICE_EVERY + 0.1)
    assert bob.typing("lobby") == [eve.number, ann.number, ann.number]


async def test_a_message_during_a_typing_notice_comes_after_it_for_every_member(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.chat.broadcast.STEP_MEMBERS", 1)
    peers = await it.members(12)
    await trio.sleep(3.0)
    it.hub.housekeeping.types("lobby", peers[0].principal)
    while (broadcast := room_of(it).broadcast) is None or broadcast.at < 2:
        await trio.lowlevel.checkpoint()
    await write(it, peers[0])
    for peer in peers[1:]:
        assert [words[0] for words in peer.lines() if words[0] in "TM"] == ["T", "M"]


# -- read markers -----------------------------------------------------------------------------------------------------


async def test_a_read_marker_is_told_to_the_other_connections_of_its_user(it: Chatting) -> None:
    ann, bob = await it.members(2)
    phone = Peer(ann.number)
    await it.join(phone, "lobby")
    await it.publish("lobby", "one", "two", "three")
    await trio.sleep(0.5)
    it.hub.housekeeping.moved("lobby", ann.principal, 2, ann)
    await it.until_idle()
    assert [peer.reads("lobby") for peer in (ann, phone, bob)] == [[], [2], []]
    await trio.sleep(0.6)  # a round passes
    for offset in (2, 3, 1):  # only the highest is told, a second after the last
        it.hub.housekeeping.moved("lobby", ann.principal, offset, phone)
        await it.until_idle()
        assert ann.reads("lobby") == []
    await trio.sleep(5.0)
    assert [peer.reads("lobby") for peer in (ann, phone, bob)] == [[3], [2], []]
    it.hub.housekeeping.moved("lobby", ann.principal, 3)  # over HTTP
    await trio.sleep(5.0)
    assert [peer.reads("lobby") for peer in (ann, phone, bob)] == [[3, 3], [2, 3], []]
    assert room_of(it).notices is None


async def test_markers_of_a_room_cost_their_writes_and_a_little_for_each_member(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five rooms fit into one round, which typing in one of them would use up."""
    monkeypatch.setattr("chatserver.chat.housekeeping.MAX_NOTICES_PER_ROUND", 5)
    readers = {name: (await it.members(9, name))[0] for name in TEN}
    for name, reader in readers.items():
        await it.join(Peer(reader.number), name)
    await trio.sleep(12.5)
    for name, reader in readers.items():
        it.hub.housekeeping.moved(name, reader.principal, 0)
    await it.until_idle()
    assert [reader.reads(name) for name, reader in readers.items()] == [[0]] * 5 + [[]] * 5
    await trio.sleep(1.0)
    assert [reader.reads(name) for name, reader in readers.items()] == [[0]] * 10


async def test_a_marker_of_a_user_with_one_connection_visits_no_member(it: Chatting) -> None:
    ann, bob = await it.members(2)
    it.hub.housekeeping.moved("lobby", ann.principal, 0, ann)
    it.hub.housekeeping.moved("lobby", person(100), 0)
    it.hub.housekeeping.moved("nowhere", ann.principal, 0, ann)
    assert room_of(it).notices is None
    await trio.sleep(2.0)
    assert (ann.reads("lobby"), bob.reads("lobby")) == ([], [])


async def test_a_marker_by_a_connection_outside_the_room_is_told_to_the_member(it: Chatting) -> None:
    """The connection has not joined, so the one member of its user is another connection."""
    (ann,) = await it.members(1)
    it.hub.housekeeping.moved("lobby", ann.principal, 0)
    await it.until_idle()
    assert ann.reads("lobby") == [0]


def test_the_notices_kept_by_a_room_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.chat.notices.MAX_READS", 3)
    notices = Notices()
    for number in range(2 * MAX_REMEMBERED):
        notices.types(person(number), 0.0)
    for number in range(3):
        notices.moved(number, number, None)
        notices.moved(number, 0, None)
    assert len(notices.typing) == MAX_REMEMBERED
    notices.moved(0, 9, None)
    notices.moved(MAX_READS, 9, None)
    assert [move.offset for move in notices.reads.values()] == [9, 1, 2]
    notices.announce(0.0)
    notices.take()
    assert not notices.idle(TYPING_EVERY - 0.1)
    assert notices.idle(TYPING_EVERY)
    assert not notices.typing
